//! Walking a packet through a chain whose rules are understood in part.

use weft_kernel::nft::{Compare, Expr, ForeignTable, Glance, Operand, Policy, Right, Verdict};

use super::packet::{Packet, value_bytes};

/// Chains nested deeper than the kernel allows (NFT_JUMP_STACK_SIZE) are not followed.
const DEEPEST: usize = 16;

/// What becomes of a packet in a base chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is accepted, or nothing concerns it.
    Passes,
    /// It is dropped, for certain.
    Dropped {
        /// By what.
        by: String,
    },
    /// It may be dropped: a rule that drops, or one before it that accepts, is not understood wholly.
    Perhaps {
        /// By what.
        by: String,
    },
}

/// How a chain was left.
enum End {
    Accept,
    Drop(String),
    /// By its end, or by `return`.
    Through,
}

struct Walk<'a> {
    table: &'a ForeignTable,
    packet: &'a Packet,
    perhaps_accepted: bool,
    perhaps_dropped: Option<String>,
}

/// Whether a rule's conditions hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Yes,
    No,
    Perhaps,
}

pub(super) fn fate(table: &ForeignTable, chain: &str, packet: &Packet) -> Fate {
    let mut walk = Walk { table, packet, perhaps_accepted: false, perhaps_dropped: None };
    let end = walk.through(chain, 0);
    let policy = table.chains.get(chain).and_then(|c| c.base.as_ref()).map(|b| b.policy);
    let dropped = match end {
        End::Accept => None,
        End::Drop(by) => Some(by),
        End::Through => (policy == Some(Policy::Drop)).then(|| format!("the policy of chain {chain}")),
    };
    match (dropped, walk.perhaps_dropped) {
        (Some(by), _) if !walk.perhaps_accepted => Fate::Dropped { by },
        (Some(by), _) | (None, Some(by)) => Fate::Perhaps { by },
        (None, None) => Fate::Passes,
    }
}

impl Walk<'_> {
    fn through(&mut self, chain: &str, depth: usize) -> End {
        let Some(found) = self.table.chains.get(chain).filter(|_| depth < DEEPEST) else {
            self.perhaps_accepted = true;
            return End::Through;
        };
        for (number, rule) in found.rules.iter().enumerate() {
            let holds = holds(rule, self.packet);
            if holds == Holds::No {
                continue;
            }
            if rule.opaque {
                self.perhaps_accepted = true;
            }
            let by = || match &rule.comment {
                Some(comment) => format!("rule {} (\"{comment}\") of chain {chain}", number + 1),
                None => format!("rule {} of chain {chain}", number + 1),
            };
            let end = match &rule.verdict {
                None | Some(Verdict::Continue) => continue,
                Some(Verdict::Accept) => End::Accept,
                Some(Verdict::Drop) => End::Drop(by()),
                Some(Verdict::Return) => End::Through,
                Some(Verdict::Jump(to)) => match self.through(to, depth + 1) {
                    End::Through => continue,
                    end => end,
                },
                Some(Verdict::Goto(to)) => self.through(to, depth + 1),
            };
            match (holds, end) {
                (Holds::Yes, end) => return end,
                (_, End::Accept) => self.perhaps_accepted = true,
                (_, End::Drop(by)) => {
                    self.perhaps_dropped.get_or_insert(by);
                }
                (_, End::Through) => {}
            }
        }
        End::Through
    }
}

fn holds(rule: &Glance, packet: &Packet) -> Holds {
    let mut all = if rule.unsure { Holds::Perhaps } else { Holds::Yes };
    for expression in &rule.matches {
        let one = match expression {
            Expr::Match { left, compare, right } => compared(left, *compare, right, packet),
            Expr::Lookup { .. } | Expr::Limit { .. } | Expr::VerdictMap { .. } | Expr::Foreign(_) => {
                Holds::Perhaps
            }
            // Statements: they look at nothing.
            _ => Holds::Yes,
        };
        match one {
            Holds::No => return Holds::No,
            Holds::Perhaps => all = Holds::Perhaps,
            Holds::Yes => {}
        }
    }
    all
}

fn compared(left: &Operand, compare: Compare, right: &Right, packet: &Packet) -> Holds {
    let Some(mut bytes) = packet.bytes(left.field) else { return Holds::Perhaps };
    if let Some(mask) = &left.mask {
        let Some(mask) = value_bytes(mask).filter(|m| m.len() == bytes.len()) else { return Holds::Perhaps };
        bytes.iter_mut().zip(mask).for_each(|(b, m)| *b &= m);
    }
    let equals = |value: &weft_kernel::nft::Value| {
        let wanted = value_bytes(value)?;
        // Beginnings of names are shorter.
        Some(
            bytes.starts_with(&wanted)
                && (wanted.len() == bytes.len() || matches!(value, weft_kernel::nft::Value::IfPrefix(_))),
        )
    };
    let equal = match right {
        Right::Value(value) => equals(value),
        Right::OneOf(values) => {
            values.iter().map(equals).try_fold(false, |any, one| one.map(|one| any || one))
        }
    };
    match (equal, compare) {
        (Some(equal), Compare::Eq) if equal => Holds::Yes,
        (Some(equal), Compare::Ne) if !equal => Holds::Yes,
        (Some(_), Compare::Eq | Compare::Ne) => Holds::No,
        _ => Holds::Perhaps,
    }
}
