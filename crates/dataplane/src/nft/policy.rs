//! Policy in nftables: the same few lookups for every packet that begins something, however many policies there are.
//!
//! ```text
//!   forward, before what holds between networks
//!     established → on                        judged when it began
//!     source judged?      → egress of it      ┐  whose class is the other end (peer4, block4: a chain sets the mark)
//!     destination judged? → ingress of it     ┘  has that class rows of its own? else the rest's
//!                                                everything? no ports? whole protocol? port? range of ports?
//! ```
//!
//! The class stands in weft's own bits of the mark, and only while the packet is judged; other bits are never touched. A class is
//! one element of a map, so that a packet sees either the old class or the new one, never a mixture.

mod chains;
mod elements;
mod host;
mod phases;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weft_kernel::nft::{Diff, Expr, Family, MarkSource, Table, Tables, diff};
use weft_kernel::ours::{POLICY_MARK, POLICY_MARK_SHIFT};
use weft_plan::policy::difference::Pair;
use weft_plan::policy::{Class, Difference, PolicyPlan, Subject};

use self::chains::Judge;
pub use self::phases::phases;

/// The netlink group to which denials are logged.
pub const LOG_GROUP: u16 = 119;

/// Adds what a plan's policies need to the tables.
pub fn fill(plan: &PolicyPlan, tables: &mut Tables) {
    let Some(frame) = &plan.frame else { return };
    let table = tables.entry(super::name(Family::Inet)).or_default();
    let number = |class: &Class| plan.classes.get(class).copied();
    chains::declare(table, frame);
    chains::fixed(table, frame);
    chains::of_classes(table, plan.classes.iter().map(|(class, number)| (*class, *number)));
    for subject in plan.subjects.values() {
        chains::of_subject(table, subject);
        elements::of_subject(table, &number, subject, |_| None);
    }
    if let Some(subject) = &plan.host {
        host::fill(table, subject, &plan.failsafe, &number);
    }
    elements::of_peers(table, &number, plan.peers.iter().map(|(address, class)| (*address, *class)));
    elements::of_blocks(
        table,
        &number,
        plan.blocks.iter().map(|(first, (last, class))| (*first, *last, *class)),
    );
}

/// The steps that a difference asks for, without asking the kernel: nothing but what differs is looked at. `plan` is the
/// plan that it leads to.
#[must_use]
pub fn change(difference: &Difference, plan: &PolicyPlan) -> Diff {
    if difference.is_empty() {
        return Diff::default();
    }
    let mut same = Same::default();
    let (old, new) = (side(difference, plan, &mut same, false), side(difference, plan, &mut same, true));
    // The tables themselves must not seem to come or go.
    let name = super::name(Family::Inet);
    diff(&Tables::from([(name.clone(), new)]), &Tables::from([(name, old)]))
}

/// Classes whose rows differ, by the tables that were compared: many workloads share them.
type Same = HashMap<[*const weft_plan::policy::Table; 2], Arc<BTreeSet<Class>>>;

/// One side of a difference, as what of the table it makes.
fn side(difference: &Difference, plan: &PolicyPlan, same: &mut Same, after: bool) -> Table {
    let mut table = Table::default();
    let Some(frame) = of(&difference.frame, after) else {
        chains::idle(&mut table);
        return table;
    };
    let number = |class: &Class| match difference.classes.get(class) {
        Some(pair) => of(pair, after).copied(),
        None => plan.classes.get(class).copied(),
    };
    chains::declare(&mut table, frame);
    // The fixed rules follow from the frame: where both sides have the same, neither needs to show them.
    if difference.frame.0 != difference.frame.1 {
        chains::fixed(&mut table, frame);
    }
    let classes = difference.classes.iter();
    let classes = classes.filter_map(|(class, pair)| Some((*class, *of(pair, after)?)));
    chains::of_classes(&mut table, classes);
    for pair in difference.subjects.values() {
        let Some(subject) = of(pair, after) else { continue };
        chains::of_subject(&mut table, subject);
        let other = of(pair, !after).filter(|other| other.addresses == subject.addresses);
        let differing = |judge: Judge| {
            let theirs = |subject: &Subject| {
                subject.judged(judge.direction)?.table(judge.audit).map(std::ptr::from_ref)
            };
            let tables = [theirs(subject)?, theirs(other?)?];
            Some(tables)
        };
        let mut rows = |judge: Judge| -> Option<Arc<BTreeSet<Class>>> {
            let key = differing(judge)?;
            if let Some(known) = same.get(&key) {
                return Some(Arc::clone(known));
            }
            let own = subject.judged(judge.direction)?.table(judge.audit)?;
            let others = other?.judged(judge.direction)?.table(judge.audit)?;
            let found = Arc::new(differ(own, others));
            same.insert(key, Arc::clone(&found));
            Some(found)
        };
        elements::of_subject(&mut table, &number, subject, &mut rows);
    }
    if let Some(subject) = difference.host.as_ref().and_then(|pair| of(pair, after)) {
        host::fill(&mut table, subject, &difference.failsafe[usize::from(after)], &number);
    }
    let peers = difference.peers.iter();
    elements::of_peers(&mut table, &number, peers.filter_map(|(at, pair)| Some((*at, *of(pair, after)?))));
    let blocks = difference.blocks.iter().filter_map(|(first, pair)| {
        let (last, class) = of(pair, after)?;
        Some((*first, *last, *class))
    });
    elements::of_blocks(&mut table, &number, blocks);
    table
}

/// The classes that two tables treat differently; [`Class::REST`] if it is the rest.
fn differ(one: &weft_plan::policy::Table, other: &weft_plan::policy::Table) -> BTreeSet<Class> {
    let rows = one.rows.iter().filter(|(class, row)| other.rows.get(class) != Some(row));
    let lacking = other.rows.iter().filter(|(class, _)| !one.rows.contains_key(class));
    let rest = (one.rest != other.rest).then_some(Class::REST);
    rows.chain(lacking).map(|(class, _)| *class).chain(rest).collect()
}

fn of<T>(pair: &Pair<T>, after: bool) -> Option<&T> {
    if after { pair.1.as_ref() } else { pair.0.as_ref() }
}

/// The numbers that classes have in the kernel: a restart must not give them to others.
#[must_use]
pub fn numbers(tables: &Tables) -> BTreeMap<Class, u16> {
    let mut found = BTreeMap::new();
    let Some(table) = tables.get(&super::name(Family::Inet)) else { return found };
    for (name, chain) in &table.chains {
        if !name.starts_with(chains::CLASS) {
            continue;
        }
        for rule in &chain.rules {
            let digest = rule.comment.as_deref().and_then(|c| c.strip_prefix(chains::CLASS_COMMENT));
            let class = digest.and_then(|digest| u64::from_str_radix(digest, 16).ok());
            let number = rule.expressions.iter().find_map(|expression| match expression {
                Expr::SetMark { to: MarkSource::Bits { flip, .. }, .. } => {
                    u16::try_from((flip & POLICY_MARK) >> POLICY_MARK_SHIFT).ok()
                }
                _ => None,
            });
            if let (Some(class), Some(number)) = (class, number) {
                found.insert(Class(class), number);
            }
        }
    }
    found
}

/// The mark of a class's number.
fn mark(number: u16) -> u32 {
    (u32::from(number) << POLICY_MARK_SHIFT) & POLICY_MARK
}
