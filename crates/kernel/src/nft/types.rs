//! The types of nftables' values: what `nft` calls them, how wide they are, in which order their bytes lie.
//!
//! The kernel knows only widths; numbers and names are those of the `nft` program (its `include/datatype.h`).

/// How a value's bytes lie in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// As on the wire, or plain bytes.
    Network,
    /// As the CPU has it: marks, interface numbers.
    Host,
}

/// The type of a field, or of one part of a set's key or data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// `ipv4_addr`, 4 bytes.
    Ipv4,
    /// `ipv6_addr`, 16 bytes.
    Ipv6,
    /// `ether_addr`, 6 bytes.
    Mac,
    /// `ifname`, 16 bytes, filled up with NUL.
    IfName,
    /// `iface_index`, 32 bits.
    IfIndex,
    /// `devgroup`, 32 bits.
    IfGroup,
    /// `mark`, 32 bits.
    Mark,
    /// `integer`, 32 bits: what `numgen` gives.
    Integer,
    /// `inet_service`, 16 bits: a TCP, UDP or SCTP port.
    Port,
    /// `inet_proto`, 8 bits.
    Protocol,
    /// `ether_type`, 16 bits.
    EtherType,
    /// `nf_proto`, 8 bits.
    NfProto,
    /// `pkt_type`, 8 bits.
    PacketType,
    /// `ct_state`, 32 flags.
    CtState,
    /// `ct_status`, 32 flags.
    CtStatus,
    /// `ct_dir`, 8 bits.
    CtDirection,
    /// `icmp_type`, 8 bits.
    IcmpType,
    /// `icmpv6_type`, 8 bits.
    Icmpv6Type,
    /// `arp_op`, 16 bits.
    ArpOperation,
    /// `fib_addrtype`, 32 bits.
    AddressType,
    /// `iface_type` (ARPHRD), 16 bits.
    LinkType,
    /// Bytes of a packet without a name. Of these only [`Type::TARGET`] can be part of a set's key.
    Raw(u8),
    /// Found in the kernel, with a number that is not known here. Never wanted.
    Foreign(u32),
}

const KNOWN: [(Type, &str, u32, usize, Order); 21] = [
    (Type::Ipv4, "ipv4_addr", 7, 4, Order::Network),
    (Type::Ipv6, "ipv6_addr", 8, 16, Order::Network),
    (Type::Mac, "ether_addr", 9, 6, Order::Network),
    (Type::IfName, "ifname", 41, 16, Order::Network),
    (Type::IfIndex, "iface_index", 20, 4, Order::Host),
    (Type::IfGroup, "devgroup", 35, 4, Order::Host),
    (Type::Mark, "mark", 19, 4, Order::Host),
    (Type::Integer, "integer", 4, 4, Order::Host),
    (Type::Port, "inet_service", 13, 2, Order::Network),
    (Type::Protocol, "inet_proto", 12, 1, Order::Network),
    (Type::EtherType, "ether_type", 10, 2, Order::Network),
    (Type::NfProto, "nf_proto", 2, 1, Order::Network),
    (Type::PacketType, "pkt_type", 31, 1, Order::Network),
    (Type::CtState, "ct_state", 26, 4, Order::Host),
    (Type::CtStatus, "ct_status", 28, 4, Order::Host),
    (Type::CtDirection, "ct_dir", 27, 1, Order::Network),
    (Type::IcmpType, "icmp_type", 14, 1, Order::Network),
    (Type::Icmpv6Type, "icmpv6_type", 29, 1, Order::Network),
    (Type::ArpOperation, "arp_op", 11, 2, Order::Network),
    (Type::AddressType, "fib_addrtype", 38, 4, Order::Host),
    (Type::LinkType, "iface_type", 21, 2, Order::Host),
];

/// Bits per part in the number of a concatenated type (nft's `TYPE_BITS`); 32 bits hold five parts.
const PART_BITS: u32 = 6;
/// So many parts can a key or datum have.
pub(super) const PARTS: usize = 5;

impl Type {
    /// The target of a neighbour message (RFC 4861, sections 4.3 and 4.4), for which `nft` before 1.0.9 has
    /// no word: the 16 bytes at `@th,64,128`.
    pub const TARGET: Type = Type::Raw(16);

    /// Every type that can be part of a set's key.
    #[cfg(test)]
    pub(super) fn all() -> impl Iterator<Item = Type> {
        KNOWN.iter().map(|row| row.0)
    }

    fn row(self) -> Option<&'static (Type, &'static str, u32, usize, Order)> {
        KNOWN.iter().find(|row| row.0 == self)
    }

    /// What `nft` calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().map_or("integer", |row| row.1)
    }

    /// Its width in bytes; 0 if unknown.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Type::Raw(length) => usize::from(length),
            _ => self.row().map_or(0, |row| row.3),
        }
    }

    /// How many 32-bit registers it fills.
    pub(super) fn slots(self) -> usize {
        self.size().div_ceil(4)
    }

    pub(super) fn order(self) -> Order {
        self.row().map_or(Order::Network, |row| row.4)
    }

    /// Whether it is a number of at most 32 bits.
    pub(super) fn is_number(self) -> bool {
        !matches!(self, Type::Ipv4 | Type::Ipv6 | Type::Mac | Type::IfName | Type::Raw(_) | Type::Foreign(_))
    }

    fn id(self) -> u32 {
        match self {
            Type::Foreign(id) => id,
            _ => self.row().map_or(4, |row| row.2),
        }
    }

    fn from_id(id: u32) -> Type {
        KNOWN.iter().find(|row| row.2 == id).map_or(Type::Foreign(id), |row| row.0)
    }
}

/// The number under which `nft` remembers a (concatenated) type in the kernel.
pub(super) fn number(types: &[Type]) -> u32 {
    types.iter().fold(0, |number, part| (number << PART_BITS) | part.id())
}

/// The parts of such a number, which together must have `length` bytes.
pub(super) fn parts(number: u32, length: usize) -> Vec<Type> {
    let mut parts = Vec::new();
    let mut rest = number;
    while rest != 0 && parts.len() <= PARTS {
        parts.push(Type::from_id(rest & ((1 << PART_BITS) - 1)));
        rest >>= PART_BITS;
    }
    parts.reverse();
    if width(&parts) == length {
        return parts;
    }
    // `nft` calls raw bytes integers too; their width tells them apart.
    let raw = |part: &Type| if *part == Type::Integer { Type::TARGET } else { *part };
    let parts: Vec<Type> = parts.iter().map(raw).collect();
    if width(&parts) == length { parts } else { vec![Type::Foreign(number)] }
}

/// The bytes that a key or datum of these parts has: each part but a lone one is padded to four.
pub(super) fn width(types: &[Type]) -> usize {
    match types {
        [one] => one.size(),
        _ => types.iter().map(|part| part.size().next_multiple_of(4)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_concatenation_gives_its_parts_back() {
        let guard = [Type::IfName, Type::Mac, Type::Ipv4];
        assert_eq!(number(&guard), (41 << 12) | (9 << 6) | 7);
        assert_eq!(width(&guard), 28);
        assert_eq!(parts(number(&guard), 28), guard);
        assert_eq!(parts(number(&guard), 27), [Type::Foreign(number(&guard))]);
        for kind in Type::all() {
            assert_eq!(parts(number(&[kind]), kind.size()), [kind]);
        }
        assert_eq!(parts(u32::MAX, 4), [Type::Foreign(u32::MAX)]);
    }
}
