//! Policy in nftables: the same few lookups for every packet that begins something, however many policies there are.
//!
//! ```text
//!   forward, before all else of weft's
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

use std::collections::BTreeMap;

use weft_kernel::nft::{Diff, Expr, Family, MarkSource, Table, Tables, diff};
use weft_kernel::ours::{POLICY_MARK, POLICY_MARK_SHIFT};
use weft_plan::policy::{Class, PolicyPlan, Subject};

use self::elements::Lengths;
pub use self::phases::phases;

/// The netlink group to which denials are logged.
pub const LOG_GROUP: u16 = 119;

/// Adds what a plan's policies need to the tables.
pub fn fill(plan: &PolicyPlan, tables: &mut Tables) {
    if plan.is_idle() {
        return;
    }
    let table = tables.entry(super::name(Family::Inet)).or_default();
    let lengths = Lengths::of(plan);
    chains::declare(table, &lengths);
    chains::fixed(table, &lengths);
    chains::of_classes(table, plan.classes.iter().map(|(class, number)| (*class, *number)));
    for subject in plan.subjects.values() {
        chains::of_subject(table, subject);
        elements::of_subject(table, plan, subject);
    }
    of_host(table, plan, plan.host.as_ref());
    elements::of_peers(table, plan, plan.peers.iter().map(|(address, class)| (*address, *class)));
    elements::of_blocks(table, plan);
}

fn of_host(table: &mut Table, plan: &PolicyPlan, host: Option<&Subject>) {
    if let Some(host) = host {
        host::fill(table, host, &plan.failsafe, &|class| plan.classes.get(class).copied());
    }
}

/// The steps from one plan's policies to another's, without asking the kernel: only what differs is looked at.
#[must_use]
pub fn change(before: &PolicyPlan, after: &PolicyPlan) -> Diff {
    let (mut old, mut new) = (partial(before, after), partial(after, before));
    // What is shared is not in either; the tables themselves must not seem to come or go.
    let name = super::name(Family::Inet);
    old.entry(name.clone()).or_default();
    new.entry(name).or_default();
    diff(&new, &old)
}

/// The tables of a plan, without what the other has just so.
fn partial(plan: &PolicyPlan, other: &PolicyPlan) -> Tables {
    let differs = |number: &(&Class, &u16)| other.classes.get(number.0) != Some(number.1);
    let part = PolicyPlan {
        subjects: plan
            .subjects
            .iter()
            .filter(|(id, subject)| other.subjects.get(*id) != Some(*subject))
            .map(|(id, subject)| (id.clone(), subject.clone()))
            .collect(),
        peers: plan
            .peers
            .iter()
            .filter(|(address, class)| other.peers.get(address) != Some(class))
            .map(|(address, class)| (*address, *class))
            .collect(),
        blocks: plan.blocks.iter().filter(|block| !other.blocks.contains(block)).copied().collect(),
        classes: plan.classes.clone(),
        ..PolicyPlan::default()
    };
    let mut tables = Tables::default();
    if plan.is_idle() {
        return tables;
    }
    let table = tables.entry(super::name(Family::Inet)).or_default();
    let lengths = Lengths::of(plan);
    chains::declare(table, &lengths);
    chains::fixed(table, &lengths);
    chains::of_classes(table, plan.classes.iter().filter(differs).map(|(class, number)| (*class, *number)));
    for subject in part.subjects.values() {
        chains::of_subject(table, subject);
        elements::of_subject(table, plan, subject);
    }
    if plan.host != other.host || plan.failsafe != other.failsafe {
        of_host(table, plan, plan.host.as_ref());
    }
    elements::of_peers(table, plan, part.peers.iter().map(|(address, class)| (*address, *class)));
    elements::of_blocks(table, &part);
    tables
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
