//! Whom policies select, which tables that makes, and which peers those mention.

use std::sync::Arc;

use weft_model::policy::NamedPorts;
use weft_model::{AttachmentId, NodeName, ObjectId, World};

use super::slots::Followed;
use super::{MANY, Round, Standing};
use crate::policy::matcher::Matcher;

impl Standing {
    /// Policies were declared, changed or forgotten.
    pub(super) fn declare(&mut self, policies: &[ObjectId], world: &World, round: &mut Round) {
        let followed: Vec<Followed> =
            policies.iter().filter_map(|id| self.slots.follow(id, &world.declared)).collect();
        for Followed { id, there, alike } in &followed {
            round.rules.insert(*id);
            if !there {
                round.gone.push(*id);
            }
            if !alike {
                let drafts = self.slots.get(*id).into_iter().flat_map(|slot| slot.drafts.iter().flatten());
                round.redraft.extend(drafts);
            }
        }
        if followed.len() > MANY {
            round.selection.extend(self.locals.keys().cloned());
            return;
        }
        for (id, local) in &self.locals {
            let Some(kind) = self.kinds.get(local.kind) else { continue };
            let selected = |Followed { id, there, .. }: &Followed| {
                let now = || self.slots.get(*id).is_some_and(|slot| slot.selects(&kind.like));
                local.selecting.binary_search(id).is_ok() || (*there && now())
            };
            if followed.iter().any(selected) {
                round.selection.insert(id.clone());
            }
        }
    }

    /// Gives workloads, and the host, the drafts of the policies that select them now.
    pub(super) fn select(&mut self, world: &World, here: &NodeName, round: &mut Round) {
        let mut left = Vec::new();
        for id in std::mem::take(&mut round.selection) {
            let Some(local) = self.locals.get(&id) else { continue };
            let there = world.workloads.contains_key(&id);
            let like = self.kinds.get(local.kind).map(|kind| &kind.like).filter(|_| there);
            let selecting = like.map(|like| self.slots.selecting(like)).unwrap_or_default();
            // Named ports of rules for what reaches it are its own.
            let names = like.map(|like| like.ports.clone()).unwrap_or_default();
            let former = local.drafts;
            let drafts = self.enlist(Some(&id), &selecting, names, former, round, &mut left);
            if drafts != former {
                round.subjects.insert(id.clone());
            }
            if let Some(local) = self.locals.get_mut(&id).filter(|_| there) {
                (local.selecting, local.drafts) = (selecting, drafts);
            } else {
                self.locals.remove(&id);
            }
        }
        let labels = || world.nodes.get(here).map(|node| node.labels(here)).unwrap_or_default();
        let selecting = self.slots.of_host(labels);
        let former = self.host;
        self.host = self.enlist(None, &selecting, NamedPorts::new(), former, round, &mut left);
        round.host |= self.host != former;
        for draft in left {
            self.disband(draft, round);
        }
    }

    /// Takes somebody out of the drafts that he was in and into those of the policies that select him now; returns them. Drafts
    /// without members are among `left`.
    fn enlist(
        &mut self,
        who: Option<&AttachmentId>,
        selecting: &[u32],
        names: NamedPorts,
        former: [Option<u32>; 2],
        round: &mut Round,
        left: &mut Vec<u32>,
    ) -> [Option<u32>; 2] {
        let mut drafts = [None; 2];
        for (at, names) in [names, NamedPorts::new()].into_iter().enumerate() {
            let speaks = |id: &u32| self.slots.get(*id).is_some_and(|slot| slot.speaks[at]);
            let policies: Vec<u32> = selecting.iter().copied().filter(speaks).collect();
            if !policies.is_empty() {
                let (draft, fresh) = self.drafts.join((at, policies.clone(), names), who);
                if fresh {
                    round.redraft.insert(draft);
                    for slot in policies {
                        let Some(slot_drafts) = self.slots.get_mut(slot).map(|s| &mut s.drafts[at]) else {
                            continue;
                        };
                        if slot_drafts.is_empty() {
                            round.rules.insert(slot);
                        }
                        slot_drafts.insert(draft);
                    }
                }
                drafts[at] = Some(draft);
            }
            if former[at] != drafts[at] {
                left.extend(former[at].filter(|former| self.drafts.leave(*former, who)));
            }
        }
        drafts
    }

    fn disband(&mut self, draft: u32, round: &mut Round) {
        if self.drafts.get(draft).is_none_or(|d| !d.members.is_empty()) {
            return;
        }
        let Some((at, policies)) = self.drafts.of(draft).map(|(at, policies)| (at, policies.to_vec())) else {
            return;
        };
        for slot in policies {
            let Some(drafts) = self.slots.get_mut(slot).map(|s| &mut s.drafts[at]) else { continue };
            drafts.remove(&draft);
            if drafts.is_empty() {
                round.rules.insert(slot);
            }
        }
        round.redraft.remove(&draft);
        self.drafts.remove(draft, &mut self.cells, &mut round.turned);
    }

    /// Takes over the rules of policies that are in force here, or not any more, or that say a port by a name that means
    /// something else now.
    pub(super) fn rule(&mut self, world: &World, round: &mut Round) {
        for name in &round.changed.names {
            round.rules.extend(self.slots.naming(name));
        }
        for slot in &round.rules {
            let concerned = self.slots.rule(*slot, &world.declared, &self.kinds, &mut self.matchers);
            let Some(slot) = self.slots.get(*slot) else { continue };
            for (drafts, peers) in slot.drafts.iter().zip(concerned) {
                match peers {
                    Some(peers) => drafts.iter().for_each(|draft| {
                        round.concerned.entry(*draft).or_default().extend(&peers);
                    }),
                    None => round.redraft.extend(drafts),
                }
            }
        }
        for slot in &round.gone {
            self.slots.release(*slot);
        }
    }

    /// Files peers that are new, and takes out those that nobody mentions any more; returns those.
    pub(super) fn meet(&mut self, round: &mut Round) -> Vec<u32> {
        let (fresh, gone) = self.matchers.settle();
        let all = gone.iter().map(|id| (id, false)).chain(fresh.iter().map(|id| (id, true)));
        let all: Vec<(u32, bool, Arc<Matcher>)> = all
            .filter_map(|(id, new)| Some((*id, new, Arc::clone(&self.matchers.get(*id)?.matcher))))
            .collect();
        let mut spans = Vec::new();
        let pods = all.iter().filter(|(.., matcher)| matches!(**matcher, Matcher::Pods { .. })).count();
        if pods > MANY {
            round.changed.kinds.extend(self.kinds.ids());
        }
        for (id, new, matcher) in &all {
            spans.extend(self.ranges.change(*id, matcher, *new, &mut round.starts));
            if pods <= MANY {
                // Those that it meant by labels of before are among the relabelled.
                round.changed.kinds.extend(self.kinds.meant(matcher));
            }
        }
        for (first, last) in spans {
            round.moved.extend(self.holders.range(first..=last).map(|(address, _)| *address));
        }
        gone
    }
}
