//! Rules as the kernel gives them, back into words.
//!
//! A rule in which anything is not understood becomes one [`Expr::Foreign`]; bytes of any kind never panic.

mod glance;
mod statement;

pub use glance::Glance;
pub(super) use glance::glance;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::depend::Context;
use super::encode::{FULLY_RANDOM, IMPLIED_NAT, UPDATE, data_slot, layout, register, verdict};
use super::expression::{Compare, Expr, Mark, MarkSource, NatKind, NatTarget, Operand, Right, SetRef};
use super::field::{Base, Field, Load};
use super::model::Family;
use super::types::{Order, Type};
use super::value::{Value, Verdict};
use super::wire::{LIST_ELEMENT, table};
use crate::netlink::{Attribute, attributes};

/// The values of anonymous sets, as raw keys, by their names.
pub(super) type Anonymous = BTreeMap<String, Vec<Vec<u8>>>;

/// Reads a rule's list of expressions (`NFTA_RULE_EXPRESSIONS`), matches that words imply included.
pub(super) fn expressions(family: Family, list: &[u8], anonymous: &Anonymous) -> Vec<Expr> {
    let mut reader =
        Reader { anonymous, context: Context::new(family), pending: Vec::new(), done: Vec::new() };
    let understood = attributes(list).all(|element| {
        let [_, name, data] = table::<3>(element.value);
        let name = name.and_then(|name| name.text());
        element.kind == LIST_ELEMENT
            && name.is_some_and(|name| reader.step(name, data.map_or(&[], |data| data.value)).is_some())
    });
    // Attributes that do not fit end the walk early: count what was walked.
    let walked: usize = attributes(list).map(|a| (a.value.len() + 4).next_multiple_of(4)).sum();
    if understood && reader.pending.is_empty() && walked >= list.len() {
        reader.done
    } else {
        vec![Expr::Foreign(list.to_vec())]
    }
}

/// What lies in a register and waits to be used.
enum Pending {
    Field { slot: usize, operand: Operand, flip: u32, swapped: bool },
    Immediate { slot: usize, bytes: Vec<u8> },
    Mapped { key: Vec<Operand>, map: SetRef },
}

struct Reader<'a> {
    anonymous: &'a Anonymous,
    context: Context,
    pending: Vec<Pending>,
    done: Vec<Expr>,
}

/// The slot of a register that the kernel names; verdicts have none.
fn slot(register: u32) -> Option<usize> {
    let slot = match register {
        1..=4 => (register - 1) * 4,
        8..=23 => register - 8,
        _ => return None,
    };
    usize::try_from(slot).ok()
}

fn number(attribute: Option<Attribute<'_>>) -> Option<u32> {
    attribute?.be32()
}

/// A value inside `NFTA_DATA_VALUE`.
fn data(attribute: Option<Attribute<'_>>) -> Option<&[u8]> {
    let [_, value] = table::<2>(attribute?.value);
    Some(value?.value)
}

impl Reader<'_> {
    /// Takes one expression in; `None` if it is not understood.
    fn step(&mut self, name: &str, body: &[u8]) -> Option<()> {
        let a = table::<10>(body);
        match name {
            "meta" if a[3].is_some() => self.set_mark(Mark::Packet, a[2], a[3]),
            "ct" if a[4].is_some() => self.set_mark(Mark::Connection, a[2], a[4]),
            "meta" => self.load(a[1], Load::Meta(number(a[2])?)),
            "ct" => self.load(a[1], Load::Ct(number(a[2])?, a[3].and_then(|d| d.u8()))),
            "payload" => {
                let base = match number(a[2])? {
                    0 => Base::Link,
                    1 => Base::Network,
                    2 => Base::Transport,
                    _ => return None,
                };
                self.load(a[1], Load::Payload(base, number(a[3])?, number(a[4])?))
            }
            "fib" => self.load(a[1], Load::Fib(number(a[2])?, number(a[3])?)),
            "numgen" if number(a[4]).unwrap_or(0) == 0 => {
                self.load(a[1], Load::Numgen(number(a[3])?, number(a[2])?))
            }
            "bitwise" => self.bitwise(&a),
            "byteorder" => self.byteorder(&a),
            "cmp" => self.compare(&a),
            "lookup" => self.lookup(&a),
            "immediate" => self.immediate(&a),
            "dynset" => self.update(&a),
            "nat" => self.nat(&a),
            _ => {
                let statement = statement::statement(name, &a, self.context.network())?;
                self.finish(statement)
            }
        }
    }

    /// Adds an expression that uses up all registers.
    fn finish(&mut self, expression: Expr) -> Option<()> {
        if !self.pending.is_empty() {
            return None;
        }
        self.context.learn(&expression);
        self.done.push(expression);
        Some(())
    }

    fn load(&mut self, dreg: Option<Attribute<'_>>, load: Load) -> Option<()> {
        let field = Field::loaded_by(load).find(|field| self.context.satisfies(field.needs()))?;
        if field.kind().size() == 0 || field.kind().size() > 16 {
            return None;
        }
        self.pending.push(Pending::Field {
            slot: slot(number(dreg)?)?,
            operand: field.into(),
            flip: 0,
            swapped: false,
        });
        Some(())
    }

    fn bitwise(&mut self, a: &[Option<Attribute<'_>>; 10]) -> Option<()> {
        let Pending::Field { slot: at, operand, flip, swapped: false } = self.pending.last_mut()? else {
            return None;
        };
        let (mask, xor) = (data(a[4])?, data(a[5])?);
        let same = number(a[1])? == register(*at) && number(a[2])? == register(*at);
        let plain = number(a[6]).unwrap_or(0) == 0; // NFT_BITWISE_MASK_XOR
        if !same || !plain || operand.mask.is_some() || *flip != 0 || xor.len() != mask.len() {
            return None;
        }
        operand.mask = Some(Value::from_bytes(operand.kind(), mask, false)?);
        if xor.iter().any(|byte| *byte != 0) {
            *flip = u32::from_ne_bytes(xor.try_into().ok()?);
        }
        Some(())
    }

    fn byteorder(&mut self, a: &[Option<Attribute<'_>>; 10]) -> Option<()> {
        let Pending::Field { slot: at, operand, flip: 0, swapped } = self.pending.last_mut()? else {
            return None;
        };
        let same = number(a[1])? == register(*at) && number(a[2])? == register(*at);
        let size = u32::try_from(operand.kind().size()).ok()?;
        let whole = number(a[3])? == 1 && number(a[4])? == size && number(a[5])? == size;
        if !same || !whole || *swapped || operand.kind().order() != Order::Host {
            return None;
        }
        *swapped = true;
        Some(())
    }

    /// The operands that wait, if they lie as [`layout`] puts them, and whether numbers were swapped.
    fn key(&mut self, from: usize) -> Option<(Vec<Operand>, bool)> {
        let (mut operands, mut slots, mut interval) = (Vec::new(), Vec::new(), None);
        for pending in self.pending.drain(..) {
            let Pending::Field { slot, operand, flip: 0, swapped } = pending else { return None };
            if operand.kind().order() == Order::Host && *interval.get_or_insert(swapped) != swapped {
                return None;
            }
            operands.push(operand);
            slots.push(slot);
        }
        let fits = !operands.is_empty() && layout(&operands, from).0 == slots;
        fits.then_some((operands, interval.unwrap_or(false)))
    }

    fn only(&mut self) -> Option<Operand> {
        match (self.key(0)?, self.pending.len()) {
            ((operands, false), 0) => <[Operand; 1]>::try_from(operands).ok().map(|[one]| one),
            _ => None,
        }
    }

    fn compare(&mut self, a: &[Option<Attribute<'_>>; 10]) -> Option<()> {
        let left = self.only()?;
        let compare = match number(a[2])? {
            0 => Compare::Eq,
            1 => Compare::Ne,
            2 => Compare::Lt,
            3 => Compare::Le,
            4 => Compare::Gt,
            5 => Compare::Ge,
            _ => return None,
        };
        if number(a[1])? != register(0) {
            return None;
        }
        let bytes = data(a[3])?;
        let value = match left.kind() {
            // iptables compares a whole name up to its end and no further.
            Type::IfName if bytes.len() < 16 && bytes.ends_with(&[0]) => {
                let mut whole = [0; 16];
                whole[..bytes.len()].copy_from_slice(bytes);
                Value::from_bytes(Type::IfName, &whole, false)?
            }
            Type::IfName if bytes.len() < 16 => Value::prefix(bytes)?,
            kind => Value::from_bytes(kind, bytes, false)?,
        };
        self.finish(Expr::Match { left, compare, right: Right::Value(value) })
    }

    fn lookup(&mut self, a: &[Option<Attribute<'_>>; 10]) -> Option<()> {
        let name = a[1]?.text()?;
        let negate = number(a[5]).unwrap_or(0) == 1;
        if number(a[2])? != register(0) {
            return None;
        }
        if let Some(values) = self.anonymous.get(name) {
            let left = self.only()?;
            let values: Option<BTreeSet<Value>> =
                values.iter().map(|bytes| Value::from_bytes(left.kind(), bytes, false)).collect();
            let compare = if negate { Compare::Ne } else { Compare::Eq };
            return self.finish(Expr::Match { left, compare, right: Right::OneOf(values?) });
        }
        let (key, interval) = self.key(0)?;
        let set = SetRef { name: name.to_owned(), interval };
        match number(a[3]) {
            None => self.finish(Expr::Lookup { key, set, negate }),
            Some(_) if negate => None,
            Some(0) => self.finish(Expr::VerdictMap { key, map: set }),
            Some(dreg) if dreg == register(0) => {
                self.pending.push(Pending::Mapped { key, map: set });
                Some(())
            }
            Some(_) => None,
        }
    }

    fn immediate(&mut self, a: &[Option<Attribute<'_>>; 10]) -> Option<()> {
        let [_, value, code] = table::<3>(a[2]?.value);
        match (number(a[1])?, value, code) {
            (0, _, Some(code)) => {
                let verdict = read_verdict(code.value)?;
                self.finish(Expr::Verdict(verdict))
            }
            (dreg, Some(value), _) => {
                self.pending.push(Pending::Immediate { slot: slot(dreg)?, bytes: value.value.to_vec() });
                Some(())
            }
            _ => None,
        }
    }

    fn update(&mut self, a: &[Option<Attribute<'_>>; 10]) -> Option<()> {
        let plain = a[7].is_none() && number(a[9]).unwrap_or(0) == 0; // NFTA_DYNSET_EXPR, _FLAGS
        if number(a[3])? != UPDATE || number(a[4])? != register(0) || !plain {
            return None;
        }
        let start = number(a[5]).map(slot);
        let split = match start {
            None => self.pending.len(),
            Some(start) => {
                let start = start?;
                let is_data = |p: &Pending| matches!(p, Pending::Field { slot, .. } if *slot >= start);
                self.pending.iter().position(is_data)?
            }
        };
        let rest = self.pending.split_off(split);
        let (key, interval) = self.key(0)?;
        self.pending = rest;
        let data = match start {
            None => Vec::new(),
            Some(start) if start == Some(data_slot(&key)) => match self.key(data_slot(&key))? {
                (_, true) => return None,
                (data, false) => data,
            },
            Some(_) => return None,
        };
        let timeout = a[6].and_then(|t| t.be64()).filter(|t| *t != 0).map(Duration::from_millis);
        let set = SetRef { name: a[1]?.text()?.to_owned(), interval };
        self.finish(Expr::Update { key, data, set, timeout })
    }

    fn nat(&mut self, a: &[Option<Attribute<'_>>; 10]) -> Option<()> {
        let kind = match number(a[1])? {
            0 => NatKind::Snat,
            1 => NatKind::Dnat,
            _ => return None,
        };
        let ipv6 = match number(a[2])? {
            2 => false,
            10 => true,
            _ => return None,
        };
        let size = if ipv6 { 16 } else { 4 };
        let (address, port) = (number(a[3])?, number(a[5]));
        let fits = address == register(0)
            && number(a[4]).is_none_or(|last| last == address)
            && port.is_none_or(|port| port == register(size / 4))
            && (a[6].is_none() || number(a[6]) == port);
        let flags = number(a[7]).unwrap_or(0) & !IMPLIED_NAT;
        if !fits || flags & !FULLY_RANDOM != 0 {
            return None;
        }
        let to = match (self.pending.pop()?, self.pending.pop()) {
            (Pending::Mapped { key, map }, None) => NatTarget::Map { key, map, port: port.is_some() },
            (Pending::Immediate { slot: 0, bytes }, None) if port.is_none() => {
                NatTarget::Address(address_of(&bytes, size)?, None)
            }
            (Pending::Immediate { slot, bytes: port_bytes }, Some(Pending::Immediate { slot: 0, bytes }))
                if port.is_some() && slot == size / 4 =>
            {
                let port = u16::from_be_bytes(port_bytes.try_into().ok()?);
                NatTarget::Address(address_of(&bytes, size)?, Some(port))
            }
            _ => return None,
        };
        self.finish(Expr::Nat { kind, ipv6, to, fully_random: flags != 0 })
    }

    fn set_mark(
        &mut self,
        mark: Mark,
        key: Option<Attribute<'_>>,
        sreg: Option<Attribute<'_>>,
    ) -> Option<()> {
        if number(key)? != 3 || number(sreg)? != register(0) {
            return None; // NFT_META_MARK and NFT_CT_MARK are both 3
        }
        let to = match self.pending.pop()? {
            Pending::Immediate { slot: 0, bytes } => {
                MarkSource::Value(u32::from_ne_bytes(bytes.try_into().ok()?))
            }
            Pending::Mapped { key, map } => MarkSource::Map { key, map },
            Pending::Field { slot: 0, operand, flip, swapped: false } if operand.kind().size() == 4 => {
                let mask = match operand.mask {
                    None => u32::MAX,
                    Some(Value::Number(_, mask)) => mask,
                    Some(_) => return None,
                };
                MarkSource::Bits { field: operand.field, mask, flip }
            }
            _ => return None,
        };
        self.finish(Expr::SetMark { mark, to })
    }
}

fn address_of(bytes: &[u8], size: usize) -> Option<IpAddr> {
    match size {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

/// A verdict (`NFTA_DATA_VERDICT`).
pub(super) fn read_verdict(bytes: &[u8]) -> Option<Verdict> {
    let [_, code, chain] = table::<3>(bytes);
    let chain = match chain {
        Some(chain) => Some(chain.text()?),
        None => None,
    };
    verdict(number(code)?.cast_signed(), chain)
}
