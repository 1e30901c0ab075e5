//! Short ways to write expressions. Nothing can be made here that could not be written out.

use super::expression::{Compare, Expr, Mark, MarkSource, NatKind, NatTarget, Operand, Right, SetRef};
use super::field::Field;
use super::value::{IfName, Value, Verdict};

impl Expr {
    /// `FIELD VALUE`.
    #[must_use]
    pub fn eq(field: Field, value: impl Into<Value>) -> Expr {
        Expr::compare(field, Compare::Eq, value)
    }

    /// `FIELD OPERATOR VALUE`.
    #[must_use]
    pub fn compare(field: Field, compare: Compare, value: impl Into<Value>) -> Expr {
        Expr::Match { left: field.into(), compare, right: Right::Value(value.into()) }
    }

    /// `FIELD NUMBER`, for fields with a numeric type.
    #[must_use]
    pub fn number(field: Field, number: u32) -> Expr {
        Expr::eq(field, Value::Number(field.kind(), number))
    }

    /// `FIELD & MASK == VALUE`.
    #[must_use]
    pub fn masked(field: Field, mask: impl Into<Value>, value: impl Into<Value>) -> Expr {
        let left = Operand { field, mask: Some(mask.into()) };
        Expr::Match { left, compare: Compare::Eq, right: Right::Value(value.into()) }
    }

    /// `FIELD & MASK == NUMBER`, for fields with a numeric type.
    #[must_use]
    pub fn bits(field: Field, mask: u32, number: u32) -> Expr {
        Expr::masked(field, Value::Number(field.kind(), mask), Value::Number(field.kind(), number))
    }

    /// `FIELD { a, b }`, for fields with a numeric type.
    #[must_use]
    pub fn one_of(field: Field, numbers: &[u32]) -> Expr {
        let values = numbers.iter().map(|number| Value::Number(field.kind(), *number)).collect();
        Expr::Match { left: field.into(), compare: Compare::Eq, right: Right::OneOf(values) }
    }

    /// `iifname NAME`, `oifname NAME`.
    #[must_use]
    pub fn name(field: Field, name: IfName) -> Expr {
        Expr::eq(field, name)
    }

    /// `ct state FLAG,FLAG`, `ct status FLAG`: any of the bits (linux/netfilter/nf_conntrack_common.h).
    #[must_use]
    pub fn any_bit(field: Field, bits: u32) -> Expr {
        let left = Operand { field, mask: Some(Value::Number(field.kind(), bits)) };
        Expr::Match { left, compare: Compare::Ne, right: Right::Value(Value::Number(field.kind(), 0)) }
    }

    /// None of the bits.
    #[must_use]
    pub fn no_bit(field: Field, bits: u32) -> Expr {
        Expr::bits(field, bits, 0)
    }

    /// `FIELD . FIELD @set`.
    #[must_use]
    pub fn lookup(fields: &[Field], set: SetRef) -> Expr {
        Expr::Lookup { key: operands(fields), set, negate: false }
    }

    /// `FIELD . FIELD != @set`.
    #[must_use]
    pub fn absent(fields: &[Field], set: SetRef) -> Expr {
        Expr::Lookup { key: operands(fields), set, negate: true }
    }

    /// `FIELD . FIELD vmap @map`.
    #[must_use]
    pub fn verdict_map(fields: &[Field], map: SetRef) -> Expr {
        Expr::VerdictMap { key: operands(fields), map }
    }

    /// `dnat ip to FIELD . FIELD map @map` with `address . port` as data.
    #[must_use]
    pub fn dnat_map(ipv6: bool, fields: &[Field], map: SetRef) -> Expr {
        let to = NatTarget::Map { key: operands(fields), map, port: true };
        Expr::Nat { kind: NatKind::Dnat, ipv6, to, fully_random: false }
    }

    /// `meta mark set meta mark & ~MASK | BITS`: only the bits of `mask` change.
    #[must_use]
    pub fn set_mark(mark: Mark, mask: u32, bits: u32) -> Expr {
        let to = match mask {
            u32::MAX => MarkSource::Value(bits),
            _ => MarkSource::Bits { field: mark.field(), mask: !mask, flip: bits & mask },
        };
        Expr::SetMark { mark, to }
    }

    /// `accept`.
    #[must_use]
    pub fn accept() -> Expr {
        Expr::Verdict(Verdict::Accept)
    }

    /// `drop`.
    #[must_use]
    pub fn drop() -> Expr {
        Expr::Verdict(Verdict::Drop)
    }

    /// `jump CHAIN`.
    #[must_use]
    pub fn jump(chain: &str) -> Expr {
        Expr::Verdict(Verdict::Jump(chain.to_owned()))
    }

    /// `goto CHAIN`.
    #[must_use]
    pub fn goto(chain: &str) -> Expr {
        Expr::Verdict(Verdict::Goto(chain.to_owned()))
    }
}

fn operands(fields: &[Field]) -> Vec<Operand> {
    fields.iter().map(|field| Operand::from(*field)).collect()
}
