//! Tables, each for all workloads that the same policies select in one direction.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weft_model::AttachmentId;
use weft_model::policy::{Enforcement, NamedPorts};

use super::super::compile::prefixes;
use super::super::{Class, Frame, Judged, Row, Table};
use super::cells::Cells;
use super::clause::Clauses;
use super::matchers::Matchers;
use super::numbered::Numbered;
use super::slots::Slots;

/// What workloads have in common that share a table: direction, the policies that select them, and their named ports.
pub(super) type Key = (usize, Vec<u32>, NamedPorts);

/// A table under way.
#[derive(Debug)]
pub(super) struct Draft {
    key: Arc<Key>,
    /// Whether it is the host's: the policies that select it select nobody else.
    of_host: bool,
    /// Its policies in their order.
    ordered: Vec<u32>,
    /// Workloads; `None` is the host.
    pub(super) members: BTreeSet<Option<AttachmentId>>,
    /// What it has come to; nothing if everything passes.
    pub(super) judged: Option<Arc<Judged>>,
    /// The lengths of the prefixes that its ranges of ports come to, a bit each.
    lengths: u16,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    by_key: HashMap<Arc<Key>, u32>,
    all: Numbered<Draft>,
    /// Of those for workloads: how many have ranges of ports that come to prefixes of so many bits; how many judge, and have an audit.
    lengths: [u32; 16],
    judging: u32,
    audits: u32,
    /// How many judge the host.
    of_host: u32,
}

impl Drafts {
    pub(super) fn get(&self, id: u32) -> Option<&Draft> {
        self.all.get(id)
    }

    /// Adds a workload to those that share a table; whether that is new.
    pub(super) fn join(&mut self, key: Key, member: Option<&AttachmentId>) -> (u32, bool) {
        if let Some(id) = self.by_key.get(&key) {
            if let Some(draft) = self.all.get_mut(*id) {
                draft.members.insert(member.cloned());
            }
            return (*id, false);
        }
        let key = Arc::new(key);
        let members = [member.cloned()].into();
        let of_host = member.is_none();
        let (ordered, judged) = (Vec::new(), None);
        let id = self.all.add(Draft { key: Arc::clone(&key), of_host, ordered, members, judged, lengths: 0 });
        self.by_key.insert(key, id);
        (id, true)
    }

    /// Takes a workload out; whether it was the last one.
    pub(super) fn leave(&mut self, id: u32, member: Option<&AttachmentId>) -> bool {
        let Some(draft) = self.all.get_mut(id) else { return false };
        draft.members.remove(&member.cloned());
        draft.members.is_empty()
    }

    /// The direction and policies of a draft.
    pub(super) fn of(&self, id: u32) -> Option<(usize, &[u32])> {
        self.all.get(id).map(|draft| (draft.key.0, draft.key.1.as_slice()))
    }

    /// Forgets a draft.
    pub(super) fn remove(&mut self, id: u32, cells: &mut Cells, turned: &mut BTreeSet<Class>) {
        self.replace(id, None, cells, turned);
        if let Some(draft) = self.all.remove(id) {
            self.by_key.remove(&draft.key);
        }
    }

    /// Makes a draft's tables anew; or of these classes alone, if there is something to build upon. Returns whether
    /// they are others now; `turned` gets the classes that came into use or out of it.
    pub(super) fn derive(
        &mut self,
        id: u32,
        only: Option<&BTreeSet<Class>>,
        slots: &Slots,
        matchers: &Matchers,
        cells: &mut Cells,
        turned: &mut BTreeSet<Class>,
    ) -> bool {
        let Some(draft) = self.all.get_mut(id) else { return false };
        if only.is_none() {
            let known = draft.key.1.iter().filter_map(|id| Some((*id, slots.get(*id)?)));
            let mut ordered: Vec<_> = known.collect();
            ordered.sort_by(|(_, a), (_, b)| a.rank.cmp(&b.rank));
            draft.ordered = ordered.into_iter().map(|(id, _)| id).collect();
        }
        let (direction, _, names) = &*draft.key;
        let ordered: Vec<_> = draft.ordered.iter().filter_map(|id| slots.get(*id)).collect();
        let audited = ordered.iter().any(|slot| slot.enforcement == Enforcement::Audit);
        let enforced = ordered.iter().any(|slot| slot.enforcement == Enforcement::Enforce);
        let old = draft.judged.clone();
        let whole = |wanted: bool, table: Option<&Table>| !wanted || table.is_some();
        let build_upon = old
            .as_ref()
            .filter(|old| whole(enforced, old.enforced.as_ref()) && whole(audited, old.audit.as_ref()));
        let only = only.filter(|_| build_upon.is_some());
        let ids: Option<BTreeSet<u32>> = only.map(|only| {
            let entries = only.iter().filter_map(|class| cells.classes.get(class));
            entries.flat_map(|entry| entry.ids.iter().copied()).collect()
        });
        let make = |all: bool| {
            let of = ordered.iter().copied().filter(|s| all || s.enforcement == Enforcement::Enforce);
            let clauses = Clauses::of(of, *direction, names, ids.as_ref());
            let base =
                build_upon.and_then(|old| if all { old.audit.as_ref() } else { old.enforced.as_ref() });
            match (base, only) {
                (Some(base), Some(only)) => patch(base, only, &clauses, cells),
                _ => table(&clauses, matchers, cells),
            }
        };
        let make = |wanted: bool, all: bool| wanted.then(|| make(all)).filter(|table| !is_open(table));
        let (enforced, audit) = (make(enforced, false), make(audited, true));
        let by = match build_upon.filter(|_| only.is_some()) {
            Some(old) => Arc::clone(&old.by),
            None => ordered.iter().map(|slot| Arc::clone(&slot.name)).collect(),
        };
        let judged = (enforced.is_some() || audit.is_some()).then_some(Judged { enforced, audit, by });
        if judged.as_ref() == old.as_deref() {
            return false;
        }
        self.replace(id, judged.map(Arc::new), cells, turned);
        true
    }

    fn replace(
        &mut self,
        id: u32,
        judged: Option<Arc<Judged>>,
        cells: &mut Cells,
        turned: &mut BTreeSet<Class>,
    ) {
        let Some(draft) = self.all.get_mut(id) else { return };
        let lengths = judged.as_deref().map_or(0, lengths);
        let old = std::mem::replace(&mut draft.judged, judged);
        let former = std::mem::replace(&mut draft.lengths, lengths);
        let new = draft.judged.clone();
        let judges = |judged: &Option<Arc<Judged>>| u32::from(judged.is_some());
        if draft.of_host {
            self.of_host = self.of_host + judges(&new) - judges(&old);
        } else {
            for bits in 0..16 {
                let has = |mask: u16| u32::from(mask >> bits & 1);
                self.lengths[bits] = self.lengths[bits] + has(lengths) - has(former);
            }
            let audits =
                |judged: &Option<Arc<Judged>>| u32::from(judged.as_ref().is_some_and(|j| j.audit.is_some()));
            self.judging = self.judging + judges(&new) - judges(&old);
            self.audits = self.audits + audits(&new) - audits(&old);
        }
        let none = BTreeMap::new();
        for all in [false, true] {
            let (old, new) = (rows(old.as_deref(), all, &none), rows(new.as_deref(), all, &none));
            for class in new.keys().filter(|class| !old.contains_key(*class)) {
                if let Some(entry) = cells.classes.get_mut(class) {
                    entry.rows += 1;
                    turned.extend((entry.rows == 1).then_some(*class));
                }
            }
            for class in old.keys().filter(|class| !new.contains_key(*class)) {
                if let Some(entry) = cells.classes.get_mut(class) {
                    entry.rows = entry.rows.saturating_sub(1);
                    turned.extend((entry.rows == 0).then_some(*class));
                }
            }
        }
    }

    /// What judging must be able to do.
    pub(super) fn frame(&self) -> Option<Frame> {
        let bits = (1..16).filter(|bits| self.lengths[usize::from(*bits)] > 0).collect();
        let (workloads, audit) = (self.judging > 0, self.audits > 0);
        (workloads || self.of_host > 0).then_some(Frame { bits, audit, workloads })
    }
}

type Rows = BTreeMap<Class, Arc<Row>>;

fn rows<'a>(judged: Option<&'a Judged>, audit: bool, none: &'a Rows) -> &'a Rows {
    judged.and_then(|judged| judged.table(audit)).map_or(none, |table| &table.rows)
}

fn is_open(table: &Table) -> bool {
    table.rows.is_empty() && table.rest.is_open()
}

fn table(clauses: &Clauses, matchers: &Matchers, cells: &Cells) -> Table {
    let rest = clauses.row(&[]);
    let known = |id: u32| matchers.get(id).into_iter().flat_map(|known| known.classes.iter().copied());
    let touching: BTreeSet<Class> = clauses.mentioned().flat_map(known).collect();
    // Most rows are like some other.
    let mut alike: HashMap<Row, Arc<Row>> = HashMap::new();
    let mut rows = BTreeMap::new();
    for class in touching {
        let Some(entry) = cells.classes.get(&class) else { continue };
        let row = clauses.row(&entry.ids);
        if row != rest {
            let row = Arc::clone(alike.entry(row).or_insert_with_key(|row| Arc::new(row.clone())));
            rows.insert(class, row);
        }
    }
    Table { rows, rest }
}

/// The same table with the rows of these classes as they are now.
fn patch(base: &Table, only: &BTreeSet<Class>, clauses: &Clauses, cells: &Cells) -> Table {
    let mut table = base.clone();
    for class in only {
        let row = cells.classes.get(class).map(|entry| clauses.row(&entry.ids));
        match row.filter(|row| *row != table.rest) {
            Some(row) => table.rows.insert(*class, Arc::new(row)),
            None => table.rows.remove(class),
        };
    }
    table
}

fn lengths(judged: &Judged) -> u16 {
    let mut found = 0;
    let mut seen: BTreeSet<*const Row> = BTreeSet::new();
    for table in [&judged.enforced, &judged.audit].into_iter().flatten() {
        let new = table.rows.values().filter(|row| seen.insert(Arc::as_ptr(row))).map(|row| &**row);
        for row in new.chain([&table.rest]) {
            for ports in [&row.tcp, &row.udp, &row.sctp] {
                let ranges =
                    ports.iter().filter(|(first, last)| first != last && (*first, *last) != (0, u16::MAX));
                for (_, bits) in ranges.flat_map(|range| prefixes(*range)).filter(|(_, bits)| *bits < 16) {
                    found |= 1 << bits;
                }
            }
        }
    }
    found
}
