//! Packets that rules log to a netlink group (`log group N`; linux/netfilter/nfnetlink_log.h).
//!
//! Only their beginning is copied: addresses and ports are what is asked for.

use std::net::IpAddr;

use crate::netlink::{Error, Family, Message, Messages, Socket};

const SUBSYSTEM: u16 = 4; // NFNL_SUBSYS_ULOG
const PACKET: u16 = SUBSYSTEM << 8; // NFULNL_MSG_PACKET
const CONFIG: u16 = SUBSYSTEM << 8 | 1; // NFULNL_MSG_CONFIG
const REQUEST_ACK: u16 = 1 | 4;
/// The most bytes of a packet: an IPv6 header, some extension headers, and ports.
const COPY: u32 = 128;
const BIND: u8 = 1; // NFULNL_CFG_CMD_BIND
const COPY_PACKET: u8 = 2; // NFULNL_COPY_PACKET

/// A packet that a rule has logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// What the rule says of it.
    pub prefix: String,
    /// From.
    pub source: IpAddr,
    /// To.
    pub destination: IpAddr,
    /// The protocol's number.
    pub protocol: u8,
    /// Source and destination port, where the protocol has them.
    pub ports: Option<(u16, u16)>,
}

/// Opens a socket on which a group's packets arrive. One socket at a time can have a group.
///
/// # Errors
/// If somebody has the group, or the kernel has no `nfnetlink_log`.
pub fn open(group: u16) -> Result<Socket, Error> {
    let mut socket = Socket::open(Family::Netfilter)?;
    let [high, low] = group.to_be_bytes();
    let header = [0, 0, high, low];
    let mut messages = Messages::default();
    messages.push(CONFIG, REQUEST_ACK, &header, |a| {
        a.u8(1, BIND); // NFULA_CFG_CMD
    });
    messages.push(CONFIG, REQUEST_ACK, &header, |a| {
        let range = COPY.to_be_bytes();
        a.bytes(2, &[range[0], range[1], range[2], range[3], COPY_PACKET, 0]); // NFULA_CFG_MODE
    });
    for answer in socket.transact(&messages)? {
        answer.map_err(Error::Refused)?;
    }
    Ok(socket)
}

/// Reads a logged packet; `None` for other messages, and for what is not IP.
#[must_use]
pub fn read(message: &Message<'_>) -> Option<Logged> {
    if message.kind != PACKET {
        return None;
    }
    let (mut prefix, mut packet) = (String::new(), None);
    for attribute in message.attributes(4) {
        match attribute.kind {
            9 => packet = Some(attribute.value), // NFULA_PAYLOAD
            10 => prefix = attribute.text().unwrap_or_default().to_owned(), // NFULA_PREFIX
            _ => {}
        }
    }
    parse(prefix, packet?)
}

fn parse(prefix: String, packet: &[u8]) -> Option<Logged> {
    let (source, destination, protocol, rest) = match packet.first()? >> 4 {
        4 => {
            let address = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
            let length = usize::from(packet.first()? & 0x0f) * 4;
            (address(12)?, address(16)?, *packet.get(9)?, packet.get(length..)?)
        }
        6 => {
            let address =
                |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
            let (protocol, rest) = behind_extensions(*packet.get(6)?, packet.get(40..)?);
            (address(8)?, address(24)?, protocol, rest)
        }
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
    let ports = if matches!(protocol, 6 | 17 | 132) { port(0).zip(port(2)) } else { None };
    Some(Logged { prefix, source, destination, protocol, ports })
}

/// The transport protocol behind IPv6's extension headers (RFC 8200, section 4), as far as the copy goes.
fn behind_extensions(mut protocol: u8, mut rest: &[u8]) -> (u8, &[u8]) {
    while matches!(protocol, 0 | 43 | 60) {
        let (Some(next), Some(length)) = (rest.first(), rest.get(1)) else { break };
        let Some(behind) = rest.get((usize::from(*length) + 1) * 8..) else { break };
        (protocol, rest) = (*next, behind);
    }
    (protocol, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_found_behind_extension_headers_and_never_beyond_the_end() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 16, 0, 64];
        packet.extend([0xfd; 16]);
        packet.extend([0xfe; 16]);
        packet.extend([6, 0, 0, 0, 0, 0, 0, 0]); // hop-by-hop, then TCP
        packet.extend([0x04, 0xd2, 0, 80]);
        let logged = parse("x".into(), &packet).unwrap();
        assert_eq!((logged.protocol, logged.ports), (6, Some((1234, 80))));
        for length in 0..packet.len() {
            let cut = parse("x".into(), &packet[..length]);
            assert!(cut.is_none_or(|l| l.ports.is_none()), "{length}");
        }
    }
}
