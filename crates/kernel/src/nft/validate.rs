//! What cannot be said to the kernel, or would be read differently by a person: found before anything is sent.
//!
//! Whether a table, chain or set exists is the kernel's business.

use super::depend;
use super::expression::{Compare, Expr, MarkSource, NatTarget, Operand, Reject, Right};
use super::field::Field;
use super::model::{Data, Declaration, Family, Hook};
use super::op::Op;
use super::types::{Order, PARTS, Type};
use super::value::{Datum, Item, Key, Value, Verdict};

/// Why a step cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A name has characters that `nft` would read as its own, or is too long.
    #[error("'{0}' is not a name for a table, chain or set")]
    Name(String),
    /// A comment or prefix is longer than 127 bytes, has quotation marks or control characters, or a prefix has `$`.
    #[error(
        "'{0}' cannot be a comment or prefix: over 127 bytes, or with characters that `nft` reads as its own"
    )]
    Text(String),
    /// A key, datum or concatenation has no parts, more than five, or more than 64 bytes, or an unknown type.
    #[error("a concatenation has one to five parts of known types and at most 64 bytes")]
    Parts,
    /// A value's or mask's type is not its field's.
    #[error("{value:?} cannot be compared with '{field:?}'")]
    Value {
        /// The field.
        field: Field,
        /// The value.
        value: Value,
    },
    /// Only fields in network order can be compared by size, and only with one value.
    #[error("'{0:?}' can only be compared for equality")]
    Order(Field),
    /// A range in a set without `interval`, with its ends turned round, of different types, or of names.
    #[error("{0:?} cannot be an element")]
    Range(Key),
    /// A family has no such hook, or a device is missing or too much.
    #[error("the family has no such hook, or the device is missing or too much")]
    Hook,
    /// An address of the other family, or data without a map.
    #[error("the address is not of the family of the translation")]
    Address,
    /// A family cannot reject like that: `icmpx` is for families that see both IPv4 and IPv6.
    #[error("the family cannot reject with {0:?}")]
    Reject(Reject),
    /// A rule looks at a field of one protocol behind a match of another, or in another's table.
    #[error("'{0:?}' cannot be looked at here: the packet is of another protocol")]
    Conflict(Field),
    /// A dynamic set has no size. The kernel would give it one when a rule first updates it, and it would
    /// then differ from what was wanted.
    #[error("a dynamic set needs a size")]
    Size,
    /// Something was read from the kernel and not understood; it cannot be written.
    #[error("a foreign expression cannot be written")]
    Foreign,
}

/// Checks a step.
pub(super) fn op(op: &Op) -> Result<(), Invalid> {
    name(&op.table().name)?;
    match op {
        Op::AddTable(_) | Op::DeleteTable(_) => Ok(()),
        Op::DeleteChain { chain, .. } | Op::FlushChain { chain, .. } => name(chain),
        Op::AddChain { table, chain, base } => {
            name(chain)?;
            let Some(base) = base else { return Ok(()) };
            let device = matches!(base.hook, Hook::Ingress | Hook::Egress);
            let fits = base.hook.number(table.family).is_some() && device == base.device.is_some();
            if fits { Ok(()) } else { Err(Invalid::Hook) }
        }
        Op::AddRule { chain, rule, .. } => {
            name(chain)?;
            rule.comment.as_deref().map_or(Ok(()), text)?;
            let family = op.table().family;
            for word in &rule.expressions {
                expression(word).and_then(|()| rejects(family, word))?;
            }
            depend::conflict(family, &rule.expressions).map_or(Ok(()), |field| Err(Invalid::Conflict(field)))
        }
        Op::AddSet { set, declaration, .. } => name(set).and_then(|()| self::declaration(declaration)),
        Op::DeleteSet { set, .. } => name(set),
        Op::AddElements { set, interval, elements, .. } => {
            name(set)?;
            elements.iter().try_for_each(|(key, datum)| {
                self::key(key, *interval)?;
                match datum {
                    Some(Datum::Verdict(verdict)) => self::verdict(verdict),
                    Some(Datum::Values(values)) if !(1..=PARTS).contains(&values.len()) => {
                        Err(Invalid::Parts)
                    }
                    _ => Ok(()),
                }
            })
        }
        Op::DeleteElements { set, interval, keys, .. } => {
            name(set)?;
            keys.iter().try_for_each(|key| self::key(key, *interval))
        }
    }
}

/// What `nft` reads as one word; anonymous sets' names are the kernel's.
fn name(name: &str) -> Result<(), Invalid> {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let ours = !name.starts_with("__set") && !name.starts_with("__map");
    if starts && ours && name.len() < 128 && name.chars().all(inside) {
        Ok(())
    } else {
        Err(Invalid::Name(name.to_owned()))
    }
}

fn text(text: &str) -> Result<(), Invalid> {
    if text.len() < 128 && !text.contains(|c: char| c == '"' || c.is_control()) {
        Ok(())
    } else {
        Err(Invalid::Text(text.to_owned()))
    }
}

fn declaration(declaration: &Declaration) -> Result<(), Invalid> {
    parts(&declaration.key)?;
    if declaration.dynamic && declaration.size.is_none() {
        return Err(Invalid::Size);
    }
    match &declaration.data {
        Some(Data::Values(values)) => parts(values),
        _ => Ok(()),
    }
}

fn parts(parts: &[Type]) -> Result<(), Invalid> {
    let unknown = |part: &Type| matches!(part, Type::Raw(_) | Type::Foreign(_)) && *part != Type::TARGET;
    let slots: usize = parts.iter().map(|part| part.slots()).sum();
    let fits = (1..=PARTS).contains(&parts.len()) && slots <= 16 && !parts.iter().any(unknown);
    if fits { Ok(()) } else { Err(Invalid::Parts) }
}

fn key(key: &Key, interval: bool) -> Result<(), Invalid> {
    let fits = |item: &Item| {
        let value_fits = [item.first(), item.last()].iter().all(sound);
        let range_fits = match item {
            Item::One(_) => true,
            Item::Range(first, last) => {
                interval && first < last && first.kind() == last.kind() && first.kind() != Type::IfName
            }
        };
        value_fits && range_fits
    };
    if (1..=PARTS).contains(&key.0.len()) && key.0.iter().all(fits) {
        Ok(())
    } else {
        Err(Invalid::Range(key.clone()))
    }
}

/// Whether a set can hold the value.
fn sound(value: &Value) -> bool {
    match value {
        Value::IfPrefix(_) => false,
        Value::Raw(_) => value.kind() == Type::TARGET,
        _ => in_bounds(value),
    }
}

/// Whether a number is one, and fits its type.
fn in_bounds(value: &Value) -> bool {
    match value {
        Value::Number(kind, number) => {
            kind.is_number() && (kind.size() == 4 || *number < 1 << (8 * kind.size()))
        }
        _ => true,
    }
}

fn verdict(verdict: &Verdict) -> Result<(), Invalid> {
    verdict.chain().map_or(Ok(()), name)
}

fn expression(expression: &Expr) -> Result<(), Invalid> {
    if let Some(set) = expression.set() {
        name(&set.name)?;
    }
    for operand in expression.operands() {
        self::operand(operand)?;
    }
    match expression {
        Expr::Match { left, compare, right } => {
            let ordered = !matches!(compare, Compare::Eq | Compare::Ne);
            match right {
                Right::Value(_) if ordered && left.kind().order() == Order::Host => {
                    Err(Invalid::Order(left.field))
                }
                Right::OneOf(_) if ordered => Err(Invalid::Order(left.field)),
                Right::OneOf(values) if values.is_empty() => Err(Invalid::Parts),
                Right::Value(value) => comparable(left, value),
                Right::OneOf(values) => values.iter().try_for_each(|value| match value {
                    Value::IfPrefix(_) => Err(Invalid::Value { field: left.field, value: *value }),
                    _ => comparable(left, value),
                }),
            }
        }
        Expr::Lookup { key, .. } | Expr::VerdictMap { key, .. } => operands(&[key]),
        Expr::Verdict(verdict) => self::verdict(verdict),
        Expr::Nat { ipv6, to: NatTarget::Address(address, _), .. } if *ipv6 != address.is_ipv6() => {
            Err(Invalid::Address)
        }
        Expr::Nat { to: NatTarget::Map { key, .. }, .. }
        | Expr::SetMark { to: MarkSource::Map { key, .. }, .. } => operands(&[key]),
        Expr::SetMark { to: MarkSource::Bits { field, .. }, .. } => {
            let number = field.kind().is_number() && field.kind().size() == 4;
            if number { Ok(()) } else { Err(Invalid::Order(*field)) }
        }
        // Unlike in comments, `nft` replaces variables in prefixes.
        Expr::Log { prefix, .. } if prefix.contains('$') => Err(Invalid::Text(prefix.clone())),
        Expr::Log { prefix, .. } => text(prefix),
        Expr::Update { key, data, .. } if data.is_empty() => operands(&[key]),
        Expr::Update { key, data, .. } => operands(&[key, data]),
        Expr::Foreign(_) => Err(Invalid::Foreign),
        _ => Ok(()),
    }
}

/// Whether a family can reject so: elsewhere the kernel would take some of it and only drop.
fn rejects(family: Family, expression: &Expr) -> Result<(), Invalid> {
    let Expr::Reject(reject) = expression else { return Ok(()) };
    let fits = match family {
        Family::Inet | Family::Bridge | Family::Netdev => true,
        Family::Ip => matches!(reject, Reject::Icmp(_) | Reject::TcpReset),
        Family::Ip6 => matches!(reject, Reject::Icmpv6(_) | Reject::TcpReset),
        Family::Arp => false,
    };
    if fits { Ok(()) } else { Err(Invalid::Reject(*reject)) }
}

/// Keys that lie in registers together, each beginning at a full one.
fn operands(keys: &[&Vec<Operand>]) -> Result<(), Invalid> {
    let slots = |key: &Vec<Operand>| key.iter().map(|operand| operand.kind().slots()).sum::<usize>();
    let all: usize = keys.iter().map(|key| slots(key).next_multiple_of(4)).sum();
    let fits = keys.iter().all(|key| (1..=PARTS).contains(&key.len())) && all <= 16;
    if fits { Ok(()) } else { Err(Invalid::Parts) }
}

fn operand(operand: &Operand) -> Result<(), Invalid> {
    if let Field::Payload { length, .. } = operand.field
        && !(1..=16).contains(&length)
    {
        return Err(Invalid::Parts);
    }
    match operand.mask {
        Some(value @ Value::IfPrefix(_)) => Err(Invalid::Value { field: operand.field, value }),
        Some(mask) => comparable(operand, &mask),
        None => Ok(()),
    }
}

fn comparable(left: &Operand, value: &Value) -> Result<(), Invalid> {
    let fits = value.kind() == left.kind() && in_bounds(value);
    if fits { Ok(()) } else { Err(Invalid::Value { field: left.field, value: *value }) }
}
