//! Links: creating, changing, deleting and listing network interfaces (linux/if_link.h).

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use weft_model::{IfName, Mac};

use super::settings::Settings;
use super::{ACK, CREATE, DUMP, EXCLUSIVE, REQUEST};
use crate::netlink::{Attributes, Message, Messages, find};

const HEADER: usize = 16; // struct ifinfomsg
const UP: u32 = libc::IFF_UP as u32;
const VETH_PEER: u16 = 1; // VETH_INFO_PEER, linux/veth.h
const BRIDGE_MCAST_SNOOPING: u16 = 23; // IFLA_BR_MCAST_SNOOPING
const BRIDGE_CALL_IPTABLES: u16 = 36; // IFLA_BR_NF_CALL_IPTABLES
const BRIDGE_CALL_IP6TABLES: u16 = 37; // IFLA_BR_NF_CALL_IP6TABLES
const PORT_HAIRPIN: u16 = 4; // IFLA_BRPORT_MODE
/// The UDP port of VXLAN (RFC 7348, section 8).
pub const VXLAN_PORT: u16 = 4789;
const VXLAN_ID: u16 = 1; // IFLA_VXLAN_ID and the following, linux/if_link.h
const VXLAN_LOCAL: u16 = 4;
const VXLAN_LEARNING: u16 = 7;
const VXLAN_DST_PORT: u16 = 15;
const VXLAN_LOCAL6: u16 = 17;
const SKIP_STATS: u32 = 1 << 3; // RTEXT_FILTER_SKIP_STATS
const OPERATIONAL: u8 = 6; // IF_OPER_UP, RFC 2863

/// A link as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name; `None` if it is none that weft would accept.
    pub name: Option<IfName>,
    /// Its kind: `veth`, `bridge`, …; empty for hardware and loopback.
    pub kind: String,
    /// Its group.
    pub group: u32,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Ready to carry packets: both ends are up and its queue is attached.
    pub operational: bool,
    /// Index of the bridge it is a port of.
    pub master: Option<u32>,
    /// As a port of a bridge: it gets back what came from it.
    pub hairpin: bool,
    /// Its alias.
    pub alias: Option<String>,
    /// Index of the link that it is made of; of a veth's end the other end's, in that one's namespace.
    pub other_end: Option<u32>,
    /// Of a VXLAN device its number and outer source.
    pub tunnel: Option<(u32, IpAddr)>,
    /// Its IPv6 settings.
    pub ipv6: Settings,
}

/// What both ends of a wire are born with.
#[derive(Clone, Debug)]
pub struct Pair<'a> {
    /// Name of the host's end.
    pub host: &'a IfName,
    /// Its Ethernet address.
    pub host_mac: Mac,
    /// Index of the bridge it joins.
    pub master: Option<u32>,
    /// Name of the workload's end.
    pub inner: &'a IfName,
    /// Its Ethernet address.
    pub inner_mac: Mac,
    /// Group of both.
    pub group: u32,
    /// Largest packet of both, in bytes.
    pub mtu: u32,
}

fn header(index: u32, flags: u32, change: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// What every link of weft's is born with: its name and its mark among it, so that there is no moment without them.
fn born(a: &mut Attributes<'_>, name: &IfName, mac: Mac, mtu: u32, group: u32) {
    a.text(libc::IFLA_IFNAME, name.as_str());
    a.bytes(libc::IFLA_ADDRESS, &mac.0);
    a.u32(libc::IFLA_MTU, mtu);
    a.u32(libc::IFLA_GROUP, group);
}

/// A veth pair, both ends down, the peer born in the namespace `into`.
pub fn create_pair(messages: &mut Messages, pair: &Pair<'_>, into: BorrowedFd<'_>) {
    let flags = REQUEST | ACK | CREATE | EXCLUSIVE;
    let fd = u32::try_from(into.as_raw_fd()).expect("an open descriptor is not negative");
    let end = |a: &mut Attributes<'_>, name: &IfName, mac: Mac| born(a, name, mac, pair.mtu, pair.group);
    messages.push(libc::RTM_NEWLINK, flags, &header(0, 0, 0), |a| {
        end(a, pair.host, pair.host_mac);
        if let Some(master) = pair.master {
            a.u32(libc::IFLA_MASTER, master);
        }
        a.nest(libc::IFLA_LINKINFO, |a| {
            a.text(libc::IFLA_INFO_KIND, "veth");
            a.nest(libc::IFLA_INFO_DATA, |a| {
                a.nest_after(VETH_PEER, &header(0, 0, 0), |a| {
                    end(a, pair.inner, pair.inner_mac);
                    a.u32(libc::IFLA_NET_NS_FD, fd);
                });
            });
        });
    });
}

/// A bridge that is down, without multicast snooping (nothing asks for membership reports, which
/// would be flooded to all ports), whose IP packets pass the inet rules whatever the global sysctl says.
pub fn create_bridge(messages: &mut Messages, name: &IfName, mac: Mac, mtu: u32, group: u32) {
    let flags = REQUEST | ACK | CREATE | EXCLUSIVE;
    messages.push(libc::RTM_NEWLINK, flags, &header(0, 0, 0), |a| {
        born(a, name, mac, mtu, group);
        a.nest(libc::IFLA_LINKINFO, |a| {
            a.text(libc::IFLA_INFO_KIND, "bridge");
            a.nest(libc::IFLA_INFO_DATA, |a| {
                a.u8(BRIDGE_MCAST_SNOOPING, 0);
                a.u8(BRIDGE_CALL_IPTABLES, 1);
                a.u8(BRIDGE_CALL_IP6TABLES, 1);
            });
        });
    });
}

/// An interface that is down and through which packets can be sent to wait (drivers/net/ifb.c).
pub fn create_ifb(messages: &mut Messages, name: &IfName, mac: Mac, mtu: u32, group: u32) {
    let flags = REQUEST | ACK | CREATE | EXCLUSIVE;
    messages.push(libc::RTM_NEWLINK, flags, &header(0, 0, 0), |a| {
        born(a, name, mac, mtu, group);
        a.nest(libc::IFLA_LINKINFO, |a| {
            a.text(libc::IFLA_INFO_KIND, "ifb");
        });
    });
}

/// A VXLAN device that is down and learns nothing: where it sends to is set, host by host.
pub fn create_tunnel(
    messages: &mut Messages,
    name: &IfName,
    (mac, mtu, group): (Mac, u32, u32),
    (vni, local): (u32, IpAddr),
) {
    let flags = REQUEST | ACK | CREATE | EXCLUSIVE;
    messages.push(libc::RTM_NEWLINK, flags, &header(0, 0, 0), |a| {
        born(a, name, mac, mtu, group);
        a.nest(libc::IFLA_LINKINFO, |a| {
            a.text(libc::IFLA_INFO_KIND, "vxlan");
            a.nest(libc::IFLA_INFO_DATA, |a| {
                a.u32(VXLAN_ID, vni);
                a.ip(if local.is_ipv4() { VXLAN_LOCAL } else { VXLAN_LOCAL6 }, local);
                a.u8(VXLAN_LEARNING, 0);
                a.bytes(VXLAN_DST_PORT, &VXLAN_PORT.to_be_bytes());
            });
        });
    });
}

/// Reads number and outer source of a VXLAN device; `None` if it is not made as weft makes it.
fn tunnel(data: &[u8]) -> Option<(u32, IpAddr)> {
    let vni = find(data, VXLAN_ID)?.u32()?;
    let local = find(data, VXLAN_LOCAL).or_else(|| find(data, VXLAN_LOCAL6))?.ip()?;
    let port = find(data, VXLAN_DST_PORT)?.value == VXLAN_PORT.to_be_bytes();
    let learning = find(data, VXLAN_LEARNING)?.u8()? != 0;
    (port && !learning).then_some((vni, local))
}

/// Changes of a link; `None` leaves as it is.
#[derive(Clone, Debug, Default)]
pub struct Change<'a> {
    /// Up or down.
    pub up: Option<bool>,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// Ethernet address.
    pub mac: Option<Mac>,
    /// Group.
    pub group: Option<u32>,
    /// Index of the bridge to join; 0 leaves the one it is in, `None` changes nothing.
    pub master: Option<u32>,
    /// Alias.
    pub alias: Option<&'a str>,
}

/// Changes a link.
pub fn change(messages: &mut Messages, index: u32, change: &Change<'_>) {
    let (flags, mask) = change.up.map_or((0, 0), |up| (if up { UP } else { 0 }, UP));
    messages.push(libc::RTM_SETLINK, REQUEST | ACK, &header(index, flags, mask), |a| {
        if let Some(mac) = change.mac {
            a.bytes(libc::IFLA_ADDRESS, &mac.0);
        }
        for (kind, value) in [
            (libc::IFLA_MTU, change.mtu),
            (libc::IFLA_GROUP, change.group),
            (libc::IFLA_MASTER, change.master),
        ] {
            if let Some(value) = value {
                a.u32(kind, value);
            }
        }
        if let Some(alias) = change.alias {
            a.text(libc::IFLA_IFALIAS, alias);
        }
    });
}

/// Has a bridge give a port back what came from it, or not.
pub fn set_hairpin(messages: &mut Messages, index: u32, on: bool) {
    // Not RTM_SETLINK, which leaves what belongs to ports alone (net/core/rtnetlink.c `rtnl_newlink`).
    messages.push(libc::RTM_NEWLINK, REQUEST | ACK, &header(index, 0, 0), |a| {
        a.nest(libc::IFLA_LINKINFO, |a| {
            a.text(libc::IFLA_INFO_SLAVE_KIND, "bridge");
            a.nest(libc::IFLA_INFO_SLAVE_DATA, |a| {
                a.u8(PORT_HAIRPIN, u8::from(on));
            });
        });
    });
}

/// Deletes a link; a veth's peer goes with it. The kernel takes about 20 ms (an RCU grace period).
pub fn delete(messages: &mut Messages, index: u32) {
    messages.push(libc::RTM_DELLINK, REQUEST | ACK, &header(index, 0, 0), |_| ());
}

/// Deletes all links of a group at the price of one grace period. The caller has verified the members:
/// the kernel deletes whatever bears the group.
pub fn delete_group(messages: &mut Messages, group: u32) {
    messages.push(libc::RTM_DELLINK, REQUEST | ACK, &header(0, 0, 0), |a| {
        a.u32(libc::IFLA_GROUP, group);
    });
}

/// Asks for all links.
#[must_use]
pub fn list() -> Messages {
    let mut messages = Messages::default();
    // Without counters, which are half of the answer and must be summed over all CPUs.
    messages.push(libc::RTM_GETLINK, REQUEST | DUMP, &header(0, 0, 0), |a| {
        a.u32(libc::IFLA_EXT_MASK, SKIP_STATS);
    });
    messages
}

/// Asks for one link; since Linux 6.9 the answer waits until a change of carrier has been worked in
/// (net/core/link_watch.c `linkwatch_sync_dev`).
pub fn get(messages: &mut Messages, index: u32) {
    messages.push(libc::RTM_GETLINK, REQUEST | ACK, &header(index, 0, 0), |_| ());
}

/// Reads a link from `RTM_NEWLINK` or `RTM_DELLINK`.
#[must_use]
pub fn read(message: &Message<'_>) -> Option<Described> {
    if message.kind != libc::RTM_NEWLINK && message.kind != libc::RTM_DELLINK {
        return None;
    }
    let head: [u8; HEADER] = message.structure()?;
    let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let mut link = Described {
        index: word(4),
        name: None,
        kind: String::new(),
        group: 0,
        mac: None,
        mtu: 0,
        up: word(8) & UP != 0,
        operational: false,
        master: None,
        hairpin: false,
        alias: None,
        other_end: None,
        tunnel: None,
        ipv6: Settings::default(),
    };
    for attribute in message.attributes(HEADER) {
        match attribute.kind {
            libc::IFLA_IFNAME => link.name = attribute.text().and_then(|n| n.parse().ok()),
            libc::IFLA_GROUP => link.group = attribute.u32()?,
            libc::IFLA_MTU => link.mtu = attribute.u32()?,
            libc::IFLA_MASTER => link.master = attribute.u32(),
            libc::IFLA_LINK => link.other_end = attribute.u32(),
            libc::IFLA_OPERSTATE => link.operational = attribute.u8() == Some(OPERATIONAL),
            libc::IFLA_ADDRESS => link.mac = attribute.value.try_into().ok().map(Mac),
            libc::IFLA_IFALIAS => link.alias = attribute.text().map(str::to_owned),
            libc::IFLA_AF_SPEC => link.ipv6 = Settings::read(&attribute),
            libc::IFLA_LINKINFO => {
                let kind = find(attribute.value, libc::IFLA_INFO_KIND);
                link.kind = kind.and_then(|k| k.text()).unwrap_or_default().to_owned();
                let port = find(attribute.value, libc::IFLA_INFO_SLAVE_DATA);
                let hairpin = port.and_then(|port| find(port.value, PORT_HAIRPIN)?.u8());
                link.hairpin = hairpin == Some(1);
                let data = find(attribute.value, libc::IFLA_INFO_DATA).filter(|_| link.kind == "vxlan");
                link.tunnel = data.and_then(|data| tunnel(data.value));
            }
            _ => {}
        }
    }
    Some(link)
}
