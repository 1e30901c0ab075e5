//! From what is found to what is wanted. Pure.
//!
//! Both sides are walked: what only the kernel has goes too. Unchanged parts cost no step, and elements
//! alone never touch rules.

use std::collections::BTreeMap;

use super::depend::canonical;
use super::model::{Chain, Family, Set, Table, TableName, Tables};
use super::op::{Op, creation};
use super::value::{Datum, Elements, Key};

/// Steps in two batches: what makes new things work, and what takes old things away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// To be applied before links and routes appear: tables, chains, sets, new and changed elements, rules.
    pub install: Vec<Op>,
    /// To be applied after links and routes are gone: elements, sets, chains and tables that are not wanted.
    pub remove: Vec<Op>,
}

impl Diff {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.install.is_empty() && self.remove.is_empty()
    }
}

/// Above this many comparisons, keys that overlap are not looked for one by one.
const COMPARISONS: usize = 1_000_000;

/// The steps from `found` to `wanted`: each batch is accepted by the kernel if `found` is what it holds,
/// and after both it holds `wanted`. Give only own tables as `found`.
///
/// A table whose sets' declarations or base chains' hooks differ is made anew in one transaction.
#[must_use]
pub fn diff(wanted: &Tables, found: &Tables) -> Diff {
    let mut diff = Diff::default();
    for (name, table) in wanted {
        match found.get(name) {
            None => diff.install.extend(creation(name, table)),
            Some(old) if !alike(table, old) => {
                // Added first, so that the batch also holds if somebody has deleted the table meanwhile.
                diff.install.extend([Op::AddTable(name.clone()), Op::DeleteTable(name.clone())]);
                diff.install.extend(creation(name, table));
            }
            Some(old) => change(&mut diff, name, table, old),
        }
    }
    for name in found.keys().filter(|name| !wanted.contains_key(*name)) {
        diff.remove.push(Op::DeleteTable(name.clone()));
    }
    diff
}

/// Whether one can become the other by steps within the table.
fn alike(wanted: &Table, found: &Table) -> bool {
    let set = |(name, set): (&String, &Set)| {
        found.sets.get(name).is_none_or(|old| old.declaration == set.declaration)
    };
    let chain = |(name, chain): (&String, &Chain)| {
        found.chains.get(name).is_none_or(|old| match (&chain.base, &old.base) {
            (None, None) => true,
            (Some(new), Some(old)) => {
                (new.kind, new.hook, new.priority, new.device)
                    == (old.kind, old.hook, old.priority, old.device)
            }
            _ => false,
        })
    };
    found.foreign.is_empty() && wanted.sets.iter().all(set) && wanted.chains.iter().all(chain)
}

fn change(diff: &mut Diff, name: &TableName, wanted: &Table, found: &Table) {
    chains(diff, name, wanted, found);
    for (set, new) in &wanted.sets {
        match found.sets.get(set) {
            Some(old) if new.declaration.dynamic && old.declaration.dynamic => {} // packets change it
            Some(old) => elements(diff, name, set, new, old),
            None => {
                diff.install.push(Op::AddSet {
                    table: name.clone(),
                    set: set.clone(),
                    declaration: new.declaration.clone(),
                });
                elements(diff, name, set, new, &new.declaration.clone().empty());
            }
        }
    }
    rules(diff, name, wanted, found);
    obsolete(diff, name, wanted, found);
}

/// New chains, and base chains with a new policy.
fn chains(diff: &mut Diff, name: &TableName, wanted: &Table, found: &Table) {
    for (chain, new) in &wanted.chains {
        if found.chains.get(chain).is_none_or(|old| old.base != new.base) {
            diff.install.push(Op::AddChain {
                table: name.clone(),
                chain: chain.clone(),
                base: new.base.clone(),
            });
        }
    }
}

fn elements(diff: &mut Diff, table: &TableName, set: &str, wanted: &Set, found: &Set) {
    let interval = wanted.declaration.interval;
    let mut added: Vec<(Key, Option<Datum>)> = Vec::new();
    let mut replaced: Vec<Key> = Vec::new();
    for (key, datum) in &wanted.elements {
        match found.elements.get(key) {
            Some(old) if old == datum => continue,
            Some(_) => replaced.push(key.clone()),
            None => {}
        }
        added.push((key.clone(), datum.clone()));
    }
    let mut gone: Vec<Key> =
        found.elements.keys().filter(|key| !wanted.elements.contains_key(*key)).cloned().collect();
    // What stands in the way of something new must go with it, not after it.
    let full = wanted.declaration.size.is_some_and(|size| found.elements.len() + added.len() > size as usize);
    if interval || full {
        let new: Vec<&Key> = added.iter().map(|(key, _)| key).collect();
        let many = gone.len().saturating_mul(new.len()) > COMPARISONS;
        let (first, later): (Vec<Key>, Vec<Key>) =
            gone.into_iter().partition(|old| full || many || new.iter().any(|new| new.overlaps(old)));
        replaced.extend(first);
        gone = later;
    }
    let delete = |keys| Op::DeleteElements { table: table.clone(), set: set.to_owned(), interval, keys };
    if !replaced.is_empty() {
        diff.install.push(delete(replaced));
    }
    if !added.is_empty() {
        diff.install.push(Op::AddElements {
            table: table.clone(),
            set: set.to_owned(),
            interval,
            elements: added,
        });
    }
    if !gone.is_empty() {
        diff.remove.push(delete(gone));
    }
}

/// Chains whose rules differ get all of them anew.
fn rules(diff: &mut Diff, name: &TableName, wanted: &Table, found: &Table) {
    for (chain, new) in &wanted.chains {
        let old = found.chains.get(chain);
        if old.is_some_and(|old| same(name.family, new, old)) {
            continue;
        }
        if old.is_some_and(|old| !old.rules.is_empty()) {
            diff.install.push(Op::FlushChain { table: name.clone(), chain: chain.clone() });
        }
        diff.install.extend(new.rules.iter().map(|rule| Op::AddRule {
            table: name.clone(),
            chain: chain.clone(),
            rule: rule.clone(),
        }));
    }
}

fn same(family: Family, new: &Chain, old: &Chain) -> bool {
    new.rules == old.rules
        || (new.rules.len() == old.rules.len()
            && new.rules.iter().zip(&old.rules).all(|(new, old)| {
                new.comment == old.comment && canonical(family, new) == canonical(family, old)
            }))
}

/// Sets and chains that are not wanted, after everything that refers to them.
fn obsolete(diff: &mut Diff, name: &TableName, wanted: &Table, found: &Table) {
    let gone_chains: Vec<&String> = keys(&found.chains, &wanted.chains);
    let gone_sets: Vec<&String> = keys(&found.sets, &wanted.sets);
    for chain in gone_chains.iter().filter(|chain| !found.chains[**chain].rules.is_empty()) {
        diff.remove.push(Op::FlushChain { table: name.clone(), chain: (**chain).clone() });
    }
    for set in gone_sets {
        let Set { declaration, elements } = &found.sets[set];
        // Kernels before 6.4 let go of chains only when elements are deleted, not with their set.
        if leads_somewhere(elements) {
            diff.remove.push(Op::DeleteElements {
                table: name.clone(),
                set: set.clone(),
                interval: declaration.interval,
                keys: elements.keys().cloned().collect(),
            });
        }
        diff.remove.push(Op::DeleteSet { table: name.clone(), set: set.clone() });
    }
    for chain in gone_chains {
        diff.remove.push(Op::DeleteChain { table: name.clone(), chain: chain.clone() });
    }
}

fn leads_somewhere(elements: &Elements) -> bool {
    elements.values().any(|datum| matches!(datum, Some(Datum::Verdict(verdict)) if verdict.chain().is_some()))
}

fn keys<'a, T>(found: &'a BTreeMap<String, T>, wanted: &BTreeMap<String, T>) -> Vec<&'a String> {
    found.keys().filter(|key| !wanted.contains_key(*key)).collect()
}
