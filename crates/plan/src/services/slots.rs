//! Which backend stands in which slot.
//!
//! Slots are without gaps from 0 on. A backend that stays keeps its slot, so that a change of one is a change of one or
//! two: a new one goes behind the last, and the last ones move into the places of those that leave.

use std::collections::HashSet;
use std::net::SocketAddr;

/// The slots of `wanted`, after those of `before`.
#[must_use]
pub fn settle(before: &[SocketAddr], wanted: &[SocketAddr]) -> Vec<SocketAddr> {
    let stay: HashSet<&SocketAddr> = wanted.iter().collect();
    let there: HashSet<&SocketAddr> = before.iter().collect();
    let mut new = wanted.iter().filter(|b| !there.contains(b)).copied();
    let mut slots: Vec<Option<SocketAddr>> =
        before.iter().map(|b| if stay.contains(b) { Some(*b) } else { new.next() }).collect();
    slots.extend(new.map(Some));
    let mut settled = Vec::with_capacity(wanted.len());
    let mut at = 0;
    while at < slots.len() {
        match slots[at] {
            Some(backend) => {
                settled.push(backend);
                at += 1;
            }
            None => match slots.pop() {
                Some(Some(last)) if at < slots.len() => slots[at] = Some(last),
                Some(Some(last)) => settled.push(last),
                _ => {}
            },
        }
    }
    settled
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn backends(ports: &[u16]) -> Vec<SocketAddr> {
        ports.iter().map(|port| SocketAddr::from(([10, 0, 0, 1], *port))).collect()
    }

    #[test]
    fn one_change_moves_at_most_one_other() {
        let settled = |before: &[u16], wanted: &[u16]| {
            settle(&backends(before), &backends(wanted)).iter().map(SocketAddr::port).collect::<Vec<_>>()
        };
        assert_eq!(settled(&[], &[3, 5]), [3, 5]);
        assert_eq!(settled(&[5, 3], &[1, 3, 5]), [5, 3, 1]);
        assert_eq!(settled(&[5, 3, 1], &[1, 3]), [1, 3]);
        assert_eq!(settled(&[5, 3, 1], &[3, 5]), [5, 3]);
        assert_eq!(settled(&[5, 3, 1], &[7, 3, 1]), [7, 3, 1]);
        assert_eq!(settled(&[5, 3, 1], &[]), [0; 0]);
    }

    proptest! {
        #[test]
        fn all_that_is_wanted_and_each_once(
            before in proptest::collection::btree_set(1_u16..40, 0..20),
            wanted in proptest::collection::btree_set(1_u16..40, 0..20),
        ) {
            let (before, wanted): (Vec<u16>, Vec<u16>) = (before.into_iter().collect(), wanted.into_iter().collect());
            let (before, wanted) = (backends(&before), backends(&wanted));
            let settled = settle(&before, &wanted);
            prop_assert_eq!(settled.len(), wanted.len());
            let set: BTreeSet<_> = settled.iter().copied().collect();
            prop_assert_eq!(set, wanted.iter().copied().collect());
            let moved = before.iter().zip(&settled).filter(|(b, s)| b != s && wanted.contains(b)).count();
            let left = before.iter().filter(|b| !wanted.contains(b)).count();
            prop_assert!(moved <= left);
        }
    }
}
