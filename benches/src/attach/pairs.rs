//! Attach and detach without a pause, from many callers; afterwards nothing may be left.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::agent::{Agent, Memory, Remains};
use crate::contestant::{self, Contestant};
use crate::host::{Seat, Seats, clear};
use crate::options::Options;
use crate::samples::Samples;
use crate::storm::crowd;
use crate::{ROUTED, say};

/// Callers at once.
pub(crate) const CALLERS: usize = 16;
/// Each caller goes round so many namespaces, so that a link has been deleted when its name comes again.
const SEATS: usize = 48;
/// What the agent does in the background must have ended by then.
const REST: Duration = Duration::from_secs(2);

/// What was measured.
#[derive(Clone, Debug)]
pub(crate) struct Pairs {
    pub(crate) seconds: f64,
    pub(crate) count: usize,
    pub(crate) add: Samples,
    pub(crate) del: Samples,
    pub(crate) before: Remains,
    pub(crate) after: Remains,
    pub(crate) memory_before: Memory,
    pub(crate) memory_after: Memory,
}

/// Runs it on a host of its own.
///
/// # Errors
/// What a program said that failed.
pub(crate) fn run(options: &Options, seats: &mut Seats) -> Result<Pairs> {
    say(&format!("pairs: {CALLERS} callers for {} s", options.pairs_seconds));
    let weft =
        Contestant::new("pairs", |host| contestant::weft(options.plugin.clone(), host, ROUTED, false))?;
    let agent = Agent::start(&options.weft, &weft.host)?;
    let made = seats.make(CALLERS * SEATS)?;
    let own: Vec<&[Seat]> = made.chunks(SEATS).collect();
    std::thread::sleep(REST);
    let (before, memory_before) = (Remains::count(&agent, &weft.host)?, agent.memory()?);
    let begin = Instant::now();
    let end = begin + Duration::from_secs(options.pairs_seconds);
    let parts = crowd(&own, CALLERS, |seats| until(end, &weft, seats))?;
    let seconds = begin.elapsed().as_secs_f64();
    std::thread::sleep(REST);
    let (after, memory_after) = (Remains::count(&agent, &weft.host)?, agent.memory()?);
    let (mut add, mut del) = (Samples::default(), Samples::default());
    for (adds, dels) in parts {
        add.extend(adds);
        del.extend(dels);
    }
    let count = del.len();
    say(&format!("  {:.0} pairs/s", count as f64 / seconds));
    clear(&made)?;
    Ok(Pairs { seconds, count, add, del, before, after, memory_before, memory_after })
}

fn until(end: Instant, weft: &Contestant, seats: &[Seat]) -> Result<(Samples, Samples)> {
    let (mut adds, mut dels) = (Samples::default(), Samples::default());
    for seat in seats.iter().cycle() {
        if Instant::now() >= end {
            break;
        }
        let added = weft.add(seat)?;
        dels.push(weft.del(seat, &added)?);
        adds.push(added.took);
    }
    Ok((adds, dels))
}
