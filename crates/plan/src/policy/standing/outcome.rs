//! What a round comes to: cells and classes, tables, and in what the plan differs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use weft_model::{NodeName, World};

use super::cells::Turnover;
use super::{Round, Standing};
use crate::policy::host;
use crate::policy::{Class, Difference, Judged, Numbering, PolicyPlan, Subject};

impl Standing {
    /// Puts addresses and ranges into the cells that they belong to.
    pub(super) fn place(&mut self, round: &mut Round) {
        for id in &round.changed.kinds {
            let Some(kind) = self.kinds.get_mut(*id) else { continue };
            let pods = self.matchers.meaning(&kind.like);
            if pods != kind.pods {
                kind.pods = pods;
                self.cells.doubt(kind.cells.iter().copied());
            }
        }
        let nowhere: Arc<[u32]> = Arc::new([]);
        for address in &round.moved {
            let Some((kind, former)) = self.holders.get_mut(address) else { continue };
            let blocks = self.ranges.at(*address).map_or(&nowhere, |(_, range)| &range.ids);
            let (cell, fresh) = self.cells.put(Some(*kind), blocks, *address);
            if fresh && let Some(kind) = self.kinds.get_mut(*kind) {
                kind.cells.insert(cell);
            }
            if let Some(former) = former.replace(cell).filter(|former| *former != cell) {
                self.cells.take(former, *address);
            }
        }
        for first in &round.starts {
            let cell = self.ranges.get(*first).map(|range| self.cells.put(None, &range.ids, *first).0);
            let former = match cell {
                Some(cell) => self.segments.insert(*first, cell),
                None => self.segments.remove(first),
            };
            if let Some(former) = former.filter(|former| Some(*former) != cell) {
                self.cells.take(former, *first);
            }
        }
        round.review.extend(round.moved.iter().copied());
    }

    /// Finds the classes of cells.
    pub(super) fn settle(&mut self, round: &mut Round) -> Turnover {
        let kinds = &self.kinds;
        let pods = |kind: u32| kinds.get(kind).map(|kind| kind.pods.as_slice()).unwrap_or_default();
        let (turnover, emptied) = self.cells.settle(&mut self.matchers, pods);
        for (cell, kind) in emptied {
            if let Some(kind) = kind.and_then(|kind| self.kinds.get_mut(kind)) {
                kind.cells.remove(&cell);
            }
        }
        turnover.cells.iter().for_each(|cell| self.review_cell(*cell, round));
        turnover
    }

    fn review_cell(&self, cell: u32, round: &mut Round) {
        let Some(cell) = self.cells.get(cell) else { return };
        if cell.kind.is_some() {
            round.review.extend(&cell.addresses);
        } else {
            round.starts.extend(&cell.addresses);
        }
    }

    /// Makes tables: those of drafts in doubt anew, and of others the rows of classes that came or went.
    pub(super) fn derive(&mut self, turnover: &Turnover, round: &mut Round) {
        let mut rows: BTreeMap<u32, BTreeSet<Class>> = BTreeMap::new();
        let fresh =
            turnover.fresh.iter().filter_map(|class| Some((class, &self.cells.classes.get(class)?.ids)));
        for (class, ids) in fresh.chain(&turnover.gone) {
            let known = ids.iter().filter_map(|id| self.matchers.get(*id));
            for (slot, direction) in known.flat_map(|known| &known.mentions) {
                let drafts = self.slots.get(*slot).into_iter().flat_map(|slot| &slot.drafts[*direction]);
                for draft in drafts {
                    rows.entry(*draft).or_default().insert(*class);
                }
            }
        }
        for (draft, peers) in &round.concerned {
            let known = peers.iter().filter_map(|id| self.matchers.get(*id));
            let classes = known.flat_map(|known| known.classes.iter().copied());
            let gone = turnover.gone.iter().filter(|(_, ids)| ids.iter().any(|id| peers.contains(id)));
            rows.entry(*draft).or_default().extend(classes.chain(gone.map(|(class, _)| *class)));
        }
        let whole = round.redraft.iter().map(|draft| (*draft, None));
        let parts = rows.iter().filter(|(draft, _)| !round.redraft.contains(*draft));
        let all: Vec<_> = whole.chain(parts.map(|(draft, rows)| (*draft, Some(rows)))).collect();
        for (draft, only) in all {
            let (slots, matchers, cells) = (&self.slots, &self.matchers, &mut self.cells);
            if self.drafts.derive(draft, only, slots, matchers, cells, &mut round.turned) {
                let members = self.drafts.get(draft).into_iter().flat_map(|draft| &draft.members);
                round.host |= members.clone().any(Option::is_none);
                round.subjects.extend(members.flatten().cloned());
            }
        }
        let turned = round.turned.iter().filter_map(|class| self.cells.classes.get(class));
        let cells: Vec<u32> = turned.flat_map(|entry| entry.cells.iter().copied()).collect();
        cells.into_iter().for_each(|cell| self.review_cell(cell, round));
    }

    /// Compares what was looked at with the plan.
    pub(super) fn outcome(
        &mut self,
        (world, here): (&World, &NodeName),
        turnover: &Turnover,
        plan: &PolicyPlan,
        numbering: &mut Numbering,
        mut round: Round,
    ) -> Difference {
        let mut difference = Difference {
            failsafe: [plan.failsafe.clone(), world.failsafe.clone()],
            frame: (plan.frame.clone(), self.drafts.frame()),
            ..Difference::default()
        };
        if round.host || plan.failsafe != world.failsafe {
            difference.host = Some((plan.host.clone(), self.host_subject(here)));
        }
        for first in &round.starts {
            let (old, new) = (plan.blocks.get(first).copied(), self.block(*first));
            if old != new {
                let ends = [old, new].into_iter().flatten().map(|(last, _)| last);
                let last = ends.max().unwrap_or(*first);
                round.review.extend(self.holders.range(*first..=last).map(|(address, _)| *address));
                difference.blocks.insert(*first, (old, new));
            }
        }
        let had_unlike = self.unlike > 0;
        for address in &round.review {
            let (old, new) = (plan.peers.get(address).copied(), self.peer(*address));
            if old != new {
                let counts = |class: Option<Class>| usize::from(class == Some(Class::UNLIKE));
                self.unlike = self.unlike + counts(new) - counts(old);
                difference.peers.insert(*address, (old, new));
            }
        }
        let mut classes = round.turned;
        classes.extend(turnover.fresh.iter().chain(turnover.gone.keys()));
        for class in classes {
            self.number(class, self.cells.is_used(class), plan, numbering, &mut difference);
        }
        if had_unlike != (self.unlike > 0) {
            self.number(Class::UNLIKE, !had_unlike, plan, numbering, &mut difference);
        }
        for id in round.subjects {
            let old = plan.subjects.get(&id);
            let new = world.workloads.contains_key(&id).then(|| self.subject(&id)).flatten();
            if !same(old, new.as_ref()) {
                difference.subjects.insert(id, (old.cloned(), new));
            }
        }
        difference
    }

    fn number(
        &self,
        class: Class,
        used: bool,
        plan: &PolicyPlan,
        numbering: &mut Numbering,
        difference: &mut Difference,
    ) {
        let old = plan.classes.get(&class).copied();
        let new = used.then(|| old.unwrap_or_else(|| numbering.give(class, |c| self.lives(c)).unwrap_or(0)));
        if old != new {
            difference.classes.insert(class, (old, new));
        }
    }

    fn lives(&self, class: Class) -> bool {
        self.cells.is_used(class) || class == Class::UNLIKE
    }

    /// The range that begins at an address, if its class is in use.
    fn block(&self, first: IpAddr) -> Option<(IpAddr, Class)> {
        let class = self.cells.get(*self.segments.get(&first)?)?.class?;
        let last = self.ranges.get(first)?.last;
        self.cells.is_used(class).then_some((last, class))
    }

    /// The class of a workload's address, if it needs a mention.
    fn peer(&self, address: IpAddr) -> Option<Class> {
        let (_, cell) = self.holders.get(&address)?;
        let own = self.cells.get((*cell)?)?.class.filter(|class| self.cells.is_used(*class));
        let range = self.ranges.at(address).and_then(|(first, _)| self.block(first));
        // Who is in no class of its own, but in a range that is, must not be taken for the range's.
        match (own, range.map(|(_, class)| class)) {
            (own, range) if own == range => None,
            (Some(own), _) => Some(own),
            (None, _) => Some(Class::UNLIKE),
        }
    }

    fn host_subject(&self, here: &NodeName) -> Option<Subject> {
        let judged = |at: usize| self.drafts.get(self.host[at]?)?.judged.clone();
        let (ingress, egress) = (judged(0), judged(1));
        (ingress.is_some() || egress.is_some()).then(|| host::subject(here, ingress, egress))
    }

    fn subject(&self, id: &weft_model::AttachmentId) -> Option<Subject> {
        let local = self.locals.get(id)?;
        let judged = |at: usize| self.drafts.get(local.drafts[at]?)?.judged.clone();
        let (ingress, egress) = (judged(0), judged(1));
        (ingress.is_some() || egress.is_some()).then(|| Subject {
            name: local.name.clone(),
            host_end: local.host_end.clone(),
            addresses: local.addresses.clone(),
            ingress,
            egress,
        })
    }
}

/// Whether a workload's part is what it was. Equal tables of one draft are one, so that nobody needs to read them.
fn same(old: Option<&Subject>, new: Option<&Subject>) -> bool {
    let table = |old: &Option<Arc<Judged>>, new: &Option<Arc<Judged>>| match (old, new) {
        (None, None) => true,
        (Some(old), Some(new)) => Arc::ptr_eq(old, new),
        _ => false,
    };
    match (old, new) {
        (None, None) => true,
        (Some(old), Some(new)) => {
            (&old.name, &old.host_end, &old.addresses) == (&new.name, &new.host_end, &new.addresses)
                && table(&old.ingress, &new.ingress)
                && table(&old.egress, &new.egress)
        }
        _ => false,
    }
}

impl Class {
    /// Addresses within a range that is a class, which are treated like the rest all the same.
    pub const UNLIKE: Class = Class(u64::MAX - 1);
}
