//! One direction of a flow: the ends of its packets.

use std::net::IpAddr;

use crate::netlink::{Attributes, attributes, find};

const IP: u16 = 1; // CTA_TUPLE_IP
const PROTO: u16 = 2; // CTA_TUPLE_PROTO
const V4_SOURCE: u16 = 1; // CTA_IP_V4_SRC; its destination and those of IPv6 follow
const V6_SOURCE: u16 = 3; // CTA_IP_V6_SRC
const NUMBER: u16 = 1; // CTA_PROTO_NUM
const SOURCE_PORT: u16 = 2; // CTA_PROTO_SRC_PORT
const DESTINATION_PORT: u16 = 3; // CTA_PROTO_DST_PORT
/// Of ICMP and ICMPv6: the attributes of identifier, type and code.
const ECHO: [(u8, [u16; 3]); 2] = [(1, [4, 5, 6]), (58, [7, 8, 9])];

/// Bits of `CTA_FILTER_F_*` (net/netfilter/nf_internals.h).
mod flag {
    pub(super) const SOURCE: u32 = 1 << 0;
    pub(super) const DESTINATION: u32 = 1 << 1;
    pub(super) const PROTOCOL: u32 = 1 << 3;
    pub(super) const SOURCE_PORT: u32 = 1 << 4;
    pub(super) const DESTINATION_PORT: u32 = 1 << 5;
}

/// The ends of packets of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Where they come from.
    pub source: IpAddr,
    /// Where they go.
    pub destination: IpAddr,
    /// The number of the transport protocol.
    pub protocol: u8,
    /// Source and destination port; 0 for protocols without.
    pub ports: (u16, u16),
    /// Of ICMP: identifier, type and code.
    pub echo: Option<(u16, u8, u8)>,
}

impl Tuple {
    /// Reads `CTA_TUPLE_*`; `None` if an address is missing.
    pub(super) fn read(bytes: &[u8]) -> Option<Tuple> {
        let (ip, proto) = (find(bytes, IP)?, find(bytes, PROTO)?);
        let address = |v4: u16, v6: u16| {
            let found = attributes(ip.value).find(|a| a.kind == v4 || a.kind == v6)?;
            found.ip().filter(|address| address.is_ipv4() == (found.kind == v4))
        };
        let protocol = find(proto.value, NUMBER)?.u8()?;
        let be16 = |kind: u16| Some(u16::from_be_bytes(find(proto.value, kind)?.value.try_into().ok()?));
        let byte = |kind: u16| find(proto.value, kind)?.u8();
        let echo = ECHO.iter().find(|(number, _)| *number == protocol);
        Some(Tuple {
            source: address(V4_SOURCE, V6_SOURCE)?,
            destination: address(V4_SOURCE + 1, V6_SOURCE + 1)?,
            protocol,
            ports: (be16(SOURCE_PORT).unwrap_or(0), be16(DESTINATION_PORT).unwrap_or(0)),
            echo: echo.and_then(|(_, [id, kind, code])| Some((be16(*id)?, byte(*kind)?, byte(*code)?))),
        })
    }

    pub(super) fn write(&self, to: &mut Attributes<'_>, kind: u16) {
        to.nest(kind, |a| {
            a.nest(IP, |a| {
                let first = if self.source.is_ipv4() { V4_SOURCE } else { V6_SOURCE };
                a.ip(first, self.source).ip(first + 1, self.destination);
            });
            a.nest(PROTO, |a| {
                a.u8(NUMBER, self.protocol);
                let echo = ECHO.iter().find(|(number, _)| *number == self.protocol);
                match (self.echo, echo) {
                    (Some((id, of, code)), Some((_, [id_kind, of_kind, code_kind]))) => {
                        a.bytes(*id_kind, &id.to_be_bytes()).u8(*of_kind, of).u8(*code_kind, code);
                    }
                    _ => {
                        a.bytes(SOURCE_PORT, &self.ports.0.to_be_bytes());
                        a.bytes(DESTINATION_PORT, &self.ports.1.to_be_bytes());
                    }
                }
            });
        });
    }
}

/// What is known of a tuple.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Where its packets come from.
    pub source: Option<IpAddr>,
    /// Where they go.
    pub destination: Option<IpAddr>,
    /// The number of the transport protocol; ports need it.
    pub protocol: Option<u8>,
    /// The port they come from.
    pub source_port: Option<u16>,
    /// The port they go to.
    pub destination_port: Option<u16>,
}

impl Parts {
    /// Whether a tuple is as far as known the one meant.
    #[must_use]
    pub fn admits(&self, tuple: &Tuple) -> bool {
        self.source.is_none_or(|a| a == tuple.source)
            && self.destination.is_none_or(|a| a == tuple.destination)
            && self.protocol.is_none_or(|p| p == tuple.protocol)
            && self.source_port.is_none_or(|p| p == tuple.ports.0)
            && self.destination_port.is_none_or(|p| p == tuple.ports.1)
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        self.source.or(self.destination)
    }

    /// What the kernel is asked to look at. Not at addresses of IPv6, of which it takes those that differ
    /// (net/netfilter/nf_conntrack_netlink.c `ctnetlink_filter_match_tuple`, seen in Linux 6.18).
    pub(super) fn flags(&self) -> u32 {
        let bit = |known: bool, bit: u32| if known { bit } else { 0 };
        let asked = |address: Option<IpAddr>| address.is_some_and(|a| a.is_ipv4());
        bit(asked(self.source), flag::SOURCE)
            | bit(asked(self.destination), flag::DESTINATION)
            | bit(self.protocol.is_some(), flag::PROTOCOL)
            | bit(self.source_port.is_some(), flag::SOURCE_PORT)
            | bit(self.destination_port.is_some(), flag::DESTINATION_PORT)
    }

    pub(super) fn write(&self, to: &mut Attributes<'_>, kind: u16) {
        to.nest(kind, |a| {
            if self.address().is_some() {
                a.nest(IP, |a| {
                    for (address, at) in [(self.source, 0), (self.destination, 1)] {
                        let first = |a: IpAddr| if a.is_ipv4() { V4_SOURCE } else { V6_SOURCE };
                        if let Some(address) = address {
                            a.ip(first(address) + at, address);
                        }
                    }
                });
            }
            if let Some(protocol) = self.protocol {
                a.nest(PROTO, |a| {
                    a.u8(NUMBER, protocol);
                    for (port, kind) in
                        [(self.source_port, SOURCE_PORT), (self.destination_port, DESTINATION_PORT)]
                    {
                        if let Some(port) = port {
                            a.bytes(kind, &port.to_be_bytes());
                        }
                    }
                });
            }
        });
    }
}
