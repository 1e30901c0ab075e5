//! Policy as it stands, indexed so that a change costs what hangs on it and not what there is.
//!
//! ```text
//!   workloads ─▶ kinds ──────────┐                        (same namespace, labels and ports: one kind)
//!                                ├─▶ cells ─▶ classes ─┐
//!   blocks of addresses ▶ ranges ┘     ▲               ├─▶ rows of drafts ─▶ subjects
//!                                      │ peers         │
//!   policies ─▶ who is selected here ──┴──▶ drafts ────┘  (same policies: one draft)
//! ```
//!
//! A round goes once from left to right. What is to the left of an arrow says which things to the right must be looked at
//! again; those are derived from the index anew and compared with the plan. The plan of a whole world is a round in which
//! everything is new, so that there is no second way to it.

mod cells;
mod clause;
mod drafts;
mod finder;
mod kinds;
mod matchers;
mod members;
mod numbered;
mod outcome;
mod ranges;
mod selected;
mod slots;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weft_model::namespace::default_namespace;
use weft_model::{AttachmentId, Kind, NodeName, ObjectId, Remote, RemoteName, World};

use self::cells::Cells;
use self::drafts::Drafts;
use self::kinds::{Changed, Kinds};
use self::matchers::Matchers;
use self::members::Local;
use self::ranges::Ranges;
use self::slots::Slots;
use super::{Class, Difference, Numbering, PolicyPlan};

/// Of so many changes at once everything is looked at, which is quicker than to ask what hangs on each.
const MANY: usize = 64;

/// What of a world has changed since it was last looked at.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    objects: BTreeSet<ObjectId>,
    workloads: BTreeSet<AttachmentId>,
    remote: BTreeMap<RemoteName, Option<Remote>>,
}

impl Touched {
    /// All that a world has, as new.
    #[must_use]
    pub fn everything(world: &World) -> Touched {
        let remote = world.remote.keys().map(|name| (name.clone(), None));
        Touched {
            objects: world.declared.ids().collect(),
            workloads: world.workloads.keys().cloned().collect(),
            remote: remote.collect(),
        }
    }

    /// An object was declared, changed or forgotten.
    pub fn object(&mut self, mut id: ObjectId) {
        if id.kind.info().namespaced {
            id.namespace.get_or_insert_with(default_namespace);
        }
        self.objects.insert(id);
    }

    /// A workload of this host came, went or changed.
    pub fn workload(&mut self, id: AttachmentId) {
        self.workloads.insert(id);
    }

    /// A workload of another host came, went or changed; with what it was.
    pub fn remote(&mut self, name: RemoteName, was: Option<Remote>) {
        self.remote.entry(name).or_insert(was);
    }

    /// Adds what was touched after.
    pub fn extend(&mut self, later: Touched) {
        self.objects.extend(later.objects);
        self.workloads.extend(later.workloads);
        later.remote.into_iter().for_each(|(name, was)| self.remote(name, was));
    }

    /// Whether nothing was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.workloads.is_empty() && self.remote.is_empty()
    }
}

/// Policy as it stands. Follows a world change by change.
#[derive(Debug, Default)]
pub struct Standing {
    /// Whether there are policies: without any nothing is indexed.
    awake: bool,
    /// Whether there are more classes than numbers: then each change is one of everything.
    overflowing: bool,
    kinds: Kinds,
    locals: BTreeMap<AttachmentId, Local>,
    /// The kind of who has an address, and the cell that it is in.
    holders: BTreeMap<IpAddr, (u32, Option<u32>)>,
    /// Addresses that more than one says it has.
    contested: BTreeSet<IpAddr>,
    slots: Slots,
    matchers: Matchers,
    ranges: Ranges,
    /// The cells of ranges, by their first address.
    segments: BTreeMap<IpAddr, u32>,
    cells: Cells,
    drafts: Drafts,
    /// The drafts of the host's own tables, by direction.
    host: [Option<u32>; 2],
    /// How many addresses in ranges of a class are like the rest all the same.
    unlike: usize,
}

/// What a round has to look at, and what it has found to be otherwise.
#[derive(Debug, Default)]
struct Round {
    changed: Changed,
    /// Workloads of this host that may be selected by other policies now.
    selection: BTreeSet<AttachmentId>,
    /// Workloads of this host whose part of the plan may be another.
    subjects: BTreeSet<AttachmentId>,
    /// Whether the host's own part may be another.
    host: bool,
    /// Addresses that may belong to another cell, and those that may belong to another class.
    moved: BTreeSet<IpAddr>,
    review: BTreeSet<IpAddr>,
    /// First addresses of ranges that may be others.
    starts: BTreeSet<IpAddr>,
    /// Policies whose rules must be taken over anew, and drafts whose tables must be made anew.
    rules: BTreeSet<u32>,
    redraft: BTreeSet<u32>,
    /// Drafts of which only what these peers meet must be looked at.
    concerned: BTreeMap<u32, BTreeSet<u32>>,
    /// Policies that are gone.
    gone: Vec<u32>,
    /// Classes that came into use or out of it.
    turned: BTreeSet<Class>,
}

impl Standing {
    /// Follows what was touched, brings the plan in line, and says what that changed.
    pub fn follow(
        &mut self,
        world: &World,
        here: &NodeName,
        touched: Touched,
        plan: &mut PolicyPlan,
        numbering: &mut Numbering,
    ) -> Difference {
        let declared = &world.declared;
        let asleep = declared.policies.is_empty() && declared.cluster_policies.is_empty();
        if asleep || self.overflowing {
            let before = std::mem::take(plan);
            plan.failsafe.clone_from(&world.failsafe);
            *self = Standing::default();
            if !asleep {
                self.anew(world, here, plan, numbering);
            }
            return Difference::between(&before, plan);
        }
        let touched = if self.awake { touched } else { Touched::everything(world) };
        self.awake = true;
        let difference = self.round(world, here, touched, plan, numbering);
        let unnumbered = difference.classes.values().any(|(_, number)| *number == Some(0));
        if !unnumbered {
            difference.apply(plan);
            return difference;
        }
        let before = plan.clone();
        difference.apply(plan);
        plan.shut_out_the_unnumbered();
        self.overflowing = true;
        Difference::between(&before, plan)
    }

    /// Everything, as if it were new.
    fn anew(&mut self, world: &World, here: &NodeName, plan: &mut PolicyPlan, numbering: &mut Numbering) {
        self.awake = true;
        self.round(world, here, Touched::everything(world), plan, numbering).apply(plan);
        self.overflowing = plan.classes.values().any(|number| *number == 0);
        if self.overflowing {
            plan.shut_out_the_unnumbered();
        }
    }

    fn round(
        &mut self,
        world: &World,
        here: &NodeName,
        touched: Touched,
        plan: &PolicyPlan,
        numbering: &mut Numbering,
    ) -> Difference {
        let mut round = Round::default();
        let (namespaces, policies): (Vec<ObjectId>, Vec<ObjectId>) =
            touched.objects.into_iter().partition(|id| id.kind == Kind::Namespace);
        self.relabel(&namespaces, world, &mut round);
        self.enter(&touched.workloads, &touched.remote, world, &mut round);
        self.declare(&policies, world, &mut round);
        self.select(world, here, &mut round);
        let left = self.kinds.sweep(&mut round.changed);
        self.rule(world, &mut round);
        let forgotten = self.meet(&mut round);
        self.place(&mut round);
        let turnover = self.settle(&mut round);
        self.derive(&turnover, &mut round);
        let difference = self.outcome((world, here), &turnover, plan, numbering, round);
        left.into_iter().for_each(|kind| self.kinds.release(kind));
        self.matchers.free(&forgotten);
        difference
    }
}
