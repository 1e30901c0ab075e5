//! Rules as the kernel takes them: loads into registers, comparisons, lookups, statements.
//!
//! What is written here was checked by [`validate`](super::validate) before; nothing can fail any more.
//! Registers hold 32 bits each, sixteen of them; a value takes as many as it needs, from the first on.

use super::expression::{
    Compare, Expr, Mark, MarkSource, NatKind, NatTarget, Operand, Reject, Right, SetRef,
};
use super::field::{Base, Load};
use super::types::{Order, Type};
use super::value::{Value, Verdict};
use super::wire::{ANONYMOUS_SET, LIST_ELEMENT};
use crate::netlink::Attributes;

const VERDICT_REGISTER: u32 = 0; // NFT_REG_VERDICT

/// The register that begins at a 32-bit slot: NFT_REG_1… for each fourth, NFT_REG32_00… for the others.
pub(super) fn register(slot: usize) -> u32 {
    let slot = u32::try_from(slot).unwrap_or(u32::MAX);
    if slot.is_multiple_of(4) { slot / 4 + 1 } else { slot + 8 }
}

/// Where operands lie one behind the other, from `slot` on; and the slot behind the last.
pub(super) fn layout(operands: &[Operand], mut slot: usize) -> (Vec<usize>, usize) {
    let mut slots = Vec::with_capacity(operands.len());
    for operand in operands {
        slots.push(slot);
        slot += operand.kind().slots();
    }
    (slots, slot)
}

/// Where an update's data begin: behind its key, at a full register.
pub(super) fn data_slot(key: &[Operand]) -> usize {
    layout(key, 0).1.next_multiple_of(4)
}

/// Writes the expressions of one rule. `sets` are the numbers in this batch of its anonymous sets.
pub(super) fn expressions(
    list: &mut Attributes<'_>,
    expressions: &[Expr],
    mut sets: impl Iterator<Item = u32>,
) {
    for expression in expressions {
        write(&mut Writer { list }, expression, &mut sets);
    }
}

struct Writer<'a, 'b> {
    list: &'a mut Attributes<'b>,
}

impl Writer<'_, '_> {
    fn expression(&mut self, name: &str, body: impl FnOnce(&mut Attributes<'_>)) {
        self.list.nest(LIST_ELEMENT, |element| {
            element.text(1, name).nest(2, body);
        });
    }

    fn load(&mut self, operand: &Operand, slot: usize, interval: bool) {
        let dreg = register(slot);
        match operand.field.load() {
            Load::Meta(key) => self.expression("meta", |a| {
                a.be32(1, dreg).be32(2, key);
            }),
            Load::Ct(key, direction) => self.expression("ct", |a| {
                a.be32(1, dreg).be32(2, key);
                if let Some(direction) = direction {
                    a.u8(3, direction);
                }
            }),
            Load::Payload(base, offset, length) => self.expression("payload", |a| {
                let base = match base {
                    Base::Link => 0,
                    Base::Network => 1,
                    Base::Transport => 2,
                };
                a.be32(1, dreg).be32(2, base).be32(3, offset).be32(4, length);
            }),
            Load::Fib(result, flags) => self.expression("fib", |a| {
                a.be32(1, dreg).be32(2, result).be32(3, flags);
            }),
            Load::Numgen(kind, modulus) => self.expression("numgen", |a| {
                a.be32(1, dreg).be32(2, modulus).be32(3, kind).be32(4, 0);
            }),
        }
        if let Some(mask) = operand.mask {
            let mut bytes = Vec::new();
            mask.write(&mut bytes, false);
            self.bitwise(slot, &bytes, &vec![0; bytes.len()]);
        }
        if interval && operand.kind().order() == Order::Host {
            let size = u32::try_from(operand.kind().size()).unwrap_or(4);
            self.expression("byteorder", |a| {
                a.be32(1, dreg).be32(2, dreg).be32(3, 1).be32(4, size).be32(5, size); // 1: NFT_BYTEORDER_HTON
            });
        }
    }

    fn bitwise(&mut self, slot: usize, mask: &[u8], flip: &[u8]) {
        let register = register(slot);
        let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
        self.expression("bitwise", |a| {
            a.be32(1, register).be32(2, register).be32(3, length);
            a.nest(4, |n| {
                n.bytes(1, mask);
            });
            a.nest(5, |n| {
                n.bytes(1, flip);
            });
        });
    }

    fn key(&mut self, operands: &[Operand], slot: usize, interval: bool) {
        for (operand, slot) in operands.iter().zip(layout(operands, slot).0) {
            self.load(operand, slot, interval);
        }
    }

    /// Looks the key up and leaves what the map says in the first registers, or as the verdict.
    fn map(&mut self, operands: &[Operand], map: &SetRef, dreg: u32) {
        self.key(operands, 0, map.interval);
        self.expression("lookup", |a| {
            a.text(1, &map.name).be32(2, register(0)).be32(3, dreg);
        });
    }

    fn compare(&mut self, compare: Compare, bytes: &[u8]) {
        self.expression("cmp", |a| {
            a.be32(1, register(0)).be32(2, compare as u32).nest(3, |n| {
                n.bytes(1, bytes);
            });
        });
    }

    fn immediate(&mut self, slot: usize, bytes: &[u8]) {
        self.expression("immediate", |a| {
            a.be32(1, register(slot)).nest(2, |n| {
                n.bytes(1, bytes);
            });
        });
    }
}

fn write(to: &mut Writer<'_, '_>, expression: &Expr, sets: &mut impl Iterator<Item = u32>) {
    match expression {
        Expr::Match { left, compare, right: Right::Value(value) } => {
            to.load(left, 0, false);
            let mut bytes = Vec::new();
            value.write(&mut bytes, false);
            to.compare(*compare, &bytes);
        }
        Expr::Match { left, compare, right: Right::OneOf(_) } => {
            to.load(left, 0, false);
            let id = sets.next().unwrap_or_default();
            to.expression("lookup", |a| {
                a.text(1, ANONYMOUS_SET).be32(2, register(0)).be32(4, id);
                a.be32(5, u32::from(*compare == Compare::Ne));
            });
        }
        Expr::Lookup { key, set, negate } => {
            to.key(key, 0, set.interval);
            to.expression("lookup", |a| {
                a.text(1, &set.name).be32(2, register(0)).be32(5, u32::from(*negate));
            });
        }
        Expr::VerdictMap { key, map } => to.map(key, map, VERDICT_REGISTER),
        Expr::Counter => to.expression("counter", |a| {
            a.be64(1, 0).be64(2, 0);
        }),
        Expr::Verdict(verdict) => to.expression("immediate", |a| {
            a.be32(1, VERDICT_REGISTER).nest(2, |n| write_verdict(n, verdict));
        }),
        Expr::Reject(reject) => {
            let (kind, code) = match reject {
                Reject::Icmp(code) | Reject::Icmpv6(code) => (0, *code),
                Reject::TcpReset => (1, 0),
                Reject::Icmpx(code) => (2, *code),
            };
            to.expression("reject", |a| {
                a.be32(1, kind).u8(2, code);
            });
        }
        Expr::Masquerade { fully_random } => to.expression("masq", |a| {
            if *fully_random {
                a.be32(1, FULLY_RANDOM);
            }
        }),
        Expr::Nat { kind, ipv6, to: target, fully_random } => nat(to, *kind, *ipv6, target, *fully_random),
        Expr::SetMark { mark, to: source } => set_mark(to, *mark, source),
        Expr::NoTrack => to.expression("notrack", |_| ()),
        Expr::Log { group, prefix } => to.expression("log", |a| {
            match group {
                Some(group) => a.bytes(1, &group.to_be_bytes()),
                None => a.be32(5, LOG_INFO),
            };
            if !prefix.is_empty() {
                a.text(2, prefix);
            }
        }),
        Expr::Limit { rate, unit, burst, over } => to.expression("limit", |a| {
            a.be64(1, *rate).be64(2, *unit as u64).be32(3, *burst).be32(4, 0).be32(5, u32::from(*over));
        }),
        Expr::Update { key, data, set, timeout } => {
            to.key(key, 0, set.interval);
            to.key(data, data_slot(key), false);
            to.expression("dynset", |a| {
                a.text(1, &set.name).be32(3, UPDATE).be32(4, register(0));
                if !data.is_empty() {
                    a.be32(5, register(data_slot(key)));
                }
                if let Some(timeout) = timeout {
                    a.be64(6, u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
                }
            });
        }
        Expr::Foreign(_) => {}
    }
}

pub(super) const FULLY_RANDOM: u32 = 0x10; // NF_NAT_RANGE_PROTO_RANDOM_FULLY
/// NF_NAT_RANGE_MAP_IPS and NF_NAT_RANGE_PROTO_SPECIFIED: the kernel sets them by itself.
pub(super) const IMPLIED_NAT: u32 = 0x3;
pub(super) const LOG_INFO: u32 = 6; // NFT_LOGLEVEL_INFO
pub(super) const UPDATE: u32 = 1; // NFT_DYNSET_OP_UPDATE

fn nat(to: &mut Writer<'_, '_>, kind: NatKind, ipv6: bool, target: &NatTarget, fully_random: bool) {
    let address = if ipv6 { Type::Ipv6 } else { Type::Ipv4 };
    let port = match target {
        NatTarget::Address(address, port) => {
            let mut bytes = Vec::new();
            Value::ip(*address).write(&mut bytes, false);
            to.immediate(0, &bytes);
            if let Some(port) = port {
                to.immediate(bytes.len() / 4, &port.to_be_bytes());
            }
            port.is_some()
        }
        NatTarget::Map { key, map, port } => {
            to.map(key, map, register(0));
            *port
        }
    };
    to.expression("nat", |a| {
        a.be32(1, kind as u32).be32(2, if ipv6 { 10 } else { 2 }).be32(3, register(0));
        if port {
            a.be32(5, register(address.slots()));
        }
        let flags = if port { 2 } else { 0 } | if fully_random { FULLY_RANDOM } else { 0 };
        if flags != 0 {
            a.be32(7, flags);
        }
    });
}

fn set_mark(to: &mut Writer<'_, '_>, mark: Mark, source: &MarkSource) {
    match source {
        MarkSource::Value(number) => to.immediate(0, &number.to_ne_bytes()),
        MarkSource::Bits { field, mask, flip } => {
            to.load(&Operand::from(*field), 0, false);
            if (*mask, *flip) != (u32::MAX, 0) {
                to.bitwise(0, &mask.to_ne_bytes(), &flip.to_ne_bytes());
            }
        }
        MarkSource::Map { key, map } => to.map(key, map, register(0)),
    }
    match mark {
        Mark::Packet => to.expression("meta", |a| {
            a.be32(2, 3).be32(3, register(0)); // NFT_META_MARK
        }),
        Mark::Connection => to.expression("ct", |a| {
            a.be32(2, 3).be32(4, register(0)); // NFT_CT_MARK
        }),
    }
}

/// A verdict inside `NFTA_*_DATA`, as elements have it too.
pub(super) fn write_verdict(to: &mut Attributes<'_>, verdict: &Verdict) {
    to.nest(2, |n| {
        n.bytes(1, &code(verdict).to_be_bytes());
        if let Some(chain) = verdict.chain() {
            n.text(2, chain);
        }
    });
}

/// `nft_verdicts`, and `NF_DROP`, `NF_ACCEPT` of linux/netfilter.h.
fn code(verdict: &Verdict) -> i32 {
    match verdict {
        Verdict::Drop => 0,
        Verdict::Accept => 1,
        Verdict::Continue => -1,
        Verdict::Jump(_) => -3,
        Verdict::Goto(_) => -4,
        Verdict::Return => -5,
    }
}

/// The inverse of [`code`].
pub(super) fn verdict(code: i32, chain: Option<&str>) -> Option<Verdict> {
    Some(match (code, chain) {
        (0, None) => Verdict::Drop,
        (1, None) => Verdict::Accept,
        (-1, None) => Verdict::Continue,
        (-3, Some(chain)) => Verdict::Jump(chain.to_owned()),
        (-4, Some(chain)) => Verdict::Goto(chain.to_owned()),
        (-5, None) => Verdict::Return,
        _ => return None,
    })
}
