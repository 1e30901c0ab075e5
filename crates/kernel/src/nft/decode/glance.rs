//! Other people's rules at a glance: what they look at as far as it is understood, and what becomes of a packet.
//!
//! Unlike `expressions`, which is all or nothing, this goes on behind what it does not know, and says so.

use super::{Anonymous, Reader, number};
use crate::netlink::attributes;
use crate::nft::depend::Context;
use crate::nft::expression::{Compare, Expr, Operand, Right};
use crate::nft::field::Field;
use crate::nft::model::Family;
use crate::nft::types::Type;
use crate::nft::value::{Value, Verdict};
use crate::nft::wire::table;

/// A rule of somebody else's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Glance {
    /// The conditions that are understood, in order; statements without influence on the verdict too.
    pub matches: Vec<Expr>,
    /// Whether it has conditions that are not understood: it may match less than `matches` say.
    pub unsure: bool,
    /// What becomes of packets that match; `None` if that is for the next rules to say.
    pub verdict: Option<Verdict>,
    /// Whether it may decide in ways that are not understood (a map of verdicts, an unknown target).
    pub opaque: bool,
    /// Its comment.
    pub comment: Option<String>,
}

/// Targets of xtables that only note or mark.
const HARMLESS: [&str; 9] =
    ["LOG", "NFLOG", "MARK", "CONNMARK", "TCPMSS", "CLASSIFY", "DSCP", "TRACE", "AUDIT"];

/// Reads a rule's list of expressions.
pub(in crate::nft) fn glance(family: Family, list: &[u8], anonymous: &Anonymous) -> Glance {
    let mut reader =
        Reader { anonymous, context: Context::new(family), pending: Vec::new(), done: Vec::new() };
    let mut seen = Glance::default();
    for element in attributes(list) {
        let [_, name, data] = table::<3>(element.value);
        let body = data.map_or(&[][..], |data| data.value);
        match name.and_then(|name| name.text()) {
            Some("match") => match extension(body) {
                Some(Some(condition)) => reader.done.push(condition),
                Some(None) => {}
                None => seen.unsure = true,
            },
            Some("target") => {
                let [_, name] = table::<2>(body);
                match name.and_then(|name| name.text()) {
                    Some("REJECT") => seen.verdict = Some(Verdict::Drop),
                    Some(name) if HARMLESS.contains(&name) => {}
                    _ => seen.opaque = true,
                }
            }
            Some(name) => {
                if reader.step(name, body).is_none() {
                    reader.pending.clear();
                    seen.unsure = true;
                    // A look-up whose result is a verdict: register 0.
                    seen.opaque |= name == "lookup" && number(table::<4>(body)[3]) == Some(0);
                }
            }
            None => seen.unsure = true,
        }
    }
    seen.unsure |= !reader.pending.is_empty();
    for expression in reader.done {
        match expression {
            Expr::Verdict(verdict) => seen.verdict = Some(verdict),
            Expr::Reject(_) => seen.verdict = Some(Verdict::Drop),
            Expr::VerdictMap { .. } => seen.opaque = true,
            other => seen.matches.push(other),
        }
    }
    seen
}

/// A condition of xtables: `Some(None)` if it has no influence, `None` if it is not understood.
fn extension(body: &[u8]) -> Option<Option<Expr>> {
    let [_, name, revision, info] = table::<4>(body);
    match name?.text()? {
        "comment" => Some(None),
        "conntrack" => states(number(revision)?, info?.value).map(Some),
        _ => None,
    }
}

/// `-m conntrack --ctstate`: linux/netfilter/xt_conntrack.h, struct xt_conntrack_mtinfo3.
fn states(revision: u32, info: &[u8]) -> Option<Expr> {
    const STATE: u16 = 1; // XT_CONNTRACK_STATE
    // Bits of invalid, established, related and new are the same as nftables'.
    const COMMON: u16 = 0xf;
    let half = |at: usize| Some(u16::from_ne_bytes(info.get(at..at + 2)?.try_into().ok()?));
    let (flags, inverted, states) = (half(146)?, half(148)?, half(150)?);
    if revision != 3 || flags != STATE || states & !COMMON != 0 {
        return None;
    }
    let mask = Some(Value::Number(Type::CtState, states.into()));
    let compare = if inverted & STATE == 0 { Compare::Ne } else { Compare::Eq };
    let left = Operand { field: Field::CtState, mask };
    Some(Expr::Match { left, compare, right: Right::Value(Value::Number(Type::CtState, 0)) })
}
