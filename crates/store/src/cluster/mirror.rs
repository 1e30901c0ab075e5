//! A copy of the shared store that follows it, whatever the way there: changes may come twice, late, or in
//! the wrong order, after a snapshot that already holds them.
//!
//! Never goes back: per key only a later revision counts.

use std::collections::BTreeMap;

use super::{Fact, Revision, Snapshot, View};

/// A snapshot is older than what is known already; a server lags behind. Ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store answered with revision {found}, after {known} was seen")]
pub struct OutOfDate {
    /// What came.
    pub found: Revision,
    /// What is known.
    pub known: Revision,
}

/// How far back deletions are remembered, in revisions: longer than any connection repeats itself.
const MEMORY: u64 = 100_000;

/// What is known of a key.
#[derive(Clone, Copy, Debug)]
struct Known {
    revision: Revision,
    present: bool,
}

/// A copy that follows.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    known: BTreeMap<String, Known>,
    /// What the snapshot said; whatever is not later is in it.
    floor: Revision,
    latest: Revision,
    history: Option<u64>,
    view: View,
    pruned: u64,
}

impl Mirror {
    /// What the keys say.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// From where on to watch.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.latest
    }

    /// The commit that last put `key`, if it is there.
    #[must_use]
    pub fn revision_of(&self, key: &str) -> Option<Revision> {
        self.known.get(key).filter(|k| k.present).map(|k| k.revision)
    }

    /// Takes a snapshot for the truth. Returns the facts that are new by it: for whoever keeps a copy.
    ///
    /// # Errors
    /// [`OutOfDate`] if it is of the same history and older; nothing has changed then.
    pub fn replace(&mut self, snapshot: Snapshot) -> Result<Vec<Fact>, OutOfDate> {
        let restored = self.history.is_some_and(|h| h != snapshot.history);
        if !restored && snapshot.revision < self.latest {
            return Err(OutOfDate { found: snapshot.revision, known: self.latest });
        }
        let mut news = Vec::new();
        let gone: Vec<String> = self
            .known
            .iter()
            .filter(|(key, k)| k.present && !snapshot.entries.contains_key(*key))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.view.apply(&key, None);
            news.push(Fact { key, value: None, revision: snapshot.revision });
        }
        let before = std::mem::take(&mut self.known);
        for (key, entry) in snapshot.entries {
            let same =
                !restored && before.get(&key).is_some_and(|k| k.present && k.revision == entry.revision);
            if !same {
                self.view.apply(&key, Some(&entry.value));
                news.push(Fact { key: key.clone(), value: Some(entry.value), revision: entry.revision });
            }
            self.known.insert(key, Known { revision: entry.revision, present: true });
        }
        (self.floor, self.latest) = (snapshot.revision, snapshot.revision);
        self.history = Some(snapshot.history);
        Ok(news)
    }

    /// Takes changes in that the store told. Returns those that are news.
    pub fn apply(&mut self, facts: Vec<Fact>) -> Vec<Fact> {
        if let Some(latest) = facts.iter().map(|f| f.revision).max() {
            self.latest = self.latest.max(latest);
        }
        let news = self.note(facts);
        self.prune();
        news
    }

    /// Takes changes in that this host made itself, before the store tells them. Those of others that
    /// came before are still to be told: the place from which to watch stays.
    pub fn note(&mut self, facts: Vec<Fact>) -> Vec<Fact> {
        let mut news = Vec::new();
        for fact in facts {
            let seen = self.known.get(&fact.key).is_some_and(|k| fact.revision <= k.revision);
            if seen || fact.revision <= self.floor {
                continue;
            }
            let present = fact.value.is_some();
            let was = self.known.insert(fact.key.clone(), Known { revision: fact.revision, present });
            if present || was.is_some_and(|k| k.present) {
                self.view.apply(&fact.key, fact.value.as_deref());
                news.push(fact);
            }
        }
        news
    }

    /// Forgets deletions of long ago.
    fn prune(&mut self) {
        if self.latest.0 < self.pruned + MEMORY {
            return;
        }
        self.pruned = self.latest.0;
        let old = self.latest.0.saturating_sub(MEMORY);
        self.known.retain(|_, k| k.present || k.revision.0 >= old);
        self.floor = self.floor.max(Revision(old.saturating_sub(1)));
    }
}
