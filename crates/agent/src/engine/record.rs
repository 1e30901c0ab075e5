//! Keeping the world where it survives the agent: what is recorded, what is owed, what is forgotten.
//!
//! Nothing in the kernel waits for a disk: where a record cannot be written the deed is done all the same, if it
//! is one that takes away, and refused if it is one that gives.

use std::collections::{BTreeMap, BTreeSet};

use weft_model::api::Error;
use weft_plan::address::REST;
use weft_store::{Store, StoreError, Write};

use super::{Engine, storage};
use crate::{chain, clock};

/// Resting addresses whose rest is over leave the records so often, in seconds.
const SWEEP: u64 = 10;

/// What is known of the records beyond what they hold.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Changes that could not be recorded when they were made: written before anything else is.
    owed: Vec<Write>,
    /// Why a file cannot be written, by whether it is the one that outlives a reboot.
    troubles: BTreeMap<bool, String>,
    /// Settings whose values of before weft are on record or owed, by path below `/proc/sys`.
    settings: BTreeSet<String>,
    /// When the last address was freed, in seconds since boot.
    freed_at: u64,
    /// Addresses freed before that second are not on record any more.
    swept: u64,
}

impl Records {
    /// Notes that a file cannot be written.
    pub(super) fn trouble(&mut self, outlives_boot: bool, why: String) {
        self.troubles.insert(outlives_boot, why);
    }

    /// Notes that the values of before weft of these settings are on record.
    pub(super) fn kept(&mut self, settings: impl Iterator<Item = String>) {
        self.settings.extend(settings);
    }

    /// Whether the value of before weft of a setting is on record or owed.
    pub(super) fn keeps(&self, setting: &str) -> bool {
        self.settings.contains(setting)
    }

    /// Notes that addresses rest since second `at`.
    pub(super) fn freed(&mut self, at: u64) {
        self.freed_at = self.freed_at.max(at);
    }

    /// Before which second addresses were freed whose rest is over and that are still on record.
    fn rested(&self, now: u64) -> Option<u64> {
        let before = now.saturating_sub(REST);
        (self.freed_at >= self.swept && before >= self.swept.saturating_add(SWEEP)).then_some(before)
    }

    /// For `weft status`.
    pub(super) fn health(&self) -> impl Iterator<Item = String> + '_ {
        let line = |(_, why): (&bool, &String)| format!("records cannot be written: {why}");
        self.troubles.iter().map(line)
    }
}

impl Engine {
    /// Records changes of the world, and along with them which attachments were finished since.
    pub(super) fn record(&mut self, writes: Vec<Write>) -> Result<(), Error> {
        let finished = std::mem::take(&mut self.unwritten);
        let finished_workloads = finished.iter().filter_map(|id| self.world.workloads.get(id));
        let owed = std::mem::take(&mut self.records.owed);
        let mut all = owed.clone();
        all.extend(writes);
        all.extend(finished_workloads.map(|w| Write::PutWorkload(Box::new(w.clone()))));
        let result = self.store.commit(&all);
        let files = all.iter().map(Write::outlives_boot);
        match result {
            Ok(()) => {
                files.for_each(|file| drop(self.records.troubles.remove(&file)));
                let freed = |write: &Write| match write {
                    Write::RemoveWorkload { freed, at, .. } if !freed.is_empty() => Some(*at),
                    _ => None,
                };
                all.iter().filter_map(freed).for_each(|at| self.records.freed(at));
                Ok(())
            }
            Err(error) => {
                // A record that cannot be written down is the caller's trouble alone.
                if !matches!(error, StoreError::Encode { .. }) {
                    files.for_each(|file| self.records.trouble(file, chain(&error)));
                }
                self.unwritten.extend(finished);
                self.records.owed = owed;
                Err(storage(&error))
            }
        }
    }

    /// Records what is so already, in the kernel or in the world. Where that is not possible it is owed: what is
    /// gone from the kernel must not come back because a disk is full, what was found there must not be
    /// lost, and no record that is written later can overtake it.
    pub(super) fn record_or_owe(&mut self, writes: Vec<Write>) {
        if writes.is_empty() {
            return;
        }
        let settings = writes.iter().filter_map(|write| match write {
            Write::KeepSysctl { key, .. } => Some(key.clone()),
            _ => None,
        });
        self.records.kept(settings);
        if let Err(error) = self.record(writes.clone()) {
            tracing::warn!(%error, "failed to record what is done; it will be recorded later");
            self.records.owed.extend(writes);
        }
    }

    /// Whether changes wait for storage that can be written.
    pub(crate) fn is_owing(&self) -> bool {
        !self.records.owed.is_empty()
    }

    /// Writes down what was finished or is owed, and forgets addresses that have rested, if there is any of
    /// that; looks whether a file can be written again that could not. Returns whether there was something to do.
    pub(crate) fn settle(&mut self) -> bool {
        let rested = self.records.rested(clock::now());
        let mut writes: Vec<Write> =
            rested.map(|before| Write::ForgetRested { before }).into_iter().collect();
        for outlives_boot in self.records.troubles.keys() {
            // Neither changes anything.
            writes.push(match outlives_boot {
                true => Write::ForgetSysctl(String::new()),
                false => Write::ForgetRested { before: 0 },
            });
        }
        if writes.is_empty() && self.unwritten.is_empty() && self.records.owed.is_empty() {
            return false;
        }
        let known = !self.records.troubles.is_empty();
        match self.record(writes) {
            Ok(()) => self.records.swept = rested.unwrap_or(self.records.swept),
            Err(error) if known => tracing::debug!(%error, "records still cannot be written"),
            Err(error) => tracing::warn!(%error, "failed to record what was done before"),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_swept_when_they_have_rested_and_then_no_more() {
        let mut records = Records::default();
        assert_eq!(records.rested(100), Some(70), "what an earlier agent may have left");
        records.swept = 70;
        assert_eq!(records.rested(1000), None, "nothing was freed since");
        records.freed(1000);
        let due: Vec<u64> = (1000..1100)
            .filter(|now| match records.rested(*now) {
                Some(before) => {
                    records.swept = before;
                    true
                }
                None => false,
            })
            .collect();
        assert_eq!(due, [1000, 1010, 1020, 1030, 1040], "the last one forgets second 1000 with certainty");
        assert!(records.swept > 1000);
    }

    #[test]
    fn a_sweep_spares_those_at_rest() {
        let records = Records { freed_at: 95, ..Records::default() };
        // Freed in second 70 and rested is only who has seen second 101.
        assert!(records.rested(100).is_some_and(|before| before <= 70));
    }
}
