//! A change of policy as batches, between which packets under way are waited for.
//!
//! A batch is atomic per lookup, not per packet (DESIGN.md §15): a packet may see some sets as they were before one batch and the later
//! ones as they are behind it, but never more than one batch if the next waits for it. What it asks for, in order:
//!
//! ```text
//!   is the workload judged? → class of the other end → has the class rows of its own here? → what passes for it, or else for the rest
//!        isolated                 peer, block                   rows                          open, others, protocols, ports, span
//! ```
//!
//! So that no packet is let through that is denied before and after, and none is dropped that is permitted before and after:
//!
//! 1. who is judged no more is so at once, and new chains are made: whoever walks by the rules of before would find them empty;
//! 2. whoever comes into a class that is new (its rows are new too, and nobody sees them before) leaves its old one;
//! 3. classes get rows of their own where they were treated like the rest;
//! 4. what passes grows; 5. what passes shrinks: nobody is under way any more who is not to see that;
//! 6. whoever comes into a class that was there, or to the rest, leaves its own, and who is judged from now on is so;
//! 7. classes lose their rows and are treated like the rest; 8. what nobody sees any more goes.
//!
//! Most changes have one or two of these. What is not seen before somebody is judged needs no batch of its own.

use std::collections::BTreeSet;

use weft_kernel::nft::{Datum, Diff, Item, Key, Op, Value, Verdict};

use super::chains::CLASS;
use super::mark;

/// Sets of one judge that say what passes.
const CONTENTS: [&str; 5] = ["open", "others", "protocols", "ports", "span"];

/// When a step is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    First,
    NewClasses,
    NewRows,
    Grow,
    Shrink,
    Join,
    FewerRows,
    Clean,
}

impl Phase {
    const ALL: [Phase; 8] = [
        Phase::First,
        Phase::NewClasses,
        Phase::NewRows,
        Phase::Grow,
        Phase::Shrink,
        Phase::Join,
        Phase::FewerRows,
        Phase::Clean,
    ];
}

/// What a set of policy's is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Isolated,
    Class,
    Rows,
    Contents,
    Other,
}

/// The steps in batches. Each is acceptable to the kernel behind the one before it; after all of them all is done. Between two of them packets
/// under way are to be waited for.
#[must_use]
pub fn phases(diff: Diff) -> Vec<Vec<Op>> {
    let whole = |op: &Op| matches!(op, Op::AddTable(_) | Op::DeleteTable(_));
    if diff.install.iter().chain(&diff.remove).any(whole) {
        return [diff.install, diff.remove].into_iter().filter(|batch| !batch.is_empty()).collect();
    }
    let known = Known::of(&diff);
    let mut batches: [Vec<Op>; 8] = Default::default();
    for op in diff.install {
        known.install(op, &mut |phase, op| batches[phase as usize].push(op));
    }
    for op in diff.remove {
        known.remove(op, &mut |phase, op| batches[phase as usize].push(op));
    }
    judged_with_the_last(&mut batches);
    batches.into_iter().filter(|batch| !batch.is_empty()).collect()
}

/// Who is judged from now on finds all that he asks for in one batch with it, unless somebody is still to change his class.
fn judged_with_the_last(batches: &mut [Vec<Op>; 8]) {
    let only = |op: &Op| matches!(op, Op::AddElements { set, .. } if role(set) == Role::Isolated);
    if !batches[Phase::Shrink as usize].is_empty() || !batches[Phase::Join as usize].iter().all(only) {
        return;
    }
    let joining = std::mem::take(&mut batches[Phase::Join as usize]);
    let grown = [Phase::Grow, Phase::NewRows].into_iter().find(|phase| !batches[*phase as usize].is_empty());
    batches[grown.unwrap_or(Phase::NewClasses) as usize].extend(joining);
}

/// What the whole change does, as far as single steps must know it.
#[derive(Debug, Default)]
struct Known {
    /// Marks of classes that are new.
    classes: BTreeSet<Value>,
    /// Chains that are new.
    chains: BTreeSet<String>,
    /// (Judge, workload) that are judged from now on, and no more.
    isolated: BTreeSet<(String, Key)>,
    free: BTreeSet<(String, Key)>,
    /// (Judge, class and workload) that get rows of their own, and lose them.
    new_rows: BTreeSet<(String, Key)>,
    lost_rows: BTreeSet<(String, Key)>,
    /// (Set, address) whose class was there before, with an empty key for a set of ranges.
    joins: BTreeSet<(String, Key)>,
    /// Whether lookups of ranges of ports go, and come.
    shorter: bool,
    longer: bool,
    /// Whether the host is judged no more in some direction.
    host_free: bool,
}

impl Known {
    fn of(diff: &Diff) -> Known {
        let mut known = Known::default();
        for op in &diff.install {
            match op {
                Op::AddChain { chain, .. } => {
                    known.classes.extend(number(chain).map(|number| Value::mark(mark(number))));
                    known.chains.insert(chain.clone());
                }
                Op::AddSet { set, .. } if role(set) == Role::Contents => known.longer = true,
                Op::AddElements { set, interval, elements, .. } if role(set) == Role::Class => {
                    let joining = elements
                        .iter()
                        .filter(|(key, datum)| known.comes(set, key, datum.as_ref()) == Phase::Join);
                    let keys = joining.map(|(key, _)| if *interval { Key(Vec::new()) } else { key.clone() });
                    let keys: Vec<(String, Key)> = keys.map(|key| (set.clone(), key)).collect();
                    known.joins.extend(keys);
                }
                Op::AddElements { set, elements, .. } => {
                    let keys = elements.iter().map(|(key, _)| (judge(set), key.clone()));
                    match role(set) {
                        Role::Isolated => known.isolated.extend(keys),
                        Role::Rows => known.new_rows.extend(keys),
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        for op in &diff.remove {
            match op {
                Op::DeleteSet { set, .. } if role(set) == Role::Contents => known.shorter = true,
                Op::DeleteChain { chain, .. } => {
                    known.host_free |=
                        matches!(chain.as_str(), "host_in" | "host_out" | "audit_host_in" | "audit_host_out");
                }
                Op::DeleteElements { set, keys, .. } => {
                    let keys = keys.iter().map(|key| (judge(set), key.clone()));
                    match role(set) {
                        Role::Isolated => known.free.extend(keys),
                        Role::Rows => known.lost_rows.extend(keys),
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        known
    }

    fn install(&self, op: Op, put: &mut dyn FnMut(Phase, Op)) {
        match op {
            Op::AddElements { table, set, interval, elements } => {
                let phase = |key: &Key, datum: Option<&Datum>| self.comes(&set, key, datum);
                let mut parts: [Vec<(Key, Option<Datum>)>; 8] = Default::default();
                // Ranges that take the place of others come and go as one.
                let one =
                    interval.then(|| latest(elements.iter().map(|(key, datum)| phase(key, datum.as_ref()))));
                for (key, datum) in elements {
                    let at = one.unwrap_or_else(|| phase(&key, datum.as_ref()));
                    parts[at as usize].push((key, datum));
                }
                for (phase, elements) in
                    Phase::ALL.into_iter().zip(parts).filter(|(_, part)| !part.is_empty())
                {
                    put(
                        phase,
                        Op::AddElements { table: table.clone(), set: set.clone(), interval, elements },
                    );
                }
            }
            // The other half of what takes another's place.
            Op::DeleteElements { table, set, interval, keys } if role(&set) == Role::Class => {
                let joins = |key: &Key| {
                    self.joins.contains(&(set.clone(), if interval { Key(Vec::new()) } else { key.clone() }))
                };
                let (late, early): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(joins);
                for (phase, keys) in [(Phase::NewClasses, early), (Phase::Join, late)] {
                    if !keys.is_empty() {
                        put(
                            phase,
                            Op::DeleteElements { table: table.clone(), set: set.clone(), interval, keys },
                        );
                    }
                }
            }
            Op::AddChain { ref chain, .. }
            | Op::FlushChain { ref chain, .. }
            | Op::AddRule { ref chain, .. } => {
                let phase = self.rules(chain);
                put(phase, op);
            }
            Op::AddSet { .. } => put(Phase::First, op),
            other => put(Phase::NewClasses, other),
        }
    }

    fn remove(&self, op: Op, put: &mut dyn FnMut(Phase, Op)) {
        let Op::DeleteElements { table, set, interval, keys } = op else { return put(Phase::Clean, op) };
        let mut parts: [Vec<Key>; 8] = Default::default();
        for key in keys {
            parts[self.goes(&set, &key) as usize].push(key);
        }
        for (phase, keys) in Phase::ALL.into_iter().zip(parts).filter(|(_, part)| !part.is_empty()) {
            put(phase, Op::DeleteElements { table: table.clone(), set: set.clone(), interval, keys });
        }
    }

    /// When the rules of a chain become others.
    fn rules(&self, chain: &str) -> Phase {
        match chain {
            "host_input" | "host_output" if self.host_free => Phase::First,
            "host_input" | "host_output" => Phase::Join,
            _ if self.chains.contains(chain) => Phase::First,
            _ if self.shorter && self.longer => Phase::Grow,
            _ if self.shorter => Phase::Clean,
            _ => Phase::NewClasses,
        }
    }

    fn comes(&self, set: &str, key: &Key, datum: Option<&Datum>) -> Phase {
        let judge = judge(set);
        let unseen = || {
            let of_class = key.0.first().is_some_and(|mark| self.classes.contains(&mark.first()));
            of_class || self.isolated.contains(&(judge.clone(), own(key))) || self.is_new_host(&judge)
        };
        match role(set) {
            Role::Isolated => Phase::Join,
            Role::Class => match datum {
                Some(Datum::Verdict(Verdict::Goto(chain))) if self.chains.contains(chain) => {
                    Phase::NewClasses
                }
                _ => Phase::Join,
            },
            Role::Rows if unseen() => Phase::NewClasses,
            Role::Rows => Phase::NewRows,
            Role::Contents
                if unseen() || self.new_rows.contains(&(judge.clone(), class_and_own(key, &judge))) =>
            {
                Phase::NewClasses
            }
            Role::Contents => Phase::Grow,
            Role::Other => Phase::NewClasses,
        }
    }

    fn goes(&self, set: &str, key: &Key) -> Phase {
        let judge = judge(set);
        match role(set) {
            Role::Isolated => Phase::First,
            Role::Class => Phase::Join,
            _ if self.free.contains(&(judge.clone(), own(key))) => Phase::Clean,
            Role::Rows => Phase::FewerRows,
            Role::Contents if self.lost_rows.contains(&(judge.clone(), class_and_own(key, &judge))) => {
                Phase::Clean
            }
            Role::Contents => Phase::Shrink,
            Role::Other => Phase::Clean,
        }
    }

    /// The host is judged in a direction from now on: its chain is new.
    fn is_new_host(&self, judge: &str) -> bool {
        judge.contains("host") && self.chains.contains(judge)
    }
}

fn latest(phases: impl Iterator<Item = Phase>) -> Phase {
    phases.max().unwrap_or(Phase::NewClasses)
}

/// The number of the class whose chain this is.
fn number(chain: &str) -> Option<u16> {
    chain.strip_prefix(CLASS)?.parse().ok()
}

fn role(set: &str) -> Role {
    let name = set.trim_end_matches(['4', '6']);
    let is = |word: &str| name.ends_with(&format!("_{word}"));
    if matches!(name, "peer" | "block") {
        Role::Class
    } else if !set.starts_with("in_")
        && !set.starts_with("out_")
        && !set.starts_with("audit_")
        && !set.starts_with("host_")
    {
        Role::Other
    } else if is("isolated") {
        Role::Isolated
    } else if is("rows") {
        Role::Rows
    } else if CONTENTS.iter().any(|word| is(word)) || set.contains("_span") {
        Role::Contents
    } else {
        Role::Other
    }
}

/// Whose set it is: `in_ports4` is of `in4`, `audit_host_out_span_12` of `audit_host_out`.
fn judge(set: &str) -> String {
    let direction = |part: &&str| matches!(*part, "in" | "out");
    let mut name: Vec<&str> = Vec::new();
    for part in set.split('_') {
        name.push(part);
        if direction(&part) {
            break;
        }
    }
    let name = name.join("_");
    if name.contains("host") {
        return name;
    }
    // `in_span4_12` has its family in the middle.
    let family = set
        .split('_')
        .find_map(|part| part.chars().last().filter(|c| matches!(c, '4' | '6') && part.len() > 2));
    family.map_or(name.clone(), |family| format!("{name}{family}"))
}

/// The workload in a key: alone, or behind the class.
fn own(key: &Key) -> Key {
    let at = usize::from(matches!(key.0.first(), Some(Item::One(Value::Number(..)))));
    Key(key.0.get(at).into_iter().copied().collect())
}

/// What a key has in common with that of `rows`; of the host's sets the class alone.
fn class_and_own(key: &Key, judge: &str) -> Key {
    let parts = if judge.contains("host") { 1 } else { 2 };
    Key(key.0.iter().take(parts).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sets_say_what_they_are_for() {
        for (set, wanted, of) in [
            ("in_isolated4", Role::Isolated, "in4"),
            ("audit_out_isolated6", Role::Isolated, "audit_out6"),
            ("in_rows4", Role::Rows, "in4"),
            ("host_in_rows", Role::Rows, "host_in"),
            ("in_ports6", Role::Contents, "in6"),
            ("in_span4_12", Role::Contents, "in4"),
            ("host_out_span_4", Role::Contents, "host_out"),
            ("audit_host_in_open", Role::Contents, "audit_host_in"),
            ("out_protocols4", Role::Contents, "out4"),
            ("in_denied4", Role::Other, "in4"),
        ] {
            assert_eq!((role(set), judge(set).as_str()), (wanted, of), "{set}");
        }
        for (set, wanted) in [
            ("peer4", Role::Class),
            ("block6", Role::Class),
            ("guard4", Role::Other),
            ("host_failsafe_in", Role::Other),
        ] {
            assert_eq!(role(set), wanted, "{set}");
        }
    }
}
