//! What the kernel holds, or should hold: tables with sets and chains. Plain data; no I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use super::expression::Expr;
use super::types::Type;
use super::value::{Datum, IfName, Key};

/// The packets that a table sees (linux/netfilter.h `NFPROTO_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    /// IPv4.
    Ip = 2,
    /// ARP.
    Arp = 3,
    /// A device's packets, before all others.
    Netdev = 5,
    /// Frames in a bridge.
    Bridge = 7,
    /// IPv6.
    Ip6 = 10,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 6] =
        [Family::Inet, Family::Ip, Family::Arp, Family::Netdev, Family::Bridge, Family::Ip6];
}

/// What names a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// Its family.
    pub family: Family,
    /// Its name within the family.
    pub name: String,
}

impl TableName {
    /// A table's name.
    #[must_use]
    pub fn new(family: Family, name: &str) -> TableName {
        TableName { family, name: name.to_owned() }
    }
}

/// Several tables.
pub type Tables = BTreeMap<TableName, Table>;

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Its sets and maps.
    pub sets: BTreeMap<String, Set>,
    /// Its chains.
    pub chains: BTreeMap<String, Chain>,
    /// What was found and is not understood (a dormant table, a set with unknown flags); never wanted.
    pub foreign: Vec<String>,
}

/// A set, or a map if it has data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// What it can hold.
    pub declaration: Declaration,
    /// What it holds. Those of dynamic sets come and go with packets: [`diff`](super::diff()) leaves them alone.
    pub elements: BTreeMap<Key, Option<Datum>>,
}

/// What a set can hold; only a new set can have a new declaration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declaration {
    /// The parts of its keys, one to five.
    pub key: Vec<Type>,
    /// What it maps keys to: verdicts or values. `None` for a plain set.
    pub data: Option<Data>,
    /// Whether keys can be ranges and prefixes. Changes slowly when large (DESIGN.md §15).
    pub interval: bool,
    /// Whether rules add elements; needs a size.
    pub dynamic: bool,
    /// Whether elements expire, and after how long unless they say otherwise (zero: never).
    pub timeout: Option<Duration>,
    /// The most elements it can have; one more is refused (`ENFILE`).
    pub size: Option<u32>,
}

/// What a map's elements hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// A verdict.
    Verdict,
    /// Values of these types.
    Values(Vec<Type>),
}

impl Declaration {
    /// A hash set with keys of these parts.
    #[must_use]
    pub fn set(key: &[Type]) -> Declaration {
        Declaration { key: key.to_vec(), ..Declaration::default() }
    }

    /// A hash map from these parts to those.
    #[must_use]
    pub fn map(key: &[Type], data: &[Type]) -> Declaration {
        Declaration { data: Some(Data::Values(data.to_vec())), ..Declaration::set(key) }
    }

    /// A hash map from these parts to verdicts.
    #[must_use]
    pub fn verdicts(key: &[Type]) -> Declaration {
        Declaration { data: Some(Data::Verdict), ..Declaration::set(key) }
    }

    /// The same with ranges and prefixes as keys.
    #[must_use]
    pub fn intervals(self) -> Declaration {
        Declaration { interval: true, ..self }
    }

    /// Whether it maps keys to something.
    #[must_use]
    pub fn is_map(&self) -> bool {
        self.data.is_some()
    }

    /// The set without elements.
    #[must_use]
    pub fn empty(self) -> Set {
        Set { declaration: self, elements: BTreeMap::new() }
    }
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where packets enter it; `None` if only other chains lead to it.
    pub base: Option<Base>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// How a chain hangs in the network stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// What it may do.
    pub kind: Kind,
    /// Where.
    pub hook: Hook,
    /// In which order among the others there: lower is earlier.
    pub priority: i32,
    /// What becomes of packets that reach its end.
    pub policy: Policy,
    /// The device, for ingress and egress.
    pub device: Option<IfName>,
}

impl Base {
    /// A chain whose end accepts.
    #[must_use]
    pub fn new(kind: Kind, hook: Hook, priority: i32) -> Base {
        Base { kind, hook, priority, policy: Policy::Accept, device: None }
    }
}

/// What a base chain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Verdicts.
    Filter,
    /// Address translation; sees the first packet of each connection.
    Nat,
    /// As a filter on output, and the route is looked up anew if mark or addresses changed.
    Route,
}

/// A place in the network stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// To this host.
    Input,
    /// Through this host.
    Forward,
    /// From this host.
    Output,
    /// After routing.
    Postrouting,
    /// From a device, before anything else.
    Ingress,
    /// To a device, after everything else (netdev only).
    Egress,
}

/// What becomes of packets at a base chain's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// They pass.
    Accept,
    /// They are dropped.
    Drop,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Matches and statements, in order.
    pub expressions: Vec<Expr>,
    /// A note for people and for [`counters`](super::counters): at most 127 bytes, no quotation marks.
    pub comment: Option<String>,
}

impl Rule {
    /// A rule without comment.
    #[must_use]
    pub fn new(expressions: impl IntoIterator<Item = Expr>) -> Rule {
        Rule { expressions: expressions.into_iter().collect(), comment: None }
    }

    /// The same with a comment.
    #[must_use]
    pub fn comment(self, comment: &str) -> Rule {
        Rule { comment: Some(comment.to_owned()), ..self }
    }
}
