//! Who is there: workloads come, go and change, and addresses with them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use weft_model::{AttachmentId, IfName, NamespaceName, ObjectId, Remote, RemoteName, Workload, World};

use super::kinds::Alike;
use super::{Round, Standing};

/// A workload of this host.
#[derive(Clone, Debug)]
pub(super) struct Local {
    alike: Alike,
    pub(super) kind: u32,
    pub(super) name: String,
    pub(super) host_end: IfName,
    pub(super) addresses: Vec<IpAddr>,
    /// The policies that select it, in the order of their numbers.
    pub(super) selecting: Vec<u32>,
    /// Its tables' drafts, by direction.
    pub(super) drafts: [Option<u32>; 2],
}

impl Alike {
    fn of(workload: &Workload) -> Alike {
        Alike {
            namespace: workload.namespace(),
            labels: Arc::new(workload.profile.labels.clone()),
            ports: workload.profile.named_ports.clone(),
        }
    }

    fn of_remote(remote: &Remote) -> Alike {
        Alike {
            namespace: remote.namespace.clone(),
            labels: Arc::clone(&remote.labels),
            ports: remote.ports.clone(),
        }
    }
}

fn addresses(workload: &Workload) -> impl Iterator<Item = IpAddr> {
    workload.addresses.iter().map(IpNet::addr)
}

impl Standing {
    /// Namespaces may have other labels.
    pub(super) fn relabel(&mut self, namespaces: &[ObjectId], world: &World, round: &mut Round) {
        let mut kinds = BTreeSet::new();
        for id in namespaces {
            let Ok(name) = id.name.as_str().parse::<NamespaceName>() else { continue };
            kinds.extend(self.kinds.relabel(&name, &world.declared));
        }
        if kinds.is_empty() {
            return;
        }
        let of = self.locals.iter().filter(|(_, local)| kinds.contains(&local.kind));
        round.selection.extend(of.map(|(id, _)| id.clone()));
        round.changed.kinds.extend(kinds);
    }

    /// Workloads came, went or changed. Who leaves goes first: an address may pass from one to the other.
    pub(super) fn enter(
        &mut self,
        workloads: &BTreeSet<AttachmentId>,
        remote: &BTreeMap<RemoteName, Option<Remote>>,
        world: &World,
        round: &mut Round,
    ) {
        let mut unsure = BTreeSet::new();
        let remote: Vec<(Option<&Remote>, Option<&Remote>)> = remote
            .iter()
            .map(|(name, was)| (was.as_ref(), world.remote.get(name)))
            .filter(|(was, now)| was != now)
            .collect();
        let locals: Vec<&AttachmentId> =
            workloads.iter().filter(|id| !self.is_as_before(id, world.workloads.get(*id))).collect();
        for was in remote.iter().filter_map(|(was, _)| *was) {
            self.kinds.leave(&Alike::of_remote(was));
            was.addresses.iter().for_each(|a| self.depart(*a, &mut unsure, round));
        }
        for id in &locals {
            let Some(local) = self.locals.get(*id).cloned() else { continue };
            self.kinds.leave(&local.alike);
            local.addresses.iter().for_each(|a| self.depart(*a, &mut unsure, round));
        }
        for id in locals {
            round.selection.insert(id.clone());
            round.subjects.insert(id.clone());
            let Some(now) = world.workloads.get(id) else { continue };
            let alike = Alike::of(now);
            let kind = self.kinds.enter(alike.clone(), &world.declared, &mut round.changed);
            addresses(now).for_each(|a| self.arrive(a, kind, &mut unsure, round));
            let before = self.locals.remove(id);
            let (selecting, drafts) = before.map(|b| (b.selecting, b.drafts)).unwrap_or_default();
            let name = format!("{}/{}", alike.namespace, id.container);
            let (host_end, addresses) = (now.host_end.clone(), addresses(now).collect());
            self.locals
                .insert(id.clone(), Local { alike, kind, name, host_end, addresses, selecting, drafts });
        }
        for now in remote.iter().filter_map(|(_, now)| *now) {
            let kind = self.kinds.enter(Alike::of_remote(now), &world.declared, &mut round.changed);
            now.addresses.iter().for_each(|a| self.arrive(*a, kind, &mut unsure, round));
        }
        if !unsure.is_empty() {
            self.decide(&unsure, world, round);
        }
    }

    fn is_as_before(&self, id: &AttachmentId, now: Option<&Workload>) -> bool {
        match (self.locals.get(id), now) {
            (None, None) => true,
            (Some(local), Some(now)) => {
                local.alike == Alike::of(now)
                    && local.host_end == now.host_end
                    && local.addresses.iter().copied().eq(addresses(now))
            }
            _ => false,
        }
    }

    fn depart(&mut self, address: IpAddr, unsure: &mut BTreeSet<IpAddr>, round: &mut Round) {
        if self.contested.contains(&address) {
            unsure.insert(address);
            return;
        }
        self.vacate(address);
        round.review.insert(address);
    }

    fn vacate(&mut self, address: IpAddr) {
        if let Some((_, Some(cell))) = self.holders.remove(&address) {
            self.cells.take(cell, address);
        }
    }

    fn arrive(&mut self, address: IpAddr, kind: u32, unsure: &mut BTreeSet<IpAddr>, round: &mut Round) {
        if self.holders.contains_key(&address) {
            self.contested.insert(address);
            unsure.insert(address);
            return;
        }
        self.holders.insert(address, (kind, None));
        round.moved.insert(address);
    }

    /// Addresses that several say they have, as while a workload moves: who comes first has it, those of this host before
    /// others. All are asked, which is why this is only done then.
    fn decide(&mut self, unsure: &BTreeSet<IpAddr>, world: &World, round: &mut Round) {
        let mut found: BTreeMap<IpAddr, (Alike, u32)> = BTreeMap::new();
        let mut claim = |address: IpAddr, alike: &dyn Fn() -> Alike| {
            if unsure.contains(&address) {
                found.entry(address).or_insert_with(|| (alike(), 0)).1 += 1;
            }
        };
        for workload in world.workloads.values() {
            addresses(workload).for_each(|address| claim(address, &|| Alike::of(workload)));
        }
        for remote in world.remote.values() {
            remote.addresses.iter().for_each(|address| claim(*address, &|| Alike::of_remote(remote)));
        }
        for address in unsure {
            self.vacate(*address);
            round.review.insert(*address);
            let holder = found.get(address);
            if holder.is_none_or(|(_, claims)| *claims < 2) {
                self.contested.remove(address);
            }
            if let Some(kind) = holder.and_then(|(alike, _)| self.kinds.of(alike)) {
                self.holders.insert(*address, (kind, None));
                round.moved.insert(*address);
            }
        }
    }
}
