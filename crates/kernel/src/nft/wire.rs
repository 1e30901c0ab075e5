//! Numbers of linux/netfilter/nf_tables.h and nfnetlink.h that several files need.
//!
//! Numbers that one expression needs stand beside their writer in `encode`, in the header's order.

use super::model::{Hook, Kind, Policy};
use crate::netlink::Attribute;

pub(super) const SUBSYSTEM: u16 = 10; // NFNL_SUBSYS_NFTABLES
pub(super) const BATCH_BEGIN: u16 = 16; // NFNL_MSG_BATCH_BEGIN
pub(super) const BATCH_END: u16 = 17; // NFNL_MSG_BATCH_END

pub(super) const REQUEST: u16 = 1; // NLM_F_REQUEST
pub(super) const ACK: u16 = 4; // NLM_F_ACK
pub(super) const DUMP: u16 = 0x300; // NLM_F_DUMP
pub(super) const CREATE: u16 = 0x400; // NLM_F_CREATE
pub(super) const APPEND: u16 = 0x800; // NLM_F_APPEND

/// `nf_tables_msg_types`; deleting is one's number plus two, asking plus one.
pub(super) mod message {
    pub(crate) const NEW_TABLE: u16 = 0;
    pub(crate) const GET_TABLE: u16 = 1;
    pub(crate) const DEL_TABLE: u16 = 2;
    pub(crate) const NEW_CHAIN: u16 = 3;
    pub(crate) const GET_CHAIN: u16 = 4;
    pub(crate) const DEL_CHAIN: u16 = 5;
    pub(crate) const NEW_RULE: u16 = 6;
    pub(crate) const GET_RULE: u16 = 7;
    pub(crate) const DEL_RULE: u16 = 8;
    pub(crate) const NEW_SET: u16 = 9;
    pub(crate) const GET_SET: u16 = 10;
    pub(crate) const DEL_SET: u16 = 11;
    pub(crate) const NEW_ELEMENT: u16 = 12;
    pub(crate) const GET_ELEMENT: u16 = 13;
    pub(crate) const DEL_ELEMENT: u16 = 14;
    pub(crate) const NEW_GENERATION: u16 = 15;
    pub(crate) const GET_GENERATION: u16 = 16;
}

pub(super) const LIST_ELEMENT: u16 = 1; // NFTA_LIST_ELEM

/// `NFT_SET_*` flags.
pub(super) mod flag {
    pub(crate) const ANONYMOUS: u32 = 0x1;
    pub(crate) const CONSTANT: u32 = 0x2;
    pub(crate) const INTERVAL: u32 = 0x4;
    pub(crate) const MAP: u32 = 0x8;
    pub(crate) const TIMEOUT: u32 = 0x10;
    pub(crate) const DYNAMIC: u32 = 0x20; // NFT_SET_EVAL
    pub(crate) const CONCAT: u32 = 0x80;
}

/// The beginning of the names of anonymous sets; the kernel replaces `%d`.
pub(super) const ANONYMOUS_SET: &str = "__set%d";

/// `nfgenmsg`: family, version 0, resource id.
pub(super) fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

pub(super) fn kind(message: u16) -> u16 {
    (SUBSYSTEM << 8) | message
}

/// The attributes of a nest by type, up to the highest asked for; later ones of the same type win.
pub(super) fn table<const N: usize>(bytes: &[u8]) -> [Option<Attribute<'_>>; N] {
    let mut table = [None; N];
    for attribute in crate::netlink::attributes(bytes) {
        if let Some(slot) = table.get_mut(usize::from(attribute.kind)) {
            *slot = Some(attribute);
        }
    }
    table
}

impl Kind {
    pub(super) const ALL: [(Kind, &str); 3] =
        [(Kind::Filter, "filter"), (Kind::Nat, "nat"), (Kind::Route, "route")];

    pub(super) fn name(self) -> &'static str {
        Kind::ALL[self as usize].1
    }
}

impl Hook {
    /// Names as `nft` has them.
    pub(super) fn name(self) -> &'static str {
        match self {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
            Hook::Ingress => "ingress",
            Hook::Egress => "egress",
        }
    }

    /// Hooks by number differ between families (`NF_INET_*`, `NF_ARP_*`, `NF_NETDEV_*`).
    pub(super) fn of(family: super::Family) -> &'static [Hook] {
        use Hook::{Egress, Forward, Ingress, Input, Output, Postrouting, Prerouting};
        match family {
            super::Family::Inet => &[Prerouting, Input, Forward, Output, Postrouting, Ingress],
            super::Family::Arp => &[Input, Output],
            super::Family::Netdev => &[Ingress, Egress],
            _ => &[Prerouting, Input, Forward, Output, Postrouting],
        }
    }

    pub(super) fn number(self, family: super::Family) -> Option<u32> {
        let index = Hook::of(family).iter().position(|hook| *hook == self)?;
        u32::try_from(index).ok()
    }
}

impl Policy {
    pub(super) fn number(self) -> u32 {
        match self {
            Policy::Drop => 0,   // NF_DROP
            Policy::Accept => 1, // NF_ACCEPT
        }
    }
}
