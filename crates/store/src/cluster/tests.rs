//! The laws against the store in memory, and the mirror against every way in which news may come
//! (BAR.md R10).

use std::collections::BTreeSet;
use std::time::Duration;

use super::laws::{Subject, cluster_laws};
use super::{ClusterError, ClusterStore, Fact, InMemory, Mirror, Op, Revision, Snapshot, Transaction, View};

impl Subject for InMemory {
    fn handle(&self) -> Box<dyn ClusterStore> {
        Box::new(self.clone())
    }

    fn pass(&self, time: Duration) {
        InMemory::pass(self, time);
    }

    fn compact(&self) {
        InMemory::compact(self);
    }
}

#[test]
fn the_store_in_memory_keeps_the_laws() {
    cluster_laws(InMemory::default);
}

/// A small deterministic generator (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }

    /// A change as hosts make them, some of them rubbish.
    fn op(&mut self) -> Op {
        let node = self.roll(4);
        let key = match self.roll(5) {
            0 => format!("nodes/host{node}"),
            1 => format!("alive/host{node}"),
            2 => format!("blocks/default/10.119.{}.0-24", self.roll(8)),
            3 => format!("workloads/host{node}/default/c{}/eth0", self.roll(6)),
            _ => format!("nonsense/{}", self.roll(3)),
        };
        let value = match (self.roll(8), key.split('/').next().unwrap_or_default()) {
            (0, _) => "{".to_owned(),
            (1 | 2, _) => return Op::Delete(key),
            (n, "nodes") => format!(r#"{{"mtu":{},"mac":"02:00:00:00:00:01"}}"#, 1400 + n),
            (n, "alive") => format!(r#"{{"incarnation":{n}}}"#),
            (n, "blocks") => format!(r#"{{"node":"host{node}","order":{n}}}"#),
            (n, "workloads") => format!(r#"{{"addresses":["10.119.0.{n}"]}}"#),
            (n, _) => n.to_string(),
        };
        Op::Put { key, value: value.into(), lease: None }
    }
}

/// A store behind a line that repeats, reorders, loses its connection, forgets and lags.
struct Line {
    store: InMemory,
    old: Vec<Snapshot>,
    past: Vec<Fact>,
    mirror: Mirror,
    dice: Dice,
    /// What a copy on disk holds that is told only what [`Mirror`] calls news.
    copy: BTreeSet<String>,
}

impl Line {
    fn new(seed: u64) -> Line {
        let (store, mirror, dice) = (InMemory::default(), Mirror::default(), Dice(seed));
        Line { store, old: Vec::new(), past: Vec::new(), mirror, dice, copy: BTreeSet::new() }
    }

    fn change(&mut self, most: usize) {
        for _ in 0..self.dice.roll(most) {
            let mut changes: Vec<Op> = (0..=self.dice.roll(3)).map(|_| self.dice.op()).collect();
            let mut seen = BTreeSet::new();
            changes.retain(|op| match op {
                Op::Put { key, .. } | Op::Delete(key) | Op::DeleteBelow(key) => seen.insert(key.clone()),
            });
            self.store.commit(&Transaction { conditions: vec![], changes }).unwrap();
        }
    }

    fn keep(&mut self, news: Vec<Fact>) {
        for fact in news {
            if fact.value.is_some() {
                self.copy.insert(fact.key)
            } else {
                self.copy.remove(&fact.key)
            };
        }
    }

    fn list(&mut self) {
        let snapshot = self.store.snapshot().unwrap();
        self.old.push(snapshot.clone());
        let news = self.mirror.replace(snapshot).expect("a fresh snapshot is never out of date");
        self.keep(news);
    }

    /// One connection: from where the mirror is, until it breaks.
    fn connect(&mut self) {
        if self.dice.roll(6) == 0 {
            self.store.compact();
        }
        // Somebody's clock, or an unsure client, asks for more of the past than it needs.
        let back = self.dice.roll(4) as u64;
        let from = Revision(self.mirror.revision().0.saturating_sub(back));
        let mut watch = match self.store.watch(from) {
            Ok(watch) => watch,
            Err(ClusterError::Compacted(_)) => return self.list(),
            Err(other) => panic!("{other}"),
        };
        for _ in 0..self.dice.roll(4) {
            self.change(6);
            let mut facts = watch.next(Duration::ZERO).unwrap();
            self.past.extend(facts.iter().cloned());
            for _ in 0..self.dice.roll(4) {
                if !self.past.is_empty() {
                    let again = self.dice.roll(self.past.len());
                    facts.push(self.past[again].clone());
                }
            }
            for n in (1..facts.len()).rev() {
                facts.swap(n, self.dice.roll(n + 1));
            }
            let news = self.mirror.apply(facts);
            self.keep(news);
        }
        if self.dice.roll(5) == 0 && !self.old.is_empty() {
            let stale = self.old[self.dice.roll(self.old.len())].clone();
            let lags = stale.revision < self.mirror.revision();
            match self.mirror.replace(stale) {
                Err(_) => assert!(lags, "only what is older is out of date"),
                Ok(news) => {
                    assert!(!lags, "an old snapshot was taken for the truth");
                    self.keep(news);
                }
            }
        }
        // The rest of this connection is lost with it.
        self.change(4);
    }

    fn settle(&mut self) {
        let after = self.mirror.revision();
        match self.store.watch(after) {
            Ok(mut watch) => {
                let news = self.mirror.apply(watch.next(Duration::ZERO).unwrap());
                self.keep(news);
            }
            Err(_) => self.list(),
        }
    }
}

fn chaos(seed: u64) {
    let mut line = Line::new(seed);
    line.change(20);
    line.list();
    for _ in 0..line.dice.roll(12) {
        line.connect();
    }
    line.settle();
    let truth = line.store.snapshot().unwrap();
    assert_eq!(*line.mirror.view(), View::of(&truth), "seed {seed}");
    assert_eq!(line.copy, truth.entries.keys().cloned().collect(), "seed {seed}: the copy on disk");
}

/// Whatever comes twice, late, in the wrong order, after a lost connection, a forgotten history or a
/// lagging server: the end is what a fresh list says.
#[test]
fn the_mirror_ends_where_a_fresh_list_begins() {
    let seeds = if std::env::var_os("WEFT_FULL").is_some() { 10_000 } else { 500 };
    (0..seeds).for_each(chaos);
}

#[test]
fn a_burst_of_a_hundred_thousand_changes_is_followed() {
    let mut line = Line::new(7);
    line.list();
    let mut watch = line.store.watch(line.mirror.revision()).unwrap();
    for n in 0..100_000u32 {
        let key = format!("workloads/host1/default/c{}/eth0", n % 500);
        let value = format!(r#"{{"addresses":["10.119.0.{}"]}}"#, n % 250);
        let op = Op::Put { key, value: value.into(), lease: None };
        line.store.commit(&Transaction { conditions: vec![], changes: vec![op] }).unwrap();
    }
    let facts = watch.next(Duration::ZERO).unwrap();
    assert_eq!(line.mirror.apply(facts).len(), 100_000);
    assert_eq!(*line.mirror.view(), View::of(&line.store.snapshot().unwrap()));
}

#[test]
fn a_store_from_a_backup_is_believed_although_it_is_older() {
    let (mut mirror, store) = (Mirror::default(), InMemory::default());
    let op = Op::Put { key: "alive/host1".into(), value: r#"{"incarnation":1}"#.into(), lease: None };
    for _ in 0..3 {
        store.commit(&Transaction { conditions: vec![], changes: vec![op.clone()] }).unwrap();
    }
    mirror.replace(store.snapshot().unwrap()).unwrap();
    let restored = Snapshot { revision: Revision(1), history: 2, ..Snapshot::default() };
    mirror.replace(restored).expect("another history may have fewer revisions");
    assert!(mirror.view().alive.is_empty());
}

#[test]
fn rubbish_is_listed_by_its_key_and_harms_nobody() {
    let mut view = View::default();
    view.apply("nodes/host1", Some(br#"{"mtu":1500,"mac":"02:00:00:00:00:01","later":[1]}"#));
    view.apply("nodes/host2", Some(b"\xff\xfe"));
    view.apply("nodes/../etc", Some(b"{}"));
    view.apply(
        "networks/app",
        Some(br#"{"network":{"name":"other","id":1,"vni":1},"block4":24,"block6":64}"#),
    );
    view.apply("blocks/app/10.0.0.1-24", Some(br#"{"node":"host1"}"#));
    assert_eq!(view.nodes.len(), 1, "what a later version added is passed over");
    let named: Vec<&str> = view.unreadable.keys().map(String::as_str).collect();
    assert_eq!(named, ["blocks/app/10.0.0.1-24", "networks/app", "nodes/../etc", "nodes/host2"]);
    view.apply("nodes/host2", Some(br#"{"mtu":1500,"mac":"02:00:00:00:00:02"}"#));
    view.apply("nodes/../etc", None);
    assert_eq!((view.nodes.len(), view.unreadable.len()), (2, 2), "mended or gone, it is listed no longer");
}

proptest::proptest! {
    /// Any bytes at all.
    #[test]
    fn no_value_makes_the_view_fall(key in "[a-z0-9./-]{0,40}", value: Vec<u8>) {
        let mut view = View::default();
        for head in ["", "nodes/", "alive/", "networks/", "blocks/app/", "workloads/h/n/c/", "trust"] {
            view.apply(&format!("{head}{key}"), Some(&value));
        }
        let _ = view.nodes_with_blocks();
    }
}
