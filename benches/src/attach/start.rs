//! How long the agent takes from its start to its first answer, on an empty host and on a full one.

use std::time::Duration;

use anyhow::Result;

use crate::agent::{Agent, Memory};
use crate::contestant::Contestant;
use crate::options::Options;
use crate::samples::Samples;
use crate::say;

/// Starts on each host.
const STARTS: usize = 15;

/// What was measured.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    pub(crate) ready_empty: Samples,
    pub(crate) ready_full: Samples,
    pub(crate) memory_restarted: Memory,
}

/// Stops and starts both agents, in turn.
///
/// # Errors
/// What an agent said that did not start.
pub(crate) fn run(
    options: &Options,
    (empty, mut on_empty): (&Contestant, Agent),
    (full, mut on_full): (&Contestant, Agent),
) -> Result<Started> {
    say(&format!("  {STARTS} starts of the agent on each"));
    let (mut ready_empty, mut ready_full) = (Samples::default(), Samples::default());
    for _ in 0..STARTS {
        on_empty.stop()?;
        on_empty = Agent::start(&options.weft, &empty.host)?;
        ready_empty.push(on_empty.ready_after);
        on_full.stop()?;
        on_full = Agent::start(&options.weft, &full.host)?;
        ready_full.push(on_full.ready_after);
    }
    std::thread::sleep(Duration::from_secs(1));
    let memory_restarted = on_full.memory()?;
    Ok(Started { ready_empty, ready_full, memory_restarted })
}
