//! A set of numbers kept as runs of neighbours.
//!
//! Its cost grows with the number of runs, never with the number of members: a whole IPv6 /48 is one run.

use std::collections::BTreeMap;

/// Disjoint runs that do not touch: first number to last, both inclusive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs(BTreeMap<u128, u128>);

impl Runs {
    /// Adds all of `first..=last`; what is in already stays in.
    pub(super) fn insert(&mut self, mut first: u128, mut last: u128) {
        if let Some((&f, &l)) = self.0.range(..=first).next_back()
            && l.saturating_add(1) >= first
        {
            first = f;
            last = last.max(l);
        }
        while let Some((&f, &l)) = self.0.range(first..=last.saturating_add(1)).next() {
            self.0.remove(&f);
            last = last.max(l);
        }
        self.0.insert(first, last);
    }

    /// Takes one number out; says whether it was in.
    pub(super) fn remove(&mut self, n: u128) -> bool {
        let Some((&first, &last)) = self.0.range(..=n).next_back() else { return false };
        if last < n {
            return false;
        }
        self.0.remove(&first);
        if first < n {
            self.0.insert(first, n - 1);
        }
        if n < last {
            self.0.insert(n + 1, last);
        }
        true
    }

    /// Whether `n` is in.
    pub(super) fn contains(&self, n: u128) -> bool {
        self.0.range(..=n).next_back().is_some_and(|(_, &last)| n <= last)
    }

    /// The lowest member of `low..=high`.
    pub(super) fn first_in(&self, low: u128, high: u128) -> Option<u128> {
        if self.contains(low) && low <= high {
            return Some(low);
        }
        self.0.range(low..).next().map(|(&first, _)| first).filter(|first| *first <= high)
    }

    /// How many members `low..=high` has; saturates.
    pub(super) fn count_in(&self, low: u128, high: u128) -> u128 {
        let overlap = |(&f, &l): (&u128, &u128)| match (f.max(low), l.min(high)) {
            (first, last) if first <= last => (last - first).saturating_add(1),
            _ => 0,
        };
        self.0.range(..=high).map(overlap).fold(0, u128::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_are_a_set(ops in prop::collection::vec((any::<bool>(), 0u128..40, 0u128..4), 0..80)) {
            let (mut runs, mut set) = (Runs::default(), BTreeSet::new());
            for (add, n, more) in ops {
                if add {
                    runs.insert(n, n + more);
                    set.extend(n..=n + more);
                } else {
                    prop_assert_eq!(runs.remove(n), set.remove(&n));
                }
                for low in 0..45 {
                    prop_assert_eq!(runs.contains(low), set.contains(&low));
                    prop_assert_eq!(runs.first_in(low, 30), set.iter().copied().find(|x| (low..=30).contains(x)));
                }
                prop_assert_eq!(runs.count_in(5, 20), set.iter().filter(|x| (5..=20).contains(*x)).count() as u128);
                let runs: Vec<_> = runs.0.iter().collect();
                prop_assert!(runs.windows(2).all(|w| w[0].1 + 1 < *w[1].0), "runs touch: {:?}", runs);
            }
        }
    }

    #[test]
    fn the_last_number_there_is_does_no_harm() {
        let mut runs = Runs::default();
        runs.insert(u128::MAX - 1, u128::MAX);
        assert!(runs.remove(u128::MAX));
        runs.insert(u128::MAX, u128::MAX);
        assert_eq!(runs.first_in(5, u128::MAX), Some(u128::MAX - 1));
        runs.insert(0, u128::MAX);
        assert_eq!(runs.count_in(0, u128::MAX), u128::MAX, "saturates");
    }
}
