//! Addresses of interfaces (linux/if_addr.h).

use std::net::IpAddr;

use ipnet::IpNet;

use super::{ACK, CREATE, DUMP, REPLACE, REQUEST, family};
use crate::netlink::{Message, Messages};

const HEADER: usize = 8; // struct ifaddrmsg
const NO_DAD: u8 = 0x02; // IFA_F_NODAD: weft hands out each address once, so nobody needs to be asked

/// An address as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// Index of its interface.
    pub index: u32,
    /// The address with its prefix length.
    pub address: IpNet,
    /// Made by the kernel itself, or by a router's advertisement: not for us to judge.
    pub automatic: bool,
}

fn header(address: IpNet, index: u32) -> [u8; HEADER] {
    let mut bytes = [family(address.addr()), address.prefix_len(), NO_DAD, 0, 0, 0, 0, 0];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes
}

/// Gives an interface an address; that it has it already is success.
pub fn add(messages: &mut Messages, index: u32, address: IpNet) {
    let flags = REQUEST | ACK | CREATE | REPLACE;
    messages.push(libc::RTM_NEWADDR, flags, &header(address, index), |a| {
        a.ip(libc::IFA_LOCAL, address.addr()).ip(libc::IFA_ADDRESS, address.addr());
        if let IpNet::V4(v4) = address
            && v4.prefix_len() < 31
        {
            a.ip(libc::IFA_BROADCAST, IpAddr::V4(v4.broadcast()));
        }
    });
}

/// Takes an address away.
pub fn delete(messages: &mut Messages, index: u32, address: IpNet) {
    messages.push(libc::RTM_DELADDR, REQUEST | ACK, &header(address, index), |a| {
        a.ip(libc::IFA_LOCAL, address.addr());
    });
}

/// Asks for all addresses of both families.
#[must_use]
pub fn list() -> Messages {
    let mut messages = Messages::default();
    messages.push(libc::RTM_GETADDR, REQUEST | DUMP, &[0; HEADER], |_| ());
    messages
}

/// Reads an address from `RTM_NEWADDR` or `RTM_DELADDR`.
#[must_use]
pub fn read(message: &Message<'_>) -> Option<Described> {
    if message.kind != libc::RTM_NEWADDR && message.kind != libc::RTM_DELADDR {
        return None;
    }
    let head: [u8; HEADER] = message.structure()?;
    let index = u32::from_ne_bytes([head[4], head[5], head[6], head[7]]);
    let (mut local, mut remote, mut flags) = (None, None, u32::from(head[2]));
    for attribute in message.attributes(HEADER) {
        match attribute.kind {
            libc::IFA_LOCAL => local = attribute.ip(),
            libc::IFA_ADDRESS => remote = attribute.ip(),
            libc::IFA_FLAGS => flags = attribute.u32()?,
            _ => {}
        }
    }
    // IPv6 gives only IFA_ADDRESS; on IPv4 point-to-point links that one is the peer's.
    let address = IpNet::new(local.or(remote)?, head[1]).ok()?;
    let automatic = match address.addr() {
        // The kernel derives its own link-local addresses from the Ethernet address (RFC 4291, appendix A).
        IpAddr::V6(a) => {
            let derived = a.octets()[11..13] == [0xff, 0xfe];
            a.is_unicast_link_local() && derived || flags & libc::IFA_F_PERMANENT == 0
        }
        IpAddr::V4(_) => false,
    };
    Some(Described { index, address, automatic })
}
