//! What rules are made of, at the level of the words of the language `nft`.
//!
//! Registers and byte codes are `encode`'s and `decode`'s; what a word silently implies (`ip saddr`
//! means IPv4) is `depend`'s.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::field::Field;
use super::types::Type;
use super::value::{Value, Verdict};

/// A match or a statement of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// `FIELD [& MASK] [==|!=|<|…] VALUE`: goes on only if it holds.
    Match {
        /// What is looked at.
        left: Operand,
        /// How it is compared.
        compare: Compare,
        /// With what.
        right: Right,
    },
    /// `FIELD . FIELD @set`: goes on only if the set has it (or has it not).
    Lookup {
        /// As many as the set's keys have parts.
        key: Vec<Operand>,
        /// The set.
        set: SetRef,
        /// `!= @set`.
        negate: bool,
    },
    /// `FIELD . FIELD vmap @map`: does what the map says; goes on if it says nothing.
    VerdictMap {
        /// As many as the map's keys have parts.
        key: Vec<Operand>,
        /// The map.
        map: SetRef,
    },
    /// `counter`. Its numbers are read by [`counters`](super::counters).
    Counter,
    /// `accept`, `drop`, `jump`, …
    Verdict(Verdict),
    /// `reject with …`.
    Reject(Reject),
    /// `masquerade [fully-random]`: the source becomes an address of the interface it leaves by.
    Masquerade {
        /// Ports are chosen at random, so that two CPUs rarely choose the same.
        fully_random: bool,
    },
    /// `snat ip to …`, `dnat ip6 to …`.
    Nat {
        /// Which end is changed.
        kind: NatKind,
        /// Whether addresses are IPv6.
        ipv6: bool,
        /// Into what.
        to: NatTarget,
        /// Ports are chosen at random.
        fully_random: bool,
    },
    /// `meta mark set …`, `ct mark set …`.
    SetMark {
        /// Which one.
        mark: Mark,
        /// To what.
        to: MarkSource,
    },
    /// `notrack`: no connection tracking for this packet.
    NoTrack,
    /// `log prefix "…" [group N]`.
    Log {
        /// To this netlink group; without, to the kernel's log at level info.
        group: Option<u16>,
        /// At most 127 bytes.
        prefix: String,
    },
    /// `limit rate [over] N/UNIT burst N packets`: goes on while (or once) the rate is kept (or exceeded).
    Limit {
        /// Packets per unit.
        rate: u64,
        /// The unit.
        unit: Unit,
        /// So many more at once.
        burst: u32,
        /// Goes on only above the rate.
        over: bool,
    },
    /// `update @map { FIELD . FIELD [timeout T] [: FIELD . FIELD] }`: remembers, or refreshes the timeout.
    Update {
        /// The key.
        key: Vec<Operand>,
        /// The data, if it is a map.
        data: Vec<Operand>,
        /// The dynamic set.
        set: SetRef,
        /// Instead of the set's own.
        timeout: Option<Duration>,
    },
    /// A whole rule's expressions as the kernel gave them, because something in it is not known here.
    /// Never wanted: it differs from everything wanted.
    Foreign(Vec<u8>),
}

/// A field, perhaps with some bits masked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operand {
    /// What is looked at.
    pub field: Field,
    /// The bits that count; as wide as the field.
    pub mask: Option<Value>,
}

impl From<Field> for Operand {
    fn from(field: Field) -> Operand {
        Operand { field, mask: None }
    }
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compare {
    /// Equal, or one of.
    Eq,
    /// Not equal, or none of.
    Ne,
    /// Less; this and the following only for fields in network order (ports, addresses).
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
}

/// With what a field is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right {
    /// One value.
    Value(Value),
    /// `{ a, b }`: an anonymous set that lives and dies with its rule.
    OneOf(BTreeSet<Value>),
}

/// A set of the same table, as a rule names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetRef {
    /// Its name.
    pub name: String,
    /// Whether it is declared with `interval`: then numbers are brought to network order for the lookup.
    pub interval: bool,
}

impl SetRef {
    /// A hash set or map.
    #[must_use]
    pub fn hash(name: &str) -> SetRef {
        SetRef { name: name.to_owned(), interval: false }
    }

    /// An interval set or map.
    #[must_use]
    pub fn interval(name: &str) -> SetRef {
        SetRef { name: name.to_owned(), interval: true }
    }
}

/// How a packet is turned away (linux/netfilter/nf_tables.h `nft_reject_types`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reject {
    /// ICMP destination unreachable with this code; implies IPv4.
    Icmp(u8),
    /// ICMPv6 destination unreachable with this code; implies IPv6.
    Icmpv6(u8),
    /// Either, with one of the four codes both have.
    Icmpx(u8),
    /// A TCP reset; implies TCP.
    TcpReset,
}

impl Reject {
    /// `icmpx admin-prohibited`.
    pub const ADMIN_PROHIBITED: Reject = Reject::Icmpx(3);
    /// `icmpx port-unreachable`.
    pub const PORT_UNREACHABLE: Reject = Reject::Icmpx(1);
}

/// Which end of a connection is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NatKind {
    /// The source.
    Snat = 0,
    /// The destination.
    Dnat = 1,
}

/// Into what an address is translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NatTarget {
    /// This address, and port if given. `nft` wants the transport protocol matched before a port.
    Address(IpAddr, Option<u16>),
    /// What the map says; a packet whose key it lacks goes on unchanged.
    Map {
        /// As many as the map's keys have parts.
        key: Vec<Operand>,
        /// The map.
        map: SetRef,
        /// Whether its data are `address . port`.
        port: bool,
    },
}

/// A mark that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// The packet's.
    Packet,
    /// The connection's.
    Connection,
}

impl Mark {
    pub(super) fn field(self) -> Field {
        match self {
            Mark::Packet => Field::Mark,
            Mark::Connection => Field::CtMark,
        }
    }
}

/// To what a mark is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkSource {
    /// This number.
    Value(u32),
    /// `field & mask ^ flip`; the field has 32 bits.
    Bits {
        /// A mark, mostly.
        field: Field,
        /// The bits that are taken over.
        mask: u32,
        /// The bits that are flipped after that.
        flip: u32,
    },
    /// What the map says; the rule ends here for a key that it lacks.
    Map {
        /// As many as the map's keys have parts.
        key: Vec<Operand>,
        /// The map.
        map: SetRef,
    },
}

/// The unit of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// A second.
    Second = 1,
    /// 60 seconds.
    Minute = 60,
    /// 3,600 seconds.
    Hour = 3600,
    /// 86,400 seconds.
    Day = 86400,
}

impl Expr {
    /// The operands that it loads, in order.
    pub(super) fn operands(&self) -> impl Iterator<Item = &Operand> {
        let (first, second): (&[Operand], &[Operand]) = match self {
            Expr::Match { left, .. } => (std::slice::from_ref(left), &[]),
            Expr::Lookup { key, .. }
            | Expr::VerdictMap { key, .. }
            | Expr::Nat { to: NatTarget::Map { key, .. }, .. }
            | Expr::SetMark { to: MarkSource::Map { key, .. }, .. } => (key, &[]),
            Expr::Update { key, data, .. } => (key, data),
            _ => (&[], &[]),
        };
        first.iter().chain(second)
    }

    /// The named set that it refers to.
    #[must_use]
    pub fn set(&self) -> Option<&SetRef> {
        match self {
            Expr::Lookup { set, .. } | Expr::Update { set, .. } => Some(set),
            Expr::VerdictMap { map, .. }
            | Expr::Nat { to: NatTarget::Map { map, .. }, .. }
            | Expr::SetMark { to: MarkSource::Map { map, .. }, .. } => Some(map),
            _ => None,
        }
    }

    pub(super) fn set_mut(&mut self) -> Option<&mut SetRef> {
        match self {
            Expr::Lookup { set, .. } | Expr::Update { set, .. } => Some(set),
            Expr::VerdictMap { map, .. }
            | Expr::Nat { to: NatTarget::Map { map, .. }, .. }
            | Expr::SetMark { to: MarkSource::Map { map, .. }, .. } => Some(map),
            _ => None,
        }
    }
}

impl Operand {
    /// A field of which only these bits count.
    #[must_use]
    pub fn masked(field: Field, mask: u32) -> Operand {
        Operand { field, mask: Some(Value::Number(field.kind(), mask)) }
    }

    pub(super) fn kind(&self) -> Type {
        self.field.kind()
    }
}
