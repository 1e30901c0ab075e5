//! What hosts are connected to: segments, the router between them, and the world behind it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering};

use ipnet::IpNet;
use weft_kernel::netlink::Messages;
use weft_kernel::netns::Netns;
use weft_kernel::rtnl::link;
use weft_kernel::state::Sysctl;
use weft_kernel::sysctl;
use weft_model::{IfName, Mac};

use crate::{Error, Host, Links};

/// The router's address on the segment (RFC 5737); also its prefix is 24.
pub const ROUTER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The router's address on the segment (RFC 3849); its prefix is 64.
pub const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
/// An address in the world behind the router.
pub const OUTSIDE4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// An address in the world behind the router.
pub const OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);

/// The segments: the router's link, and its addresses there (RFC 5737, RFC 3849).
const SEGMENTS: [(&str, Ipv4Addr, Ipv6Addr); 2] = [
    (LAN, ROUTER4, ROUTER6),
    ("lan2", Ipv4Addr::new(203, 0, 113, 1), Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 1)),
];
/// The router's link on the first segment.
const LAN: &str = "lan";
/// Hosts get the addresses from `.11` on.
const FIRST: u8 = 10;
const ROOM: u8 = 200;

/// Two segments with the router between them, which is also the outside. Hosts of a segment are neighbours
/// of it and of each other.
pub struct Underlay {
    netns: Netns,
    mtu: u32,
    hosts: AtomicU8,
}

/// A host's place on the segment.
pub(crate) struct Place {
    pub(crate) number: u8,
    pub(crate) addresses: [IpNet; 2],
    pub(crate) mac: Mac,
}

impl Underlay {
    /// Makes an underlay whose largest packet has `mtu` bytes.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn new(mtu: u32) -> Result<Underlay, Error> {
        Underlay::within(Netns::anonymous()?, mtu)
    }

    /// As [`new`](Self::new), in a namespace that somebody else keeps.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn within(netns: Netns, mtu: u32) -> Result<Underlay, Error> {
        let mut links = Links::of(&netns)?;
        links.set_up("lo", true)?;
        let forwards =
            [Sysctl::global("net/ipv4/ip_forward"), Sysctl::global("net/ipv6/conf/all/forwarding")];
        netns
            .run(|| {
                let mut writer = sysctl::Writer::default();
                forwards.iter().try_for_each(|key| writer.write(key, "1"))
            })?
            .map_err(|source| Error::File { path: "/proc/sys/net".into(), source })?;
        for ((lan, router4, router6), number) in SEGMENTS.into_iter().zip(0_u8..) {
            let mut messages = Messages::default();
            link::create_bridge(&mut messages, &lan.parse()?, mac(number, FIRST), mtu, 0);
            links.send("make a segment", &messages)?;
            links.set_up(lan, true)?;
            links.add_address(lan, net(router4.into(), 24))?;
            links.add_address(lan, net(router6.into(), 64))?;
        }
        links.add_address("lo", net(OUTSIDE4.into(), 32))?;
        links.add_address("lo", net(OUTSIDE6.into(), 128))?;
        Ok(Underlay { netns, mtu, hosts: AtomicU8::new(0) })
    }

    /// Its namespace: the router and the outside in one.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The router's link on the segment.
    #[must_use]
    pub fn link(&self) -> &'static str {
        LAN
    }

    /// Its largest packet, in bytes.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Gives the outside one more address.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn add_outside(&self, address: IpAddr) -> Result<(), Error> {
        Links::of(&self.netns)?.add_address("lo", IpNet::from(address))
    }

    /// Routes a destination to a host or whatever else is on the segment.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn set_route(&self, destination: IpNet, gateway: IpAddr) -> Result<(), Error> {
        Links::of(&self.netns)?.set_route(destination, LAN, Some(gateway))
    }

    /// The router's port to which this host's uplink leads.
    #[must_use]
    pub fn port(number: u8) -> String {
        format!("host{number}")
    }

    /// Cuts the wire of a host, or mends it.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn connect(&self, host: &Host, connected: bool) -> Result<(), Error> {
        Links::of(&self.netns)?.set_up(&Underlay::port(host.number()), connected)
    }

    /// Plugs a namespace into a segment, its end called `uplink`, with addresses and default routes.
    pub(crate) fn plug(&self, segment: usize, into: &Netns, uplink: &IfName) -> Result<Place, Error> {
        let (lan, router4, router6) = SEGMENTS[segment % SEGMENTS.len()];
        let number = self.hosts.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if number > ROOM {
            return Err(Error::Full(ROOM));
        }
        let last = FIRST + number;
        let place = Place {
            number,
            mac: mac(0, last),
            addresses: [
                net(Ipv4Addr::from(u32::from(router4) - 1 + u32::from(last)).into(), 24),
                net(Ipv6Addr::from(u128::from(router6) - 1 + u128::from(last)).into(), 64),
            ],
        };
        let mut links = Links::of(&self.netns)?;
        let port: IfName = Underlay::port(number).parse()?;
        let pair = link::Pair {
            host: &port,
            host_mac: Mac([0x02, 0x6c, 0x61, 0x62, 0x10, last]),
            master: Some(links.link(lan)?.index),
            inner: uplink,
            inner_mac: place.mac,
            group: 0,
            mtu: self.mtu,
        };
        let mut messages = Messages::default();
        link::create_pair(&mut messages, &pair, into.as_fd());
        links.send("make an uplink", &messages)?;
        let mut inside = Links::of(into)?;
        inside.set_up("lo", true)?;
        // A host that has been up for two seconds has asked for duplicates of its link-local address. Until then it asks
        // for no neighbours on behalf of others (net/ipv6/ndisc.c, `ndisc_send_ns`).
        let asks = Sysctl::of_link("ipv6", uplink, "accept_dad");
        into.run(|| sysctl::Writer::default().write(&asks, "0"))?
            .map_err(|source| Error::File { path: "/proc/sys/net".into(), source })?;
        inside.set_up(uplink.as_str(), true)?;
        links.set_up(port.as_str(), true)?;
        links.wait_operational(port.as_str())?;
        inside.wait_operational(uplink.as_str())?;
        for address in place.addresses {
            inside.add_address(uplink.as_str(), address)?;
        }
        for (any, router) in [
            (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(router4)),
            (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(router6)),
        ] {
            inside.set_route(net(any, 0), uplink.as_str(), Some(router))?;
        }
        Ok(place)
    }
}

fn net(address: IpAddr, length: u8) -> IpNet {
    IpNet::new(address, length).expect("the lengths in this file are valid ones")
}

fn mac(segment: u8, last: u8) -> Mac {
    Mac([0x02, 0x6c, 0x61, 0x62, segment, last])
}
