//! In what two plans of policy differ: what a change has to bring into the kernel, and nothing else.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_model::AttachmentId;
use weft_model::policy::Failsafe;

use super::{Class, Frame, PolicyPlan, Subject};

/// What was, and what is.
pub type Pair<T> = (Option<T>, Option<T>);

/// In what two plans differ, by key. What both have alike is in neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Workloads that are judged.
    pub subjects: BTreeMap<AttachmentId, Pair<Subject>>,
    /// Classes of workloads' addresses.
    pub peers: BTreeMap<IpAddr, Pair<Class>>,
    /// Ranges, by their first address.
    pub blocks: BTreeMap<IpAddr, Pair<(IpAddr, Class)>>,
    /// Classes with their numbers.
    pub classes: BTreeMap<Class, Pair<u16>>,
    /// The host itself, if it or the fail-safe differs.
    pub host: Option<Pair<Subject>>,
    /// What passes to and from the host all the same: what did, and what does.
    pub failsafe: [Failsafe; 2],
    /// What judging must be able to do, whether it differs or not.
    pub frame: Pair<Frame>,
}

impl Difference {
    /// Compares two plans.
    #[must_use]
    pub fn between(before: &PolicyPlan, after: &PolicyPlan) -> Difference {
        Difference {
            subjects: compare(&before.subjects, &after.subjects),
            peers: compare(&before.peers, &after.peers),
            blocks: compare(&before.blocks, &after.blocks),
            classes: compare(&before.classes, &after.classes),
            host: (before.host != after.host || before.failsafe != after.failsafe)
                .then(|| (before.host.clone(), after.host.clone())),
            failsafe: [before.failsafe.clone(), after.failsafe.clone()],
            frame: (before.frame.clone(), after.frame.clone()),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
            && self.peers.is_empty()
            && self.blocks.is_empty()
            && self.classes.is_empty()
            && self.host.is_none()
            && self.frame.0 == self.frame.1
    }

    /// Turns the plan that was into the one that is.
    pub fn apply(&self, plan: &mut PolicyPlan) {
        put(&mut plan.subjects, &self.subjects);
        put(&mut plan.peers, &self.peers);
        put(&mut plan.blocks, &self.blocks);
        put(&mut plan.classes, &self.classes);
        if let Some((_, host)) = &self.host {
            plan.host.clone_from(host);
        }
        plan.failsafe.clone_from(&self.failsafe[1]);
        plan.frame.clone_from(&self.frame.1);
    }
}

fn compare<K: Ord + Clone, V: PartialEq + Clone>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) -> BTreeMap<K, Pair<V>> {
    let mut found = BTreeMap::new();
    for (key, old) in before {
        let new = after.get(key);
        if new != Some(old) {
            found.insert(key.clone(), (Some(old.clone()), new.cloned()));
        }
    }
    for (key, new) in after.iter().filter(|(key, _)| !before.contains_key(*key)) {
        found.insert(key.clone(), (None, Some(new.clone())));
    }
    found
}

fn put<K: Ord + Clone, V: Clone>(into: &mut BTreeMap<K, V>, all: &BTreeMap<K, Pair<V>>) {
    for (key, (_, now)) in all {
        match now {
            Some(value) => into.insert(key.clone(), value.clone()),
            None => into.remove(key),
        };
    }
}
