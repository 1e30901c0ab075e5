//! How a fresh agent, with no memory, knows an object as weft's (DESIGN.md, invariant 3).
//!
//! | object | mark |
//! |---|---|
//! | link | its group: [`GROUP`] in the upper half; set at creation, so there is no moment without it; and a second mark, [`is_our_work`] |
//! | route | protocol [`ROUTE_PROTOCOL`] |
//! | hairpin of a bridge's port | it is that of a wire of ours |
//! | BPF programs and maps | names below weft's folder of the BPF file system, with the number of the network namespace |
//! | address, permanent neighbour, forwarding entry | it is on a link of ours |
//! | token bucket | it is on a link of ours and has the handle [`SHAPE_HANDLE`] |
//! | filter | it is on a link of ours and has the preference [`DETOUR_PREFERENCE`]; the discipline it hangs from is nobody's in particular and stays |
//! | nftables | tables named [`TABLE`] |
//! | files | below weft's own folders, or listed by `weft install` |

use weft_model::{AttachmentId, IfName, Mac, NetworkId, Owner};

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
/// The group of those of them whose turn it is: that of a network's wires, but no network has the number 0. Whoever
/// finds one there after a crash takes it for a wire that nobody wants.
pub const LEAVING: u32 = GROUP;
/// The protocol number of routes (linux/rtnetlink.h leaves those above 4 to whoever administers them).
pub const ROUTE_PROTOCOL: u8 = 119;
/// The bits of a packet's mark in which the class of a peer stands while the packet is judged by policy; they are zero
/// again when that is done. Other bits are not weft's.
pub const POLICY_MARK: u32 = 0x3fff_0000;
/// How far the class's number is shifted.
pub const POLICY_MARK_SHIFT: u32 = 16;
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

/// The most bytes that an alias can have (linux/if.h IFALIASZ, with the NUL).
const LONGEST_ALIAS: usize = 255;

/// What a finished wire's alias says: enough to rebuild the attachment's record from the kernel alone. Without
/// the owner it has at most 235 bytes by the limits of the names in it: 5 + 63 + 128 + 15 + 20 and spaces.
/// The owner is left out where it would not fit or is not one word, and where it is `weft`.
#[must_use]
pub fn wire_alias(id: &AttachmentId, owner: &Owner, netns_inode: u64) -> String {
    let base = format!("{ALIAS} {} {} {}", id.network, id.container, id.ifname);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '@' | '/' | '-');
    let word = !owner.0.is_empty() && owner.0.chars().all(plain);
    if word && *owner != Owner::default() {
        let whole = format!("{base} {} {netns_inode}", owner.0);
        if whole.len() <= LONGEST_ALIAS {
            return whole;
        }
    }
    format!("{base} {netns_inode}")
}

/// The first word of a detour's alias.
const DETOUR_ALIAS: &str = "weft1ifb";

/// What the alias of a wire's detour says: whose it is, so that whoever cuts the wire without an agent finds it.
/// At most 217 bytes.
#[must_use]
pub fn detour_alias(id: &AttachmentId) -> String {
    format!("{DETOUR_ALIAS} {} {} {}", id.network, id.container, id.ifname)
}

/// What is read back from a finished wire's alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireAlias {
    /// The attachment.
    pub id: AttachmentId,
    /// On whose behalf it was made.
    pub owner: Owner,
    /// The inode of its namespace.
    pub netns_inode: u64,
}

/// Reads an alias back.
#[must_use]
pub fn read_wire_alias(alias: &str) -> Option<WireAlias> {
    let words: Vec<&str> = alias.split(' ').collect();
    let (names, owner, inode) = match words[..] {
        [ALIAS, network, container, ifname, inode] => ([network, container, ifname], None, inode),
        [ALIAS, network, container, ifname, owner, inode] => {
            ([network, container, ifname], Some(owner).filter(|o| !o.is_empty()), inode)
        }
        _ => return None,
    };
    let [network, container, ifname] = names;
    let id = AttachmentId {
        network: network.parse().ok()?,
        container: container.parse().ok()?,
        ifname: ifname.parse().ok()?,
    };
    let owner = owner.map_or_else(Owner::default, |o| Owner(o.to_owned()));
    Some(WireAlias { id, owner, netns_inode: inode.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_alias_fits_and_is_read_back() {
        let long = AttachmentId {
            network: "n".repeat(63).parse().unwrap(),
            container: "c".repeat(128).parse().unwrap(),
            ifname: "i".repeat(15).parse().unwrap(),
        };
        let usual = AttachmentId { container: "c".repeat(64).parse().unwrap(), ..long.clone() };
        let cni = Owner::cni(&"n".repeat(63));
        for (id, owner, kept) in [
            (&long, &Owner::default(), true),
            (&long, &cni, false),
            (&usual, &cni, true),
            (&usual, &Owner("two words".to_owned()), false),
            (&usual, &Owner("o'clock".to_owned()), false),
            (&usual, &Owner(String::new()), false),
        ] {
            let alias = wire_alias(id, owner, u64::MAX);
            assert!(alias.len() <= LONGEST_ALIAS, "{}", alias.len());
            let owner = if kept { owner.clone() } else { Owner::default() };
            let read = WireAlias { id: id.clone(), owner, netns_inode: u64::MAX };
            assert_eq!(read_wire_alias(&alias), Some(read), "{alias}");
        }
        for foreign in [
            "",
            "weft1",
            "weft1 a b eth0",
            "weft1 a b eth0 x",
            "weft1 a b eth0 1 more",
            "weft1 a b eth0 o 1 m",
            "a weft1",
        ] {
            assert_eq!(read_wire_alias(foreign), None, "{foreign}");
        }
    }
}
