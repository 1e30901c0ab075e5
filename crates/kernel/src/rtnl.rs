//! Routing netlink: the messages for links, addresses, neighbours, routes, queues and filters, both ways.
//!
//! Functions here only write requests and read answers; [`crate::linux`] holds the conversation.

pub mod address;
pub mod filter;
pub mod link;
pub mod neighbour;
pub mod qdisc;
pub mod route;
pub mod settings;

use std::net::IpAddr;

pub(crate) const REQUEST: u16 = 0x01; // NLM_F_REQUEST
pub(crate) const ACK: u16 = 0x04; // NLM_F_ACK
pub(crate) const REPLACE: u16 = 0x100; // NLM_F_REPLACE
pub(crate) const EXCLUSIVE: u16 = 0x200; // NLM_F_EXCL
pub(crate) const CREATE: u16 = 0x400; // NLM_F_CREATE
pub(crate) const DUMP: u16 = 0x300; // NLM_F_DUMP

pub(crate) fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    u8::try_from(family).expect("address families fit a byte")
}
