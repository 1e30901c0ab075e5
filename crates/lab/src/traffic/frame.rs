//! Frames, written byte by byte: Ethernet II, ARP (RFC 826), IPv4 (RFC 791), IPv6 (RFC 8200), UDP
//! (RFC 768), TCP (RFC 9293), ICMP (RFC 792) and ICMPv6 (RFC 4443). Checksums are right, whatever else is a lie.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_model::Mac;

/// To everybody on a segment.
pub const BROADCAST: Mac = Mac([0xff; 6]);
/// All IPv6 nodes of a segment, `ff02::1`.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The Ethernet address of [`ALL_NODES`] (RFC 2464).
pub const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// Protocol numbers (IANA).
pub const ICMP: u8 = 1;
/// See [`ICMP`].
pub const TCP: u8 = 6;
/// See [`ICMP`].
pub const UDP: u8 = 17;
/// See [`ICMP`].
pub const SCTP: u8 = 132;
/// See [`ICMP`].
pub const ICMPV6: u8 = 58;

/// The Internet checksum of several parts as if they were one (RFC 1071); only the last may be of odd length.
#[must_use]
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = 0;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits after every step")
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

/// An Ethernet frame around a packet of the type `kind`.
#[must_use]
pub fn ethernet(from: Mac, to: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to.0[..], &from.0, &kind.to_be_bytes(), payload].concat()
}

/// An ARP message in its frame: "`sender.1` is at `sender.0`", to `target`. `operation` 1 asks, 2 answers.
#[must_use]
pub fn arp(frame: (Mac, Mac), operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut message = vec![0, 1, 8, 0, 6, 4]; // Ethernet, IPv4, their lengths
    message.extend(operation.to_be_bytes());
    for (mac, ip) in [sender, target] {
        message.extend(mac.0);
        message.extend(ip.octets());
    }
    ethernet(frame.0, frame.1, ARP, &message)
}

/// The pseudo header that transport checksums cover.
fn pseudo(from: IpAddr, to: IpAddr, protocol: u8, bytes: usize) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            [&from.octets()[..], &to.octets(), &[0, protocol], &length(bytes)].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            [&from.octets()[..], &to.octets(), &[0, 0], &length(bytes), &[0, 0, 0, protocol]].concat()
        }
        _ => Vec::new(), // no such packet exists; `ip` below gives none, either
    }
}

/// An IP packet; empty if the addresses are of two families. Its hop limit is 255, as neighbour
/// discovery demands (RFC 4861).
#[must_use]
pub fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0];
            header.extend(length(20 + payload.len()));
            header.extend([0, 0, 0, 0, 255, protocol, 0, 0]);
            header.extend(from.octets());
            header.extend(to.octets());
            let sum = checksum(&[&header]).to_be_bytes();
            header[10..12].copy_from_slice(&sum);
            header.extend(payload);
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(length(payload.len()));
            header.extend([protocol, 255]);
            header.extend(from.octets());
            header.extend(to.octets());
            header.extend(payload);
            header
        }
        _ => Vec::new(),
    }
}

/// Puts the checksum over pseudo header and message at byte `at` of the message.
fn summed(from: IpAddr, to: IpAddr, protocol: u8, mut message: Vec<u8>, at: usize) -> Vec<u8> {
    let sum = checksum(&[&pseudo(from, to, protocol, message.len()), &message]);
    // A UDP checksum of 0 means "none"; its other form means 0.
    let sum = if protocol == UDP && sum == 0 { 0xffff } else { sum };
    message[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    message
}

/// A UDP packet from address and port to address and port.
#[must_use]
pub fn udp(from: (IpAddr, u16), to: (IpAddr, u16), payload: &[u8]) -> Vec<u8> {
    let mut message = [from.1.to_be_bytes(), to.1.to_be_bytes(), length(8 + payload.len()), [0, 0]].concat();
    message.extend(payload);
    ip(from.0, to.0, UDP, &summed(from.0, to.0, UDP, message, 6))
}

/// A TCP segment without data. `flags` as in the header: FIN 1, SYN 2, RST 4, ACK 16.
#[must_use]
pub fn tcp(from: (IpAddr, u16), to: (IpAddr, u16), flags: u8, sequence: u32, acknowledged: u32) -> Vec<u8> {
    let mut message = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    message.extend(sequence.to_be_bytes());
    message.extend(acknowledged.to_be_bytes());
    message.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]); // 5 words, window 8192
    ip(from.0, to.0, TCP, &summed(from.0, to.0, TCP, message, 16))
}

/// An SCTP packet with one chunk (RFC 9260): its verification tag, the chunk's type and value. An INIT has the tag
/// 0, the type 1, and [`INIT`] as value.
#[must_use]
pub fn sctp(from: (IpAddr, u16), to: (IpAddr, u16), tag: u32, kind: u8, value: &[u8]) -> Vec<u8> {
    let mut message = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    message.extend(tag.to_be_bytes());
    message.extend([0; 4]);
    message.extend([kind, 0]);
    message.extend(length(4 + value.len()));
    message.extend(value);
    let sum = crc32c(&message).to_le_bytes();
    message[8..12].copy_from_slice(&sum);
    ip(from.0, to.0, SCTP, &message)
}

/// Tag 1, window 65,535, one stream each way, first number 1.
pub const INIT: [u8; 16] = [0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1];

/// Castagnoli's CRC (RFC 9260, appendix A), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}

/// An ICMP packet of either family: kind, code, and what follows the checksum.
#[must_use]
pub fn icmp(from: IpAddr, to: IpAddr, kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
    ip(from, to, if from.is_ipv4() { ICMP } else { ICMPV6 }, &icmp_message(from, to, kind, code, body))
}

/// The message of [`icmp`] without its IP header.
#[must_use]
pub fn icmp_message(from: IpAddr, to: IpAddr, kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(body);
    if from.is_ipv6() {
        return summed(from, to, ICMPV6, message, 2);
    }
    let sum = checksum(&[&message]).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    message
}

/// An IP packet in its frame.
#[must_use]
pub fn packet(from: Mac, to: Mac, packet: &[u8]) -> Vec<u8> {
    let six = packet.first().is_some_and(|b| b >> 4 == 6);
    ethernet(from, to, if six { IPV6 } else { IPV4 }, packet)
}

/// A received frame, as far as it was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Ethernet source.
    pub from: Mac,
    /// Ethernet destination.
    pub to: Mac,
    /// Ethernet type.
    pub kind: u16,
    /// IP source; in ARP the sender's address.
    pub source: Option<IpAddr>,
    /// IP destination; in ARP the target's address.
    pub destination: Option<IpAddr>,
    /// IP protocol, extension headers not skipped.
    pub protocol: Option<u8>,
    /// What follows the IP header; in other frames, the Ethernet one.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Reads a frame; `None` if it is too short to be one.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Frame> {
        let to = Mac(bytes.get(..6)?.try_into().ok()?);
        let from = Mac(bytes.get(6..12)?.try_into().ok()?);
        let kind = u16::from_be_bytes(bytes.get(12..14)?.try_into().ok()?);
        let body = bytes.get(14..)?;
        let mut frame =
            Frame { from, to, kind, source: None, destination: None, protocol: None, payload: body.to_vec() };
        frame.look_inside(body, kind);
        Some(frame)
    }

    fn look_inside(&mut self, body: &[u8], kind: u16) -> Option<()> {
        let v4 = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(body.get(at..at + 4)?).ok()?));
        let v6 = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(body.get(at..at + 16)?).ok()?));
        match kind {
            ARP => (self.source, self.destination) = (v4(14), v4(24)),
            IPV4 => {
                (self.source, self.destination) = (v4(12), v4(16));
                self.protocol = body.get(9).copied();
                self.payload = body.get(usize::from(body.first()? & 0x0f) * 4..)?.to_vec();
            }
            IPV6 => {
                (self.source, self.destination) = (v6(8), v6(24));
                self.protocol = body.get(6).copied();
                self.payload = body.get(40..)?.to_vec();
            }
            _ => {}
        }
        Some(())
    }

    /// Whether it is ARP.
    #[must_use]
    pub fn is_arp(&self) -> bool {
        self.kind == ARP
    }

    /// Whether it is an ICMPv6 message of this kind.
    #[must_use]
    pub fn is_icmpv6(&self, kind: u8) -> bool {
        self.protocol == Some(ICMPV6) && self.payload.first() == Some(&kind)
    }

    /// Whether these bytes are somewhere in it.
    #[must_use]
    pub fn contains(&self, mark: &[u8]) -> bool {
        self.payload.windows(mark.len()).any(|w| w == mark)
    }
}
