//! Values: in matches, as keys and data of sets, as verdicts; and their bytes.
//!
//! No text here (see `text`), and no netlink.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use weft_model::Mac;

use super::types::{Order, Type};

/// The name of an interface: at most 15 bytes, none of which could be misread in a rule.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfName([u8; 16]);

impl IfName {
    /// Checks a name; `None` if it is empty, too long, or has characters that `nft` would read as its own.
    #[must_use]
    pub fn new(name: &str) -> Option<IfName> {
        let fits = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'*' | b'\\' | b'/');
        if name.is_empty() || name.len() > 15 || !name.bytes().all(fits) {
            return None;
        }
        let mut bytes = [0; 16];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Some(IfName(bytes))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(16);
        std::str::from_utf8(&self.0[..end]).expect("only ASCII was let in")
    }

    fn from_bytes(bytes: &[u8]) -> Option<IfName> {
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        if bytes[end..].iter().any(|b| *b != 0) {
            return None;
        }
        IfName::new(std::str::from_utf8(&bytes[..end]).ok()?)
    }
}

impl fmt::Debug for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// Up to 16 bytes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Raw {
    length: u8,
    bytes: [u8; 16],
}

impl Raw {
    /// `None` if there are none or more than 16.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Raw> {
        let length = u8::try_from(bytes.len()).ok().filter(|n| (1..=16).contains(n))?;
        let mut own = [0; 16];
        own[..bytes.len()].copy_from_slice(bytes);
        Some(Raw { length, bytes: own })
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// One value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// An IPv4 address.
    Ipv4(Ipv4Addr),
    /// An IPv6 address.
    Ipv6(Ipv6Addr),
    /// An Ethernet address.
    Mac(Mac),
    /// An interface's whole name.
    IfName(IfName),
    /// The beginning of interfaces' names; only in matches.
    IfPrefix(IfName),
    /// A number of one of the numeric types.
    Number(Type, u32),
    /// Bytes to compare with a raw piece of a packet.
    Raw(Raw),
}

impl Value {
    /// A port.
    #[must_use]
    pub fn port(port: u16) -> Value {
        Value::Number(Type::Port, port.into())
    }

    /// An IP protocol: 6 is TCP.
    #[must_use]
    pub fn protocol(protocol: u8) -> Value {
        Value::Number(Type::Protocol, protocol.into())
    }

    /// A packet's mark.
    #[must_use]
    pub fn mark(mark: u32) -> Value {
        Value::Number(Type::Mark, mark)
    }

    /// An interface group.
    #[must_use]
    pub fn group(group: u32) -> Value {
        Value::Number(Type::IfGroup, group)
    }

    /// A number as `numgen` gives.
    #[must_use]
    pub fn integer(number: u32) -> Value {
        Value::Number(Type::Integer, number)
    }

    /// An address of either family.
    #[must_use]
    pub fn ip(address: IpAddr) -> Value {
        match address {
            IpAddr::V4(address) => Value::Ipv4(address),
            IpAddr::V6(address) => Value::Ipv6(address),
        }
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> Type {
        match self {
            Value::Ipv4(_) => Type::Ipv4,
            Value::Ipv6(_) => Type::Ipv6,
            Value::Mac(_) => Type::Mac,
            Value::IfName(_) | Value::IfPrefix(_) => Type::IfName,
            Value::Number(kind, _) => *kind,
            Value::Raw(raw) => Type::Raw(raw.length),
        }
    }

    /// Appends its bytes. In interval sets numbers lie in network order, else they would not be ordered.
    pub(super) fn write(&self, to: &mut Vec<u8>, interval: bool) {
        match self {
            Value::Ipv4(address) => to.extend(address.octets()),
            Value::Ipv6(address) => to.extend(address.octets()),
            Value::Mac(mac) => to.extend(mac.0),
            Value::IfName(name) => to.extend(name.0),
            Value::IfPrefix(name) => to.extend(name.as_str().bytes()),
            Value::Raw(raw) => to.extend(raw.as_bytes()),
            Value::Number(kind, number) => {
                let start = to.len();
                to.extend(&number.to_be_bytes()[4 - kind.size().clamp(1, 4)..]);
                if kind.order() == Order::Host && !interval && cfg!(target_endian = "little") {
                    to[start..].reverse();
                }
            }
        }
    }

    /// The inverse of [`write`](Self::write): `None` if the bytes are no value of that type.
    pub(super) fn from_bytes(kind: Type, bytes: &[u8], interval: bool) -> Option<Value> {
        if bytes.len() != kind.size() {
            return None;
        }
        Some(match kind {
            Type::Ipv4 => Value::Ipv4(<[u8; 4]>::try_from(bytes).ok()?.into()),
            Type::Ipv6 => Value::Ipv6(<[u8; 16]>::try_from(bytes).ok()?.into()),
            Type::Mac => Value::Mac(Mac(bytes.try_into().ok()?)),
            Type::IfName => Value::IfName(IfName::from_bytes(bytes)?),
            Type::Raw(_) => Value::Raw(Raw::new(bytes)?),
            Type::Foreign(_) => return None,
            _ => {
                let push = |number: u32, byte: &u8| (number << 8) | u32::from(*byte);
                let reversed = kind.order() == Order::Host && !interval && cfg!(target_endian = "little");
                let number =
                    if reversed { bytes.iter().rev().fold(0, push) } else { bytes.iter().fold(0, push) };
                Value::Number(kind, number)
            }
        })
    }

    /// The beginning of a name, as a comparison with fewer than 16 bytes has it.
    pub(super) fn prefix(bytes: &[u8]) -> Option<Value> {
        (!bytes.contains(&0)).then(|| IfName::from_bytes(bytes)).flatten().map(Value::IfPrefix)
    }
}

impl From<IfName> for Value {
    fn from(name: IfName) -> Value {
        Value::IfName(name)
    }
}

impl From<Ipv4Addr> for Value {
    fn from(address: Ipv4Addr) -> Value {
        Value::Ipv4(address)
    }
}

impl From<Ipv6Addr> for Value {
    fn from(address: Ipv6Addr) -> Value {
        Value::Ipv6(address)
    }
}

impl From<Mac> for Value {
    fn from(mac: Mac) -> Value {
        Value::Mac(mac)
    }
}

/// One part of a set's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// A value.
    One(Value),
    /// All values from the first to the last, both included; the first is less than the last.
    Range(Value, Value),
}

impl Item {
    /// From the first to the last; equal ends give [`Item::One`].
    #[must_use]
    pub fn range(first: Value, last: Value) -> Item {
        if first == last { Item::One(first) } else { Item::Range(first, last) }
    }

    /// All addresses of a prefix.
    #[must_use]
    pub fn net(net: IpNet) -> Item {
        Item::range(Value::ip(net.network()), Value::ip(net.broadcast()))
    }

    /// The first value.
    #[must_use]
    pub fn first(&self) -> Value {
        let (Item::One(first) | Item::Range(first, _)) = self;
        *first
    }

    /// The last value.
    #[must_use]
    pub fn last(&self) -> Value {
        let (Item::One(last) | Item::Range(_, last)) = self;
        *last
    }
}

impl<V: Into<Value>> From<V> for Item {
    fn from(value: V) -> Item {
        Item::One(value.into())
    }
}

/// The key of an element: as many parts as the set declares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub Vec<Item>);

impl Key {
    /// Whether some value belongs to both keys.
    #[must_use]
    pub fn overlaps(&self, other: &Key) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(a, b)| a.first() <= b.last() && b.first() <= a.last())
    }
}

impl<I: Into<Item>, const N: usize> From<[I; N]> for Key {
    fn from(items: [I; N]) -> Key {
        Key(items.into_iter().map(Into::into).collect())
    }
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// This hook's chain is done with it.
    Accept,
    /// It is gone.
    Drop,
    /// Go on behind the jump that led here.
    Return,
    /// Go on with the next rule.
    Continue,
    /// Go through that chain and come back.
    Jump(String),
    /// Go to that chain for good.
    Goto(String),
}

impl Verdict {
    /// The chain it leads to.
    #[must_use]
    pub fn chain(&self) -> Option<&str> {
        match self {
            Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
            _ => None,
        }
    }
}

/// What a map holds under a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Datum {
    /// A verdict.
    Verdict(Verdict),
    /// One or several values.
    Values(Vec<Value>),
}

impl<V: Into<Value>, const N: usize> From<[V; N]> for Datum {
    fn from(values: [V; N]) -> Datum {
        Datum::Values(values.into_iter().map(Into::into).collect())
    }
}

/// Elements of a set (without data) or map.
pub(super) type Elements = BTreeMap<Key, Option<Datum>>;
