//! An empty host beside a full one: what a further attachment costs there, what the agent weighs, how
//! long it takes to start.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::agent::{Agent, Memory, Remains};
use crate::contestant::{self, Contestant};
use crate::host::{Seats, clear};
use crate::options::Options;
use crate::rounds::{self, Row};
use crate::samples::Samples;
use crate::start;
use crate::storm::crowd;
use crate::{BRIDGE, ROUTED, say};

/// Callers that fill a host.
const CALLERS: usize = 4;
/// Until the agent has written down what it does in its own time.
const REST: Duration = Duration::from_secs(3);

/// What was measured in one mode.
#[derive(Clone, Debug)]
pub(crate) struct Mode {
    pub(crate) name: &'static str,
    pub(crate) empty: Row,
    pub(crate) full: Row,
}

/// What was measured.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    pub(crate) workloads: usize,
    pub(crate) modes: Vec<Mode>,
    /// The agent of the empty routed host, after a few dozen attachments came and went.
    pub(crate) memory_empty: Memory,
    pub(crate) memory_full: Memory,
    /// From the start of the program to its first answer.
    pub(crate) ready_empty: Samples,
    pub(crate) ready_full: Samples,
    /// An agent that was just started, on the full host.
    pub(crate) memory_restarted: Memory,
}

/// Measures both modes, and the agent's start in routed mode.
///
/// # Errors
/// What a program said that failed.
pub(crate) fn run(options: &Options, seats: &mut Seats) -> Result<Scale> {
    let count = options.workloads;
    say(&format!("scale: a host with {count} workloads beside an empty one"));
    let mut modes = Vec::new();
    let mut weighed = None;
    for (name, network) in [("weft bridge", BRIDGE), ("weft routed", ROUTED)] {
        let (empty, empty_agent) = host(options, &format!("{name}, empty"), network)?;
        let (full, full_agent) = host(options, &format!("{name}, full"), network)?;
        let taken = seats.make(count)?;
        crowd(&taken, CALLERS, |seat| full.add(seat)).with_context(|| format!("failed to fill {name}"))?;
        std::thread::sleep(REST);
        let memory_full = full_agent.memory()?;
        say(&format!("  {name}: filled; {:?}", Remains::count(&full_agent, &full.host)?.records));
        let pair = [empty, full];
        let mut rows = rounds::run(&pair, seats, options.rounds)?.into_iter();
        let (empty_row, full_row) = rows.next().zip(rows.next()).context("a row is missing")?;
        modes.push(Mode { name, empty: empty_row, full: full_row });
        if network == ROUTED {
            let memory_empty = empty_agent.memory()?;
            let started = start::run(options, (&pair[0], empty_agent), (&pair[1], full_agent))?;
            weighed = Some((memory_empty, memory_full, started));
        }
        clear(&taken)?;
    }
    let (memory_empty, memory_full, started) = weighed.context("the routed mode was not measured")?;
    let start::Started { ready_empty, ready_full, memory_restarted } = started;
    Ok(Scale {
        workloads: count,
        modes,
        memory_empty,
        memory_full,
        ready_empty,
        ready_full,
        memory_restarted,
    })
}

fn host(options: &Options, name: &str, network: &str) -> Result<(Contestant, Agent)> {
    let contestant =
        Contestant::new(name, |host| contestant::weft(options.plugin.clone(), host, network, false))?;
    let agent = Agent::start(&options.weft, &contestant.host)?;
    if network == BRIDGE {
        agent.bridge_network(BRIDGE)?;
    }
    Ok((contestant, agent))
}
