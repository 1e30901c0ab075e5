//! How a fresh agent, with no memory, knows an object as weft's (DESIGN.md, invariant 3).
//!
//! | object | mark |
//! |---|---|
//! | link | its group: [`GROUP`] in the upper half; set at creation, so there is no moment without it |
//! | route | protocol [`ROUTE_PROTOCOL`] |
//! | address, permanent neighbour | it is on a link of ours |
//! | nftables | tables named [`TABLE`] |
//! | files | below weft's own folders, or listed by `weft install` |

use weft_model::NetworkId;

use crate::nft::{Family, TableName};

/// Upper half of the group of every link of weft's: "we" in ASCII.
pub const GROUP: u32 = 0x7765_0000;
/// Which bits of a group tell that a link is weft's.
pub const GROUP_MASK: u32 = 0xffff_0000;
/// Set in the group of a network's own device; clear in that of a workload's wire.
pub const DEVICE: u32 = 0x8000;
/// The group of links that wait to be deleted together.
pub const REAPED: u32 = GROUP | 0xffff;
/// The protocol number of routes (linux/rtnetlink.h leaves those above 4 to whoever administers them).
pub const ROUTE_PROTOCOL: u8 = 119;
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
