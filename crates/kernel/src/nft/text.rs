//! Values and rules in the words of the language `nft`.
//!
//! The whole step is `command`'s.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

use super::expression::{
    Compare, Expr, MarkSource, NatKind, NatTarget, Operand, Reject, Right, SetRef, Unit,
};
use super::field::Field;
use super::model::Rule;
use super::types::Type;
use super::value::{Datum, Item, Key, Value, Verdict};

/// Joins words with something between them.
pub(super) fn join<T>(
    items: impl IntoIterator<Item = T>,
    between: &str,
    word: impl Fn(T) -> String,
) -> String {
    items.into_iter().map(word).collect::<Vec<_>>().join(between)
}

/// Text in quotation marks. There is no escape in the language: what would end it early becomes harmless.
pub(super) fn quoted(text: &str) -> String {
    let harmless = |c: char| if c == '"' || c.is_control() { '?' } else { c };
    format!("\"{}\"", text.chars().map(harmless).collect::<String>())
}

pub(super) fn value(value: Value) -> String {
    match value {
        Value::Ipv4(address) => address.to_string(),
        Value::Ipv6(address) => ipv6(address),
        Value::Mac(mac) => mac.to_string(),
        Value::IfName(name) => quoted(name.as_str()),
        Value::IfPrefix(name) => quoted(&format!("{}*", name.as_str())),
        Value::Raw(raw) => {
            let mut text = String::from("0x");
            for byte in raw.as_bytes() {
                let _ = write!(text, "{byte:02x}"); // to a String: cannot fail
            }
            text
        }
        Value::Number(kind, number) => self::number(kind, number),
    }
}

/// `nft` has no words for the form with an IPv4 address at its end.
fn ipv6(address: Ipv6Addr) -> String {
    match address.to_ipv4_mapped() {
        None => address.to_string(),
        Some(_) => {
            let [_, _, _, _, _, _, high, low] = address.segments();
            format!("::ffff:{high:x}:{low:x}")
        }
    }
}

fn number(kind: Type, number: u32) -> String {
    let named = |names: &[(u32, &'static str)]| names.iter().find(|name| name.0 == number).map(|name| name.1);
    let name = match kind {
        Type::Protocol => named(&[(1, "icmp"), (6, "tcp"), (17, "udp"), (58, "ipv6-icmp"), (132, "sctp")]),
        Type::NfProto => named(&[(2, "ipv4"), (10, "ipv6")]),
        Type::EtherType => named(&[(0x0800, "ip"), (0x0806, "arp"), (0x86dd, "ip6"), (0x8100, "vlan")]),
        Type::PacketType => named(&[(0, "host"), (1, "broadcast"), (2, "multicast"), (3, "other")]),
        Type::CtDirection => named(&[(0, "original"), (1, "reply")]),
        Type::ArpOperation => named(&[(1, "request"), (2, "reply")]),
        Type::LinkType => named(&[(1, "ether")]),
        Type::AddressType => named(&[(1, "unicast"), (2, "local"), (3, "broadcast"), (5, "multicast")]),
        Type::CtState | Type::CtStatus => return flags(kind, number, " | "),
        _ => None,
    };
    match (name, kind) {
        (Some(name), _) => name.to_owned(),
        (None, Type::Mark | Type::IfGroup) => format!("{number:#010x}"),
        (None, Type::EtherType) => format!("{number:#06x}"),
        (None, _) => number.to_string(),
    }
}

/// linux/netfilter/nf_conntrack_common.h: states as `nft` counts them, and `enum ip_conntrack_status`.
fn flags(kind: Type, number: u32, between: &str) -> String {
    const STATES: [&str; 7] = ["invalid", "established", "related", "new", "", "", "untracked"];
    const STATUSES: [&str; 10] =
        ["expected", "seen-reply", "assured", "confirmed", "snat", "dnat", "", "", "", "dying"];
    let names: &[&str] = if kind == Type::CtState { &STATES } else { &STATUSES };
    let bits = (0..32).filter(|bit| number & (1 << bit) != 0);
    let name = |bit: usize| names.get(bit).copied().filter(|name| !name.is_empty());
    let all: Option<Vec<&str>> = bits.map(name).collect();
    match all {
        Some(names) if !names.is_empty() => names.join(between),
        _ => format!("{number:#x}"),
    }
}

/// The length of the prefix that a mask keeps, if it is one.
fn prefix_length(mask: Value) -> Option<u32> {
    let (bits, width) = match mask {
        Value::Ipv4(address) => (u128::from(address.to_bits()) << 96, 32),
        Value::Ipv6(address) => (address.to_bits(), 128),
        _ => return None,
    };
    let ones = bits.leading_ones();
    (bits.checked_shl(ones).unwrap_or(0) == 0 && ones <= width).then_some(ones)
}

pub(super) fn item(item: &Item) -> String {
    let (first, last) = (item.first(), item.last());
    if first == last {
        return value(first);
    }
    let net = match (first, last) {
        (Value::Ipv4(a), Value::Ipv4(b)) => Some(Value::Ipv4((!(a.to_bits() ^ b.to_bits())).into())),
        (Value::Ipv6(a), Value::Ipv6(b)) => Some(Value::Ipv6((!(a.to_bits() ^ b.to_bits())).into())),
        _ => None,
    };
    match net.and_then(prefix_length) {
        Some(length) if begins(first, length) => format!("{}/{length}", value(first)),
        _ => format!("{}-{}", end(first), end(last)),
    }
}

/// An end of a range: without names, in which the sign between the ends would be one more letter.
fn end(value: Value) -> String {
    match value {
        Value::Number(kind, number) if !matches!(kind, Type::Mark | Type::IfGroup) => number.to_string(),
        _ => self::value(value),
    }
}

/// Whether an address is the first of its network.
fn begins(address: Value, length: u32) -> bool {
    match address {
        Value::Ipv4(address) => u64::from(address.to_bits()) & ((1 << (32 - length.min(32))) - 1) == 0,
        Value::Ipv6(address) => length == 128 || (address.to_bits() << length) == 0,
        _ => false,
    }
}

pub(super) fn key(key: &Key) -> String {
    join(&key.0, " . ", item)
}

pub(super) fn datum(datum: &Datum) -> String {
    match datum {
        Datum::Verdict(verdict) => self::verdict(verdict),
        Datum::Values(values) => join(values, " . ", |v| value(*v)),
    }
}

pub(super) fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Return => "return".to_owned(),
        Verdict::Continue => "continue".to_owned(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
    }
}

fn operand(operand: &Operand) -> String {
    let field = operand.field.words();
    match operand.mask {
        Some(mask) => format!("{field} & {}", value(mask)),
        None => field,
    }
}

fn operands(operands: &[Operand]) -> String {
    join(operands, " . ", operand)
}

fn mapped(key: &[Operand], map: &SetRef) -> String {
    format!("{} map @{}", operands(key), map.name)
}

/// A rule without its place.
pub(super) fn rule(rule: &Rule) -> String {
    let mut words = join(&rule.expressions, " ", expression);
    if let Some(comment) = &rule.comment {
        let _ = write!(words, " comment {}", quoted(comment)); // to a String: cannot fail
    }
    words
}

fn expression(expression: &Expr) -> String {
    match expression {
        Expr::Match { left, compare, right } => comparison(left, *compare, right),
        Expr::Lookup { key, set, negate } => {
            format!("{} {}@{}", operands(key), if *negate { "!= " } else { "" }, set.name)
        }
        Expr::VerdictMap { key, map } => format!("{} vmap @{}", operands(key), map.name),
        Expr::Counter => "counter".to_owned(),
        Expr::Verdict(verdict) => self::verdict(verdict),
        Expr::Reject(reject) => match reject {
            Reject::Icmp(code) => format!("reject with icmp {code}"),
            Reject::Icmpv6(code) => format!("reject with icmpv6 {code}"),
            Reject::Icmpx(code) => format!("reject with icmpx {code}"),
            Reject::TcpReset => "reject with tcp reset".to_owned(),
        },
        Expr::Masquerade { fully_random } => with("masquerade", *fully_random),
        Expr::Nat { kind, ipv6, to, fully_random } => nat(*kind, *ipv6, to, *fully_random),
        Expr::SetMark { mark, to } => format!("{} set {}", mark.field().words(), mark_source(to)),
        Expr::NoTrack => "notrack".to_owned(),
        Expr::Log { group, prefix } => {
            let prefix = match prefix.as_str() {
                "" => String::new(),
                prefix => format!(" prefix {}", quoted(&prefix.replace('$', "?"))),
            };
            match group {
                Some(group) => format!("log{prefix} group {group}"),
                None => format!("log{prefix} level info"),
            }
        }
        Expr::Limit { rate, unit, burst, over } => {
            let over = if *over { "over " } else { "" };
            let unit = match unit {
                Unit::Second => "second",
                Unit::Minute => "minute",
                Unit::Hour => "hour",
                Unit::Day => "day",
            };
            format!("limit rate {over}{rate}/{unit} burst {burst} packets")
        }
        Expr::Update { key, data, set, timeout } => {
            let timeout = timeout.map_or_else(String::new, |t| format!(" timeout {}", span(t.as_millis())));
            let data = if data.is_empty() { String::new() } else { format!(" : {}", operands(data)) };
            format!("update @{} {{ {}{timeout}{data} }}", set.name, operands(key))
        }
        Expr::Foreign(bytes) => format!("# {} bytes of expressions that weft does not know", bytes.len()),
    }
}

/// A time as `nft` writes it: whole seconds, or milliseconds.
pub(super) fn span(milliseconds: u128) -> String {
    if milliseconds.is_multiple_of(1000) {
        format!("{}s", milliseconds / 1000)
    } else {
        format!("{milliseconds}ms")
    }
}

fn with(words: &str, fully_random: bool) -> String {
    if fully_random { format!("{words} fully-random") } else { words.to_owned() }
}

fn comparison(left: &Operand, compare: Compare, right: &Right) -> String {
    let sign = match compare {
        Compare::Eq => "==",
        Compare::Ne => "!=",
        Compare::Lt => "<",
        Compare::Le => "<=",
        Compare::Gt => ">",
        Compare::Ge => ">=",
    };
    let field = left.field.words();
    // An equality needs no sign, except for flags, where its absence means "any of".
    let flags = matches!(left.field, Field::CtState | Field::CtStatus);
    let number = matches!(left.field, Field::Random(_) | Field::Increment(_));
    let plain = if compare == Compare::Eq && !flags && !number { String::new() } else { format!("{sign} ") };
    let value = match right {
        Right::OneOf(values) => {
            let values = join(values, ", ", |v| value(*v));
            let sign = if compare == Compare::Ne { "!= " } else { "" };
            return format!("{} {sign}{{ {values} }}", operand(left));
        }
        Right::Value(value) => *value,
    };
    match (left.mask, compare) {
        (None, _) => format!("{field} {plain}{}", self::value(value)),
        (Some(Value::Number(kind, bits)), Compare::Ne) if flags && value == Value::Number(kind, 0) => {
            format!("{field} {}", self::flags(kind, bits, ","))
        }
        (Some(Value::Number(_, bits)), _) if flags => match value {
            Value::Number(_, number) => format!("{field} & {bits:#x} {sign} {number:#x}"),
            _ => String::new(),
        },
        (Some(mask), Compare::Eq | Compare::Ne) => match prefix_length(mask) {
            Some(length) if begins(value, length) => {
                format!("{field} {plain}{}/{length}", self::value(value))
            }
            _ => format!("{field} & {} {sign} {}", self::value(mask), self::value(value)),
        },
        (Some(mask), _) => format!("{field} & {} {sign} {}", self::value(mask), self::value(value)),
    }
}

fn nat(kind: NatKind, ipv6: bool, to: &NatTarget, fully_random: bool) -> String {
    let words = match kind {
        NatKind::Snat => "snat",
        NatKind::Dnat => "dnat",
    };
    let family = if ipv6 { "ip6" } else { "ip" };
    let target = match to {
        NatTarget::Address(address, None) => value(Value::ip(*address)),
        NatTarget::Address(address @ IpAddr::V4(_), Some(port)) => format!("{address}:{port}"),
        NatTarget::Address(address, Some(port)) => format!("[{}]:{port}", value(Value::ip(*address))),
        NatTarget::Map { key, map, .. } => mapped(key, map),
    };
    with(&format!("{words} {family} to {target}"), fully_random)
}

fn mark_source(source: &MarkSource) -> String {
    match source {
        MarkSource::Value(number) => format!("{number:#010x}"),
        MarkSource::Map { key, map } => mapped(key, map),
        MarkSource::Bits { field, mask, flip } => {
            let field = field.words();
            match (*mask, *flip) {
                (u32::MAX, 0) => field,
                (u32::MAX, flip) => format!("{field} ^ {flip:#010x}"),
                (mask, 0) => format!("{field} & {mask:#010x}"),
                (mask, flip) if mask & flip == 0 => format!("{field} & {mask:#010x} | {flip:#010x}"),
                (mask, flip) => format!("{field} & {mask:#010x} ^ {flip:#010x}"),
            }
        }
    }
}
