//! How a fresh agent, with no memory, knows an object as weft's (DESIGN.md, invariant 3).
//!
//! | object | mark |
//! |---|---|
//! | link | its group: [`GROUP`] in the upper half; set at creation, so there is no moment without it; and a second mark, [`is_our_work`] |
//! | route | protocol [`ROUTE_PROTOCOL`] |
//! | address, permanent neighbour, forwarding entry | it is on a link of ours |
//! | token bucket | it is on a link of ours and has the handle [`SHAPE_HANDLE`] |
//! | filter | it is on a link of ours and has the preference [`DETOUR_PREFERENCE`]; the discipline it hangs from is nobody's in particular and stays |
//! | nftables | tables named [`TABLE`] |
//! | files | below weft's own folders, or listed by `weft install` |

use weft_model::{AttachmentId, IfName, Mac, NetworkId};

use crate::nft::{Family, TableName};
use crate::rtnl::link;

/// Upper half of the group of every link of weft's: "we" in ASCII.
pub const GROUP: u32 = 0x7765_0000;
/// Which bits of a group tell that a link is weft's.
pub const GROUP_MASK: u32 = 0xffff_0000;
/// Set in the group of a network's own device; clear in that of a workload's wire.
pub const DEVICE: u32 = 0x8000;
/// Set besides in the group of a network's ends of tunnels.
pub const TUNNEL: u32 = 0x4000;
/// The group of links that wait to be deleted together.
pub const REAPED: u32 = GROUP | 0xffff;
/// The protocol number of routes (linux/rtnetlink.h leaves those above 4 to whoever administers them).
pub const ROUTE_PROTOCOL: u8 = 119;
/// The number of a queue that limits a wire: "we" in ASCII.
pub const SHAPE_HANDLE: u32 = 0x7765_0000;
/// The preference of the filter that sends what arrives by a wire through its detour: "we" in ASCII.
pub const DETOUR_PREFERENCE: u16 = 0x7765;
/// The bits of a packet's mark that are weft's. Others' are left alone, and no packet goes into a tunnel with one of
/// ours: the kernel looks the outer route up with the inner packet's mark (drivers/net/vxlan/vxlan_core.c), and a
/// policy route by mark would take it elsewhere.
pub const MARKS: u32 = 0xffff_0000;
/// The name of weft's nftables tables, one per family that is needed.
pub const TABLE: &str = "weft";
/// The first letters of the host ends of wires.
pub const WIRE_PREFIX: &str = "weft";

/// weft's nftables tables.
#[must_use]
pub fn tables() -> [TableName; 3] {
    [Family::Inet, Family::Arp, Family::Bridge].map(|family| TableName::new(family, TABLE))
}

/// The group of the wires of a network.
#[must_use]
pub fn wire_group(network: NetworkId) -> u32 {
    GROUP | u32::from(network.0)
}

/// The group of a network's device: its bridge, or the holder of its gateway addresses.
#[must_use]
pub fn device_group(network: NetworkId) -> u32 {
    wire_group(network) | DEVICE
}

/// The group of a network's ends of tunnels to other hosts.
#[must_use]
pub fn tunnel_group(network: NetworkId) -> u32 {
    device_group(network) | TUNNEL
}

/// Whether a link is weft's own work: it bears one of weft's groups and a second mark besides, since
/// a group is a number that anybody can set. Wires and bridges are born with the second mark, too: their
/// names begin with [`WIRE_PREFIX`]; of a wire whose name was chosen by its user the Ethernet address tells
/// until the alias does.
#[must_use]
pub fn is_our_work(link: &link::Described) -> bool {
    let begins = |text: Option<&str>| text.is_some_and(|t| t.starts_with(WIRE_PREFIX));
    let named = begins(link.name.as_ref().map(IfName::as_str)) || begins(link.alias.as_deref());
    let born = link.kind == "veth" && link.mac.is_some_and(Mac::is_host_end);
    is_ours(link.group) && (named || born)
}

/// Whether a link with this group is weft's.
#[must_use]
pub fn is_ours(group: u32) -> bool {
    group & GROUP_MASK == GROUP
}

/// Whether a link with this group is a workload's wire.
#[must_use]
pub fn is_wire(group: u32) -> bool {
    is_ours(group) && group & DEVICE == 0
}

/// The first word of a finished wire's alias; the number is the format's version.
const ALIAS: &str = "weft1";

/// What a finished wire's alias says: enough to rebuild the attachment's record from the kernel alone.
/// At most 255 bytes (IFALIASZ - 1) by the limits of the names in it: 5 + 63 + 128 + 15 + 20 and spaces.
#[must_use]
pub fn wire_alias(id: &AttachmentId, netns_inode: u64) -> String {
    format!("{ALIAS} {} {} {} {netns_inode}", id.network, id.container, id.ifname)
}

/// The first word of a detour's alias.
const DETOUR_ALIAS: &str = "weft1ifb";

/// What the alias of a wire's detour says: whose it is, so that whoever cuts the wire without an agent finds it.
/// At most 217 bytes.
#[must_use]
pub fn detour_alias(id: &AttachmentId) -> String {
    format!("{DETOUR_ALIAS} {} {} {}", id.network, id.container, id.ifname)
}

/// Reads an alias back: the attachment and the inode of its namespace.
#[must_use]
pub fn read_wire_alias(alias: &str) -> Option<(AttachmentId, u64)> {
    let mut words = alias.split(' ');
    if words.next() != Some(ALIAS) {
        return None;
    }
    let network = words.next()?.parse().ok()?;
    let container = words.next()?.parse().ok()?;
    let ifname = words.next()?.parse().ok()?;
    let inode = words.next()?.parse().ok()?;
    words.next().is_none().then_some((AttachmentId { network, container, ifname }, inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_alias_fits_and_is_read_back() {
        let id = AttachmentId {
            network: "n".repeat(63).parse().unwrap(),
            container: "c".repeat(128).parse().unwrap(),
            ifname: "i".repeat(15).parse().unwrap(),
        };
        let alias = wire_alias(&id, u64::MAX);
        assert!(alias.len() < 256, "{}", alias.len());
        assert_eq!(read_wire_alias(&alias), Some((id, u64::MAX)));
        for foreign in ["", "weft1", "weft1 a b eth0", "weft1 a b eth0 x", "weft1 a b eth0 1 more", "a weft1"]
        {
            assert_eq!(read_wire_alias(foreign), None, "{foreign}");
        }
    }
}
