//! Storms: many callers at once, as when a node starts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::contestant::{Added, Contestant};
use crate::host::{Seat, Seats, clear};
use crate::samples::{Samples, median};
use crate::say;

/// Who takes part.
pub(crate) const NAMES: [&str; 5] =
    ["weft routed", "weft bridge", "bridge + host-local", "ptp + host-local", "netavark"];
/// Callers at once.
pub(crate) const CALLERS: usize = 8;
/// How many storms each contestant goes through.
const STORMS: usize = 3;

/// What was measured of one contestant.
#[derive(Clone, Debug)]
pub(crate) struct Storm {
    pub(crate) name: String,
    /// Attachments per second, the median of the storms.
    pub(crate) rate: f64,
    /// What one ADD takes in a storm.
    pub(crate) add: Samples,
}

/// Lets everybody go through storms of `count` attachments, in turn.
///
/// # Errors
/// What a program said that failed.
pub(crate) fn run(field: &[Contestant], seats: &mut Seats, count: usize) -> Result<Vec<Storm>> {
    say(&format!("storms: {CALLERS} callers, {count} attachments, {STORMS} times each"));
    let mut all = vec![(Vec::new(), Samples::default()); field.len()];
    for round in 0..STORMS {
        for (contestant, (rates, samples)) in field.iter().zip(&mut all) {
            let made = seats.make(count)?;
            thread::sleep(Duration::from_millis(300));
            let (rate, adds) = storm(contestant, &made)
                .with_context(|| format!("{} has failed in a storm", contestant.name))?;
            say(&format!("  {}/{STORMS} {}: {rate:.0} ADD/s", round + 1, contestant.name));
            rates.push(rate);
            samples.extend(adds);
            clear(&made)?;
        }
    }
    let of = |(contestant, (rates, add)): (&Contestant, (Vec<f64>, Samples))| Storm {
        name: contestant.name.clone(),
        rate: median(rates),
        add,
    };
    Ok(field.iter().zip(all).map(of).collect())
}

fn storm(contestant: &Contestant, seats: &[Seat]) -> Result<(f64, Samples)> {
    let begin = Instant::now();
    let added = crowd(seats, CALLERS, |seat| contestant.add(seat).map(|added| (seat, added)))?;
    let rate = seats.len() as f64 / begin.elapsed().as_secs_f64();
    let mut samples = Samples::default();
    added.iter().for_each(|(_, one)| samples.push(one.took));
    crowd(&added, CALLERS, |(seat, one): &(&Seat, Added)| contestant.del(seat, one))?;
    Ok((rate, samples))
}

/// Works items off with so many threads; ends at the first failure.
///
/// # Errors
/// That failure.
pub(crate) fn crowd<'a, T: Sync, R: Send>(
    items: &'a [T],
    callers: usize,
    work: impl Fn(&'a T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let one_caller = || -> Result<Vec<R>> {
        let mut done = Vec::new();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push(work(item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?);
        }
        Ok(done)
    };
    let parts: Vec<Result<Vec<R>>> = thread::scope(|scope| {
        let callers: Vec<_> = (0..callers).map(|_| scope.spawn(one_caller)).collect();
        let join = |c: thread::ScopedJoinHandle<'_, _>| {
            c.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a caller panicked")))
        };
        callers.into_iter().map(join).collect()
    });
    let parts: Vec<Vec<R>> = parts.into_iter().collect::<Result<_>>()?;
    Ok(parts.into_iter().flatten().collect())
}
