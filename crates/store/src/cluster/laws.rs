//! What every shared store has to do, as a suite that each implementation's tests run.
//!
//! Never looks inside. Panics where a law is broken, because it is made for tests.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    ClusterError, ClusterStore, Condition, Fact, Op, Outcome, Revision, Snapshot, Transaction, Watch,
};

/// How long a change may take to reach a watch.
const SOON: Duration = Duration::from_secs(10);
/// The shortest lease that etcd grants with its usual settings.
const LEASE: Duration = Duration::from_secs(2);

/// A store under test, with what its server can be made to do.
pub trait Subject {
    /// A handle of its own on the same store.
    fn handle(&self) -> Box<dyn ClusterStore>;
    /// Lets so much time pass for leases.
    fn pass(&self, time: Duration);
    /// Makes the server forget its history up to now.
    fn compact(&self);
}

/// Runs all laws. `make` gives a store in which nothing is kept yet.
///
/// # Panics
/// Where a law is broken, saying which.
pub fn cluster_laws<S: Subject>(make: impl Fn() -> S) {
    what_is_committed_is_in_the_next_snapshot(&make());
    conditions_decide(&make());
    of_two_who_race_one_wins(&make());
    a_transaction_is_all_or_nothing(&make());
    whole_branches_are_deleted(&make());
    a_watch_tells_all_in_order(&make());
    a_watch_begins_where_it_is_told(&make());
    forgotten_history_is_said_to_be_so(&make());
    a_lease_keeps_its_keys_while_it_is_renewed(&make());
    an_ended_lease_takes_its_keys(&make());
    nothing_is_bound_to_an_ended_lease(&make());
    large_values_and_many_keys_pass(&make());
}

fn snapshot(store: &dyn ClusterStore) -> Snapshot {
    store.snapshot().expect("a store that works can be read")
}

fn commit(store: &dyn ClusterStore, conditions: &[Condition], changes: &[Op]) -> Outcome {
    let transaction = Transaction { conditions: conditions.to_vec(), changes: changes.to_vec() };
    store.commit(&transaction).expect("a store that works can be written")
}

fn done(outcome: Outcome) -> Revision {
    match outcome {
        Outcome::Done(revision) => revision,
        Outcome::Conflict => panic!("conditions that hold are no conflict"),
    }
}

fn put(key: &str, value: &str) -> Op {
    Op::Put { key: key.to_owned(), value: value.into(), lease: None }
}

fn values(snapshot: &Snapshot) -> BTreeMap<&str, String> {
    let text = |v: &[u8]| String::from_utf8_lossy(v).into_owned();
    snapshot.entries.iter().map(|(k, e)| (k.as_str(), text(&e.value))).collect()
}

fn what_is_committed_is_in_the_next_snapshot(subject: &impl Subject) {
    let (one, two) = (subject.handle(), subject.handle());
    let empty = snapshot(&*one);
    assert!(empty.entries.is_empty(), "a new store is empty");
    let first = done(commit(&*one, &[], &[put("a", "1"), put("b", "2")]));
    assert!(first > empty.revision, "a commit has a revision of its own");
    let seen = snapshot(&*two);
    assert_eq!(values(&seen), [("a", "1".into()), ("b", "2".into())].into(), "others see it at once");
    assert!(seen.entries.values().all(|e| e.revision == first), "entries bear their commit's revision");
    let second = done(commit(&*two, &[], &[put("a", "3"), Op::Delete("b".into()), Op::Delete("c".into())]));
    let seen = snapshot(&*one);
    assert_eq!(values(&seen), [("a", "3".into())].into(), "later commits win, what is deleted is gone");
    assert!(second > first && seen.entries["a"].revision == second && seen.revision >= second);
    assert_eq!(seen.history, empty.history, "one store is one history");
}

fn conditions_decide(subject: &impl Subject) {
    let store = subject.handle();
    let absent = |key: &str| Condition::Absent(key.to_owned());
    let first = done(commit(&*store, &[absent("a")], &[put("a", "1")]));
    assert_eq!(commit(&*store, &[absent("a")], &[put("a", "2")]), Outcome::Conflict, "it is there");
    let unchanged = |revision| Condition::Unchanged("a".to_owned(), revision);
    let second = done(commit(&*store, &[unchanged(first)], &[put("a", "3")]));
    assert_eq!(commit(&*store, &[unchanged(first)], &[put("a", "4")]), Outcome::Conflict, "it has changed");
    done(commit(&*store, &[unchanged(second), absent("b")], &[Op::Delete("a".into())]));
    assert_eq!(commit(&*store, &[unchanged(second)], &[put("a", "5")]), Outcome::Conflict, "it is gone");
    done(commit(&*store, &[absent("a")], &[put("a", "6")]));
}

fn of_two_who_race_one_wins(subject: &impl Subject) {
    let wins = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..8)
            .map(|n| {
                let store = subject.handle();
                let claim = [put("block", &n.to_string())];
                scope.spawn(move || commit(&*store, &[Condition::Absent("block".into())], &claim))
            })
            .collect();
        let outcomes = racers.into_iter().map(|r| r.join().expect("a racer does not panic"));
        outcomes.filter(|o| *o != Outcome::Conflict).count()
    });
    assert_eq!(wins, 1, "of all who claim what is absent, one gets it");
}

fn a_transaction_is_all_or_nothing(subject: &impl Subject) {
    let store = subject.handle();
    done(commit(&*store, &[], &[put("a", "1")]));
    let mixed = [Condition::Absent("b".into()), Condition::Absent("a".into())];
    let before = snapshot(&*store);
    assert_eq!(commit(&*store, &mixed, &[put("b", "1"), Op::Delete("a".into())]), Outcome::Conflict);
    assert_eq!(snapshot(&*store).entries, before.entries, "one condition that does not hold stops all");
}

fn whole_branches_are_deleted(subject: &impl Subject) {
    let store = subject.handle();
    done(commit(&*store, &[], &[put("w/a/1", ""), put("w/a/2", ""), put("w/ab/1", ""), put("w/b", "")]));
    done(commit(&*store, &[], &[Op::DeleteBelow("w/a/".into()), put("x", "")]));
    let left = snapshot(&*store);
    assert_eq!(left.entries.keys().collect::<Vec<_>>(), ["w/ab/1", "w/b", "x"]);
}

/// Reads until `count` facts came.
fn gather(watch: &mut dyn Watch, count: usize) -> Vec<Fact> {
    let mut facts = Vec::new();
    while facts.len() < count {
        let more = watch.next(SOON).expect("a store that works can be watched");
        assert!(!more.is_empty(), "{} of {count} changes came: {facts:?}", facts.len());
        facts.extend(more);
    }
    facts
}

fn a_watch_tells_all_in_order(subject: &impl Subject) {
    let store = subject.handle();
    let mut watch = store.watch(snapshot(&*store).revision).expect("a store that works can be watched");
    assert_eq!(watch.next(Duration::from_millis(50)), Ok(Vec::new()), "nothing happens, nothing is told");
    let other = subject.handle();
    let first = done(commit(&*other, &[], &[put("a", "1")]));
    let second = done(commit(&*other, &[], &[put("a", "2"), put("b", "1")]));
    let third = done(commit(&*other, &[], &[Op::Delete("a".into())]));
    let mut facts = gather(&mut *watch, 4);
    facts[1..3].sort_by(|a, b| a.key.cmp(&b.key));
    let fact = |key: &str, value: Option<&str>, revision| Fact {
        key: key.to_owned(),
        value: value.map(Into::into),
        revision,
    };
    let told = [
        fact("a", Some("1"), first),
        fact("a", Some("2"), second),
        fact("b", Some("1"), second),
        fact("a", None, third),
    ];
    assert_eq!(facts, told);
}

fn a_watch_begins_where_it_is_told(subject: &impl Subject) {
    let store = subject.handle();
    let first = done(commit(&*store, &[], &[put("a", "1")]));
    done(commit(&*store, &[], &[put("a", "2")]));
    done(commit(&*store, &[], &[put("b", "3")]));
    let mut watch = store.watch(first).expect("a store that works can be watched");
    let facts = gather(&mut *watch, 2);
    let keys: Vec<&str> = facts.iter().map(|f| f.key.as_str()).collect();
    assert_eq!(keys, ["a", "b"], "what happened after the revision is told, what it did is not");
}

fn forgotten_history_is_said_to_be_so(subject: &impl Subject) {
    let store = subject.handle();
    let first = done(commit(&*store, &[], &[put("a", "1")]));
    done(commit(&*store, &[], &[put("a", "2")]));
    done(commit(&*store, &[], &[put("a", "3")]));
    subject.compact();
    let answer = store.watch(first).and_then(|mut watch| watch.next(SOON));
    assert!(
        matches!(answer, Err(ClusterError::Compacted(_))),
        "what is forgotten is not passed over: {answer:?}"
    );
    let now = snapshot(&*store);
    assert_eq!(values(&now), [("a", "3".into())].into(), "the present is not forgotten");
    let mut watch = store.watch(now.revision).expect("a store that works can be watched");
    done(commit(&*store, &[], &[put("b", "1")]));
    assert_eq!(gather(&mut *watch, 1)[0].key, "b");
}

fn a_lease_keeps_its_keys_while_it_is_renewed(subject: &impl Subject) {
    let store = subject.handle();
    let lease = store.grant(LEASE).expect("a store that works grants leases");
    let alive = Op::Put { key: "alive".into(), value: "yes".into(), lease: Some(lease) };
    done(commit(&*store, &[], &[alive, put("stays", "")]));
    for _ in 0..4 {
        subject.pass(LEASE / 2);
        store.renew(lease).expect("a lease that is renewed in time goes on");
    }
    assert!(snapshot(&*store).entries.contains_key("alive"), "four halves later it is still alive");
    let mut watch = store.watch(snapshot(&*store).revision).expect("a store that works can be watched");
    subject.pass(LEASE * 3);
    let gone = gather(&mut *watch, 1);
    assert_eq!((gone[0].key.as_str(), &gone[0].value), ("alive", &None), "nobody renewed it: it is told");
    assert_eq!(snapshot(&*store).entries.keys().collect::<Vec<_>>(), ["stays"]);
    assert_eq!(store.renew(lease), Err(ClusterError::LeaseEnded), "what is over cannot be renewed");
}

fn an_ended_lease_takes_its_keys(subject: &impl Subject) {
    let store = subject.handle();
    let lease = store.grant(LEASE).expect("a store that works grants leases");
    let bound = |key: &str| Op::Put { key: key.into(), value: "".into(), lease: Some(lease) };
    done(commit(&*store, &[], &[bound("a"), bound("b")]));
    // Put again without it, a key no longer depends on it.
    done(commit(&*store, &[], &[put("b", "")]));
    store.revoke(lease).expect("a lease can be ended");
    assert_eq!(snapshot(&*store).entries.keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(store.revoke(lease), Ok(()), "ending what is over is success");
}

fn nothing_is_bound_to_an_ended_lease(subject: &impl Subject) {
    let store = subject.handle();
    let lease = store.grant(LEASE).expect("a store that works grants leases");
    store.revoke(lease).expect("a lease can be ended");
    let bound = Op::Put { key: "a".into(), value: "".into(), lease: Some(lease) };
    let transaction = Transaction { conditions: vec![], changes: vec![put("b", ""), bound] };
    assert_eq!(store.commit(&transaction), Err(ClusterError::LeaseEnded));
    assert!(snapshot(&*store).entries.is_empty(), "nothing of the transaction is made");
}

fn large_values_and_many_keys_pass(subject: &impl Subject) {
    let store = subject.handle();
    let before = snapshot(&*store).revision;
    let large = "x".repeat(200_000);
    for n in 0..30 {
        let changes: Vec<Op> = (0..50).map(|k| put(&format!("k/{n:02}/{k:02}"), "v")).collect();
        done(commit(&*store, &[], &changes));
    }
    for n in 0..30 {
        done(commit(&*store, &[], &[put(&format!("l/{n:02}"), &large)]));
    }
    let all = snapshot(&*store);
    assert_eq!(all.entries.len(), 30 * 50 + 30, "a snapshot larger than a message is whole");
    let mut watch = store.watch(before).expect("a store that works can be watched");
    assert_eq!(gather(&mut *watch, 30 * 50 + 30).len(), 30 * 50 + 30, "so is a long history");
}
