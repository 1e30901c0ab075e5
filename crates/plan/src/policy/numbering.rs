//! Numbers for classes of peers, as packets' marks bear them while they are judged.
//!
//! A number that was in use is not given to another class while packets that were judged by it may be under way
//! (DESIGN.md §15): numbers go up, and come back only when all have been used.

use std::collections::{BTreeMap, BTreeSet};

use super::{Class, PolicyPlan};

/// The highest number: what 14 bits of a mark hold, less one for classes that found no number.
pub const LAST: u16 = 0x3ffe;

/// Which class has which number, also of those that were there before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbering {
    known: BTreeMap<Class, u16>,
    highest: u16,
}

impl Numbering {
    /// What is in the kernel already.
    #[must_use]
    pub fn found(known: BTreeMap<Class, u16>) -> Numbering {
        let highest = known.values().copied().max().unwrap_or(0);
        Numbering { known, highest }
    }

    /// Numbers the classes of a plan: those known keep their number, others get one that nobody had.
    pub fn assign(&mut self, plan: &mut PolicyPlan) {
        let fresh: Vec<Class> =
            plan.classes.keys().filter(|c| !self.known.contains_key(c)).copied().collect();
        if usize::from(LAST.saturating_sub(self.highest)) < fresh.len() {
            self.known.retain(|class, _| plan.classes.contains_key(class));
        }
        let mut used: BTreeSet<u16> = self.known.values().copied().collect();
        for class in fresh {
            let above = self.highest.saturating_add(1)..=LAST;
            let Some(number) = above.chain(1..=LAST).find(|number| !used.contains(number)) else { break };
            self.highest = self.highest.max(number);
            used.insert(number);
            self.known.insert(class, number);
        }
        for (class, number) in &mut plan.classes {
            *number = self.known.get(class).copied().unwrap_or(0);
        }
        plan.shut_out_the_unnumbered();
    }
}

impl PolicyPlan {
    /// Classes without a number are treated as the worst: no policy lets them pass.
    fn shut_out_the_unnumbered(&mut self) {
        let unnumbered: BTreeSet<Class> =
            self.classes.iter().filter(|(_, number)| **number == 0).map(|(class, _)| *class).collect();
        if unnumbered.is_empty() {
            return;
        }
        self.problems.push(format!(
            "policies tell {} groups of peers apart, more than the {LAST} that fit into a packet's mark; the rest is shut out",
            self.classes.len()
        ));
        for class in self.peers.values_mut().chain(self.blocks.iter_mut().map(|(_, _, class)| class)) {
            if unnumbered.contains(class) {
                *class = Class::OVERFLOW;
            }
        }
        self.classes.retain(|class, _| !unnumbered.contains(class));
        self.classes.insert(Class::OVERFLOW, LAST + 1);
        for subject in self.subjects.values_mut().chain(&mut self.host) {
            for judged in [&mut subject.ingress, &mut subject.egress].into_iter().flatten() {
                for table in [&mut judged.enforced, &mut judged.audit].into_iter().flatten() {
                    let mut shut = (**table).clone();
                    shut.rows.retain(|class, _| !unnumbered.contains(class));
                    shut.rows.insert(Class::OVERFLOW, super::Row::default());
                    *table = shut.into();
                }
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
