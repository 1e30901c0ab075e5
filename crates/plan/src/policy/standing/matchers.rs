//! The peers that policies in force here mention: each stands once, however many mention it.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::super::Class;
use super::super::matcher::{Matcher, Member};
use super::finder::{Finder, Place};
use super::kinds::means;
use super::numbered::Numbered;

/// A direction of a policy: its number, and 0 for ingress or 1 for egress.
pub(super) type Mention = (u32, usize);

#[derive(Debug)]
pub(super) struct Known {
    pub(super) matcher: Arc<Matcher>,
    pub(super) digest: u64,
    place: Option<Place>,
    /// Who mentions it.
    pub(super) mentions: BTreeSet<Mention>,
    /// The classes whose members it means.
    pub(super) classes: BTreeSet<Class>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Matchers {
    ids: HashMap<Arc<Matcher>, u32>,
    all: Numbered<Known>,
    finder: Finder,
    /// Not filed yet.
    fresh: BTreeSet<u32>,
    /// Mentioned by nobody, perhaps.
    left: BTreeSet<u32>,
}

impl Matchers {
    pub(super) fn get(&self, id: u32) -> Option<&Known> {
        self.all.get(id)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Known> {
        self.all.get_mut(id)
    }

    /// Notes that a policy mentions a peer; returns the peer's number.
    pub(super) fn mention(&mut self, matcher: &Matcher, by: Mention) -> u32 {
        let known = self.ids.get(matcher).copied();
        let id = known.unwrap_or_else(|| {
            let matcher = Arc::new(matcher.clone());
            let id = self.all.add(Known {
                digest: hash(&*matcher),
                matcher: Arc::clone(&matcher),
                place: None,
                mentions: BTreeSet::new(),
                classes: BTreeSet::new(),
            });
            self.ids.insert(matcher, id);
            self.fresh.insert(id);
            id
        });
        if let Some(known) = self.all.get_mut(id) {
            known.mentions.insert(by);
        }
        id
    }

    /// Notes that a policy mentions it no more.
    pub(super) fn release(&mut self, id: u32, by: Mention) {
        let Some(known) = self.all.get_mut(id) else { return };
        known.mentions.remove(&by);
        if known.mentions.is_empty() {
            self.left.insert(id);
        }
    }

    /// Files those that are new and takes out those that nobody mentions; their numbers are kept until [`Self::free`].
    pub(super) fn settle(&mut self) -> (Vec<u32>, Vec<u32>) {
        let idle = |id: &u32| self.all.get(*id).is_some_and(|known| known.mentions.is_empty());
        let gone: Vec<u32> = std::mem::take(&mut self.left).into_iter().filter(idle).collect();
        for id in &gone {
            if let Some(known) = self.all.get_mut(*id) {
                self.ids.remove(&known.matcher);
                if let Some(place) = known.place.take() {
                    self.finder.forget(&place, *id);
                }
            }
        }
        let mut fresh: Vec<u32> = Vec::new();
        for id in std::mem::take(&mut self.fresh) {
            if gone.contains(&id) {
                continue;
            }
            if let Some(known) = self.all.get_mut(id) {
                known.place = self.finder.file(&known.matcher, id);
                fresh.push(id);
            }
        }
        (fresh, gone)
    }

    pub(super) fn free(&mut self, gone: &[u32]) {
        for id in gone {
            self.all.remove(*id);
        }
    }

    /// Those that mean a workload, in order.
    pub(super) fn meaning(&self, member: &Member) -> Vec<u32> {
        let matches = |id: &u32| self.all.get(*id).is_some_and(|known| means(&known.matcher, member));
        let mut ids: Vec<u32> = self.finder.candidates(member).filter(matches).collect();
        ids.sort_unstable();
        ids
    }
}

pub(super) fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
