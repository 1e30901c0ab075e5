//! Numbers for classes of peers, as packets' marks bear them while they are judged.
//!
//! A number that was in use is not given to another class while packets that were judged by it may be under way
//! (DESIGN.md §15): numbers go up, and come back only when all have been used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Class, PolicyPlan};

/// The highest number: what 14 bits of a mark hold, less one for classes that found no number.
pub const LAST: u16 = 0x3ffe;

/// Which class has which number, also of those that were there before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbering {
    known: BTreeMap<Class, u16>,
    used: BTreeSet<u16>,
    /// The number that was given last.
    last: u16,
}

impl Numbering {
    /// What is in the kernel already.
    #[must_use]
    pub fn found(mut known: BTreeMap<Class, u16>) -> Numbering {
        known.remove(&Class::OVERFLOW);
        let used: BTreeSet<u16> = known.values().copied().collect();
        Numbering { known, last: used.last().copied().unwrap_or(0), used }
    }

    /// The number of a class: its own if it had one, or else one that nobody had. When all have been used, those of
    /// classes that do not live any more are free again; none is left if `lives` is true of them all.
    pub fn give(&mut self, class: Class, lives: impl Fn(Class) -> bool) -> Option<u16> {
        if let Some(number) = self.known.get(&class) {
            return Some(*number);
        }
        if self.used.len() >= usize::from(LAST) {
            self.known.retain(|class, _| lives(*class));
            self.used = self.known.values().copied().collect();
        }
        let number = (self.last.saturating_add(1)..=LAST).chain(1..=LAST).find(|n| !self.used.contains(n))?;
        self.last = number;
        self.used.insert(number);
        self.known.insert(class, number);
        Some(number)
    }

    /// Numbers the classes of a plan, as [`Self::give`] does.
    pub fn assign(&mut self, plan: &mut PolicyPlan) {
        let numbers: Vec<(Class, u16)> = plan
            .classes
            .keys()
            .map(|class| (*class, self.give(*class, |c| plan.classes.contains_key(&c)).unwrap_or(0)))
            .collect();
        plan.classes.extend(numbers);
        plan.shut_out_the_unnumbered();
    }
}

impl PolicyPlan {
    /// Classes without a number are treated as the worst: no policy lets them pass.
    pub(super) fn shut_out_the_unnumbered(&mut self) {
        let unnumbered: BTreeSet<Class> =
            self.classes.iter().filter(|(_, number)| **number == 0).map(|(class, _)| *class).collect();
        if unnumbered.is_empty() {
            return;
        }
        self.problems.push(format!(
            "policies tell {} groups of peers apart, more than the {LAST} that fit into a packet's mark; the rest is shut out",
            self.classes.len()
        ));
        for class in self.peers.values_mut().chain(self.blocks.values_mut().map(|(_, class)| class)) {
            if unnumbered.contains(class) {
                *class = Class::OVERFLOW;
            }
        }
        self.classes.retain(|class, _| !unnumbered.contains(class));
        self.classes.insert(Class::OVERFLOW, LAST + 1);
        for subject in self.subjects.values_mut().chain(&mut self.host) {
            for judged in [&mut subject.ingress, &mut subject.egress].into_iter().flatten() {
                let mut shut = (**judged).clone();
                for table in [&mut shut.enforced, &mut shut.audit].into_iter().flatten() {
                    table.rows.retain(|class, _| !unnumbered.contains(class));
                    table.rows.insert(Class::OVERFLOW, Arc::default());
                }
                *judged = Arc::new(shut);
            }
        }
    }
}

impl Class {
    /// What found no number.
    pub const OVERFLOW: Class = Class(u64::MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(classes: std::ops::Range<u64>) -> PolicyPlan {
        PolicyPlan { classes: classes.map(|c| (Class(c), 0)).collect(), ..PolicyPlan::default() }
    }

    #[test]
    fn a_number_stays_and_is_not_given_to_another() {
        let mut numbering = Numbering::default();
        let mut first = plan(1..4);
        numbering.assign(&mut first);
        assert_eq!(first.classes.values().copied().collect::<Vec<_>>(), [1, 2, 3]);
        let mut second = plan(3..6);
        numbering.assign(&mut second);
        assert_eq!(second.classes.values().copied().collect::<Vec<_>>(), [3, 4, 5]);
        let mut third = plan(1..2);
        numbering.assign(&mut third);
        assert_eq!(third.classes[&Class(1)], 1);
    }

    #[test]
    fn too_many_classes_are_shut_out_and_said() {
        let mut numbering = Numbering::default();
        let mut many = plan(1..u64::from(LAST) + 10);
        many.peers.insert([10, 0, 0, 1].into(), Class(u64::from(LAST) + 9));
        numbering.assign(&mut many);
        assert_eq!(many.peers.values().next(), Some(&Class::OVERFLOW));
        assert_eq!(many.problems.len(), 1);
        let mut few = plan(20_000..20_010);
        numbering.assign(&mut few);
        assert!(few.classes.values().all(|number| (1..=LAST).contains(number)));
    }
}
