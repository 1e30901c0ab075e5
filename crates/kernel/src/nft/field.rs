//! What a rule can look at: parts of a packet, of its connection, and of what the kernel knows of it.
//!
//! One table says of each field how `nft` calls it, which type it has and how the kernel loads it.

use super::types::Type;

/// Where a raw piece of a packet is counted from (linux/netfilter/nf_tables.h `nft_payload_bases`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Base {
    /// The Ethernet header: `@ll`.
    Link,
    /// The IP or ARP header: `@nh`.
    Network,
    /// The TCP, UDP or ICMP header: `@th`.
    Transport,
}

/// Something a rule can look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `iif`: the number of the interface it came from.
    Iif,
    /// `oif`: the number of the interface it goes to.
    Oif,
    /// `iifname`.
    IifName,
    /// `oifname`.
    OifName,
    /// `iifgroup`.
    IifGroup,
    /// `oifgroup`.
    OifGroup,
    /// `meta iiftype`: Ethernet or something else.
    IifType,
    /// `meta mark`.
    Mark,
    /// `meta l4proto`: the transport protocol, behind IPv6's extension headers too.
    L4Proto,
    /// `meta nfproto`: IPv4 or IPv6.
    NfProto,
    /// `meta pkttype`: unicast, broadcast, multicast.
    PktType,
    /// `meta protocol`: the EtherType, behind VLAN tags.
    Protocol,
    /// `ct state`.
    CtState,
    /// `ct status`.
    CtStatus,
    /// `ct mark`.
    CtMark,
    /// `ct direction`.
    CtDirection,
    /// `ct original ip daddr`: where the connection was first sent to.
    CtOriginalIpDaddr,
    /// `ct original ip6 daddr`.
    CtOriginalIp6Daddr,
    /// `ct original proto-dst`: the port it was first sent to.
    CtOriginalDport,
    /// `ether saddr`.
    EtherSaddr,
    /// `ether daddr`.
    EtherDaddr,
    /// `ether type`.
    EtherType,
    /// `arp operation`.
    ArpOperation,
    /// `arp saddr ether`.
    ArpSaddrEther,
    /// `arp saddr ip`.
    ArpSaddrIp,
    /// `arp daddr ether`.
    ArpDaddrEther,
    /// `arp daddr ip`.
    ArpDaddrIp,
    /// `ip saddr`.
    IpSaddr,
    /// `ip daddr`.
    IpDaddr,
    /// `ip protocol`.
    IpProtocol,
    /// `ip6 saddr`.
    Ip6Saddr,
    /// `ip6 daddr`.
    Ip6Daddr,
    /// `th sport`: of any protocol; match [`L4Proto`](Self::L4Proto) before.
    ThSport,
    /// `th dport`: of any protocol; match [`L4Proto`](Self::L4Proto) before.
    ThDport,
    /// `icmp type`.
    IcmpType,
    /// `icmpv6 type`.
    Icmpv6Type,
    /// `fib saddr type`: what the routing table says of the source.
    FibSaddrType,
    /// `fib daddr type`: what the routing table says of the destination.
    FibDaddrType,
    /// `@th,224,16`: the EtherType of a frame in VXLAN. `nft` before 1.0.7 has no words for this and the next three.
    InnerEtherType,
    /// `@th,96,32`: a VXLAN network's number in the upper three bytes. Typed as an address, because `nft` has no type
    /// for bytes without a name that could be part of a key: number 101 reads `0.0.101.0`.
    OverlayNumber,
    /// `@th,336,32`: the IPv4 source of a packet in VXLAN.
    InnerIpSaddr,
    /// `@th,304,128`: the IPv6 source of a packet in VXLAN.
    InnerIp6Saddr,
    /// `numgen random mod N`: 0 to N − 1.
    Random(u32),
    /// `numgen inc mod N`: one after the other.
    Increment(u32),
    /// `@nh,8·offset,8·length`: 1 to 16 bytes without a name.
    Payload {
        /// Counted from here.
        base: Base,
        /// So many bytes on.
        offset: u32,
        /// So many bytes.
        length: u8,
    },
}

/// How the kernel brings a field into a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    Meta(u32),
    /// Key, and the direction if the key needs one.
    Ct(u32, Option<u8>),
    /// Base, offset, length.
    Payload(Base, u32, u32),
    /// Result and flags.
    Fib(u32, u32),
    /// Type and modulus.
    Numgen(u32, u32),
}

/// The network protocol under which a field exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Net {
    Ip4,
    Ip6,
    Arp,
}

/// What must be known of a packet before a field means anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// It has an Ethernet header.
    pub(super) ether: bool,
    pub(super) network: Option<Net>,
    pub(super) transport: Option<u8>,
}

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const ICMPV6: u8 = 58;

const FIB_TYPE: u32 = 3; // NFT_FIB_RESULT_ADDRTYPE

/// Name, type, way to load. Those that carry numbers are not here.
const NAMED: [(Field, &str, Type, Load); 43] = {
    use Base::{Link, Network, Transport};
    use Load::{Ct, Fib, Meta, Payload};
    [
        (Field::Iif, "iif", Type::IfIndex, Meta(4)),
        (Field::Oif, "oif", Type::IfIndex, Meta(5)),
        (Field::IifName, "iifname", Type::IfName, Meta(6)),
        (Field::OifName, "oifname", Type::IfName, Meta(7)),
        (Field::IifGroup, "iifgroup", Type::IfGroup, Meta(21)),
        (Field::OifGroup, "oifgroup", Type::IfGroup, Meta(22)),
        (Field::IifType, "meta iiftype", Type::LinkType, Meta(8)),
        (Field::Mark, "meta mark", Type::Mark, Meta(3)),
        (Field::L4Proto, "meta l4proto", Type::Protocol, Meta(16)),
        (Field::NfProto, "meta nfproto", Type::NfProto, Meta(15)),
        (Field::PktType, "meta pkttype", Type::PacketType, Meta(19)),
        (Field::Protocol, "meta protocol", Type::EtherType, Meta(1)),
        (Field::CtState, "ct state", Type::CtState, Ct(0, None)),
        (Field::CtStatus, "ct status", Type::CtStatus, Ct(2, None)),
        (Field::CtMark, "ct mark", Type::Mark, Ct(3, None)),
        (Field::CtDirection, "ct direction", Type::CtDirection, Ct(1, None)),
        (Field::CtOriginalIpDaddr, "ct original ip daddr", Type::Ipv4, Ct(20, Some(0))),
        (Field::CtOriginalIp6Daddr, "ct original ip6 daddr", Type::Ipv6, Ct(22, Some(0))),
        (Field::CtOriginalDport, "ct original proto-dst", Type::Port, Ct(12, Some(0))),
        (Field::EtherDaddr, "ether daddr", Type::Mac, Payload(Link, 0, 6)),
        (Field::EtherSaddr, "ether saddr", Type::Mac, Payload(Link, 6, 6)),
        (Field::EtherType, "ether type", Type::EtherType, Payload(Link, 12, 2)),
        (Field::ArpOperation, "arp operation", Type::ArpOperation, Payload(Network, 6, 2)),
        (Field::ArpSaddrEther, "arp saddr ether", Type::Mac, Payload(Network, 8, 6)),
        (Field::ArpSaddrIp, "arp saddr ip", Type::Ipv4, Payload(Network, 14, 4)),
        (Field::ArpDaddrEther, "arp daddr ether", Type::Mac, Payload(Network, 18, 6)),
        (Field::ArpDaddrIp, "arp daddr ip", Type::Ipv4, Payload(Network, 24, 4)),
        (Field::IpProtocol, "ip protocol", Type::Protocol, Payload(Network, 9, 1)),
        (Field::IpSaddr, "ip saddr", Type::Ipv4, Payload(Network, 12, 4)),
        (Field::IpDaddr, "ip daddr", Type::Ipv4, Payload(Network, 16, 4)),
        (Field::Ip6Saddr, "ip6 saddr", Type::Ipv6, Payload(Network, 8, 16)),
        (Field::Ip6Daddr, "ip6 daddr", Type::Ipv6, Payload(Network, 24, 16)),
        (Field::ThSport, "th sport", Type::Port, Payload(Transport, 0, 2)),
        (Field::ThDport, "th dport", Type::Port, Payload(Transport, 2, 2)),
        (Field::IcmpType, "icmp type", Type::IcmpType, Payload(Transport, 0, 1)),
        (Field::Icmpv6Type, "icmpv6 type", Type::Icmpv6Type, Payload(Transport, 0, 1)),
        (Field::InnerEtherType, "@th,224,16", Type::EtherType, Payload(Transport, 28, 2)),
        (Field::OverlayNumber, "@th,96,32", Type::Ipv4, Payload(Transport, 12, 4)),
        (Field::InnerIpSaddr, "@th,336,32", Type::Ipv4, Payload(Transport, 42, 4)),
        (Field::InnerIp6Saddr, "@th,304,128", Type::Ipv6, Payload(Transport, 38, 16)),
        (Field::FibSaddrType, "fib saddr type", Type::AddressType, Fib(FIB_TYPE, 1)),
        (Field::FibDaddrType, "fib daddr type", Type::AddressType, Fib(FIB_TYPE, 2)),
        (Field::Random(0), "numgen random mod", Type::Integer, Load::Numgen(1, 0)),
    ]
};

impl Field {
    fn row(self) -> Option<&'static (Field, &'static str, Type, Load)> {
        NAMED.iter().find(|row| row.0 == self)
    }

    /// The fields that carry no number.
    #[cfg(test)]
    pub(super) fn named() -> impl Iterator<Item = Field> {
        NAMED.iter().map(|row| row.0).filter(|field| !matches!(field, Field::Random(_)))
    }

    /// Its type.
    #[must_use]
    pub fn kind(self) -> Type {
        match self {
            Field::Random(_) | Field::Increment(_) => Type::Integer,
            Field::Payload { length, .. } => Type::Raw(length),
            _ => self.row().map_or(Type::Integer, |row| row.2),
        }
    }

    /// What `nft` calls it.
    pub(super) fn words(self) -> String {
        match self {
            Field::Random(modulus) => format!("numgen random mod {modulus}"),
            Field::Increment(modulus) => format!("numgen inc mod {modulus}"),
            Field::Payload { base, offset, length } => {
                let base = match base {
                    Base::Link => "ll",
                    Base::Network => "nh",
                    Base::Transport => "th",
                };
                format!("@{base},{},{}", u64::from(offset) * 8, u32::from(length) * 8)
            }
            _ => self.row().map_or_else(String::new, |row| row.1.to_owned()),
        }
    }

    pub(super) fn load(self) -> Load {
        match self {
            Field::Random(modulus) => Load::Numgen(1, modulus),
            Field::Increment(modulus) => Load::Numgen(0, modulus),
            Field::Payload { base, offset, length } => Load::Payload(base, offset, length.into()),
            _ => self.row().map_or(Load::Meta(0), |row| row.3),
        }
    }

    /// What must be known of the packet; `nft` adds matches for it, and so does [`depend`](super::depend).
    pub(super) fn needs(self) -> Needs {
        let network = |net| Needs { network: Some(net), ..Needs::default() };
        match self {
            Field::EtherSaddr | Field::EtherDaddr | Field::EtherType => {
                Needs { ether: true, ..Needs::default() }
            }
            Field::ArpOperation
            | Field::ArpSaddrEther
            | Field::ArpSaddrIp
            | Field::ArpDaddrEther
            | Field::ArpDaddrIp => network(Net::Arp),
            Field::IpSaddr | Field::IpDaddr | Field::IpProtocol => network(Net::Ip4),
            Field::Ip6Saddr | Field::Ip6Daddr => network(Net::Ip6),
            Field::IcmpType => Needs { transport: Some(ICMP), ..network(Net::Ip4) },
            Field::Icmpv6Type => Needs { transport: Some(ICMPV6), ..network(Net::Ip6) },
            _ => Needs::default(),
        }
    }

    /// Every field that is loaded so; those of a packet's headers need more to be told apart.
    pub(super) fn loaded_by(load: Load) -> impl Iterator<Item = Field> {
        let carried = match load {
            Load::Numgen(1, modulus) => Some(Field::Random(modulus)),
            Load::Numgen(0, modulus) => Some(Field::Increment(modulus)),
            _ => None,
        };
        let named = NAMED.iter().filter(move |row| row.3 == load).map(|row| row.0);
        let raw = match load {
            Load::Payload(base, offset, length) => {
                u8::try_from(length).ok().map(|length| Field::Payload { base, offset, length })
            }
            _ => None,
        };
        carried.into_iter().chain(named).chain(raw)
    }
}
