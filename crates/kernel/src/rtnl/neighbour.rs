//! Neighbours: which Ethernet address answers for an IP address (linux/neighbour.h).
//!
//! Bridges and tunnels speak of their forwarding entries in the same words, under a family of their own.
//!
//! Only permanent entries: the ones that no packet from a workload can change.

use std::net::IpAddr;

use weft_model::Mac;

use super::{ACK, CREATE, DUMP, REPLACE, REQUEST, family};
use crate::netlink::{Message, Messages};

const HEADER: usize = 12; // struct ndmsg
const BRIDGE: u8 = libc::AF_BRIDGE as u8;
const SELF: u8 = 2; // NTF_SELF: the device itself, not a bridge that it is a port of

/// A permanent neighbour as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// Index of the interface behind which it is.
    pub index: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its Ethernet address; `None` in deletions.
    pub mac: Option<Mac>,
}

fn header(address: IpAddr, index: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[0] = family(address);
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..10].copy_from_slice(&libc::NUD_PERMANENT.to_ne_bytes());
    bytes
}

/// Sets a permanent neighbour.
pub fn set(messages: &mut Messages, index: u32, address: IpAddr, mac: Mac) {
    let flags = REQUEST | ACK | CREATE | REPLACE;
    messages.push(libc::RTM_NEWNEIGH, flags, &header(address, index), |a| {
        a.ip(libc::NDA_DST, address).bytes(libc::NDA_LLADDR, &mac.0);
    });
}

/// Forgets a neighbour.
pub fn delete(messages: &mut Messages, index: u32, address: IpAddr) {
    messages.push(libc::RTM_DELNEIGH, REQUEST | ACK, &header(address, index), |a| {
        a.ip(libc::NDA_DST, address);
    });
}

/// A forwarding entry of a tunnel as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarding {
    /// Index of the tunnel's end.
    pub index: u32,
    /// The Ethernet address behind the tunnel.
    pub mac: Mac,
    /// The other end's address on the underlay.
    pub to: IpAddr,
}

fn bridge_header(index: u32) -> [u8; HEADER] {
    let mut bytes = header(IpAddr::from([0; 4]), index);
    (bytes[0], bytes[10]) = (BRIDGE, SELF);
    bytes
}

/// Says where a tunnel sends what is for an Ethernet address, replacing what it was told before.
pub fn forward(messages: &mut Messages, index: u32, mac: Mac, to: IpAddr) {
    let flags = REQUEST | ACK | CREATE | REPLACE;
    messages.push(libc::RTM_NEWNEIGH, flags, &bridge_header(index), |a| {
        a.bytes(libc::NDA_LLADDR, &mac.0).ip(libc::NDA_DST, to);
    });
}

/// Forgets where a tunnel sends what is for an Ethernet address.
pub fn forward_no_more(messages: &mut Messages, index: u32, mac: Mac) {
    messages.push(libc::RTM_DELNEIGH, REQUEST | ACK, &bridge_header(index), |a| {
        a.bytes(libc::NDA_LLADDR, &mac.0);
    });
}

/// Asks for the forwarding entries of all bridges and tunnels.
#[must_use]
pub fn forwarding_list() -> Messages {
    let mut header = [0; HEADER];
    header[0] = BRIDGE;
    let mut messages = Messages::default();
    messages.push(libc::RTM_GETNEIGH, REQUEST | DUMP, &header, |_| ());
    messages
}

/// Reads a forwarding entry that leads to another host.
#[must_use]
pub fn read_forwarding(message: &Message<'_>) -> Option<Forwarding> {
    if message.kind != libc::RTM_NEWNEIGH && message.kind != libc::RTM_DELNEIGH {
        return None;
    }
    let head: [u8; HEADER] = message.structure().filter(|h: &[u8; HEADER]| h[0] == BRIDGE)?;
    let (mut mac, mut to) = (None, None);
    for attribute in message.attributes(HEADER) {
        match attribute.kind {
            libc::NDA_DST => to = attribute.ip(),
            libc::NDA_LLADDR => mac = attribute.value.try_into().ok().map(Mac),
            _ => {}
        }
    }
    let index = u32::from_ne_bytes([head[4], head[5], head[6], head[7]]);
    Some(Forwarding { index, mac: mac?, to: to? })
}

/// Asks for all neighbours of both families.
#[must_use]
pub fn list() -> Messages {
    let mut messages = Messages::default();
    messages.push(libc::RTM_GETNEIGH, REQUEST | DUMP, &[0; HEADER], |_| ());
    messages
}

/// Reads a permanent neighbour from `RTM_NEWNEIGH`, or any from `RTM_DELNEIGH`.
#[must_use]
pub fn read(message: &Message<'_>) -> Option<Described> {
    let (neighbour, permanent) = read_any(message)?;
    (permanent || message.kind == libc::RTM_DELNEIGH).then_some(neighbour)
}

/// Reads any neighbour, and whether it is permanent.
#[must_use]
pub fn read_any(message: &Message<'_>) -> Option<(Described, bool)> {
    if message.kind != libc::RTM_NEWNEIGH && message.kind != libc::RTM_DELNEIGH {
        return None;
    }
    let head: [u8; HEADER] = message.structure().filter(|h: &[u8; HEADER]| h[0] != BRIDGE)?;
    let permanent = u16::from_ne_bytes([head[8], head[9]]) & libc::NUD_PERMANENT != 0;
    let (mut address, mut mac) = (None, None);
    for attribute in message.attributes(HEADER) {
        match attribute.kind {
            libc::NDA_DST => address = attribute.ip(),
            libc::NDA_LLADDR => mac = attribute.value.try_into().ok().map(Mac),
            _ => {}
        }
    }
    let index = u32::from_ne_bytes([head[4], head[5], head[6], head[7]]);
    Some((Described { index, address: address?, mac }, permanent))
}
