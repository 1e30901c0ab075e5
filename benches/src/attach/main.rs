//! `bench-attach`: what attaching and detaching a workload costs with weft, with others, and at the least.
//!
//! Contestants take turns within one run (A B C A B C …), so that noise of the machine meets all alike and
//! ratios hold where absolute figures do not. Everything happens in namespaces of this process's own.

mod agent;
mod contestant;
mod gates;
mod host;
mod options;
mod pairs;
mod program;
mod published;
mod report;
mod rounds;
mod samples;
mod scale;
mod start;
mod storm;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use weft_benches::{document, machine};

use crate::agent::Agent;
use crate::contestant::{Contestant, Kind, Netavark};
use crate::host::Seats;
use crate::options::{Options, Phase};
use crate::report::Results;

/// The network that an agent makes by itself, and the one made here.
pub(crate) const ROUTED: &str = "default";
pub(crate) const BRIDGE: &str = "segment";

fn main() -> Result<ExitCode> {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            say(options::HELP);
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error.context("see --help")),
    };
    let machine = machine::describe();
    host::leave_the_machine()?;
    let results = measure(&options, machine)?;
    let gates = gates::judge(&results);
    let text = report::markdown(&results, &gates);
    say(&format!("\n{text}"));
    if let Some(path) = &options.write {
        document::write(path, "bench-attach", &text)
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    let failed = gates.iter().any(|g| !g.passed);
    Ok(if options.gate && failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn measure(options: &Options, machine: String) -> Result<Results> {
    let mut seats = Seats::default();
    let mut results = Results { machine, ..Results::default() };
    if options.wants(Phase::Rounds) || options.wants(Phase::Storm) {
        let (version, driver) = contestant::netavark_driver()?;
        results.netavark = format!("netavark {version} with {driver}");
        let (mut field, agents) = field(options, driver)?;
        results.idle = Some(agents[0].memory()?);
        if options.wants(Phase::Rounds) {
            published::prove(&field, &mut seats)?;
            results.rows = rounds::run(&field, &mut seats, options.rounds)?;
        }
        if options.wants(Phase::Storm) {
            field.retain(|c| storm::NAMES.contains(&c.name.as_str()));
            results.storms = storm::run(&field, &mut seats, options.storm)?;
        }
        drop(agents);
    }
    if options.wants(Phase::Ports) {
        results.first_packets = Some(published::run(options, &mut seats)?);
    }
    if options.wants(Phase::Pairs) {
        results.pairs = Some(pairs::run(options, &mut seats)?);
    }
    if options.wants(Phase::Scale) {
        results.scale = Some(scale::run(options, &mut seats)?);
    }
    Ok(results)
}

/// Everybody who takes turns, and the agents that two of them need.
fn field(options: &Options, driver: &'static str) -> Result<(Vec<Contestant>, Vec<Agent>)> {
    let (mut all, mut agents) = (Vec::new(), Vec::new());
    all.push(Contestant::new("floor, in process", |_| Kind::InProcess)?);
    all.push(Contestant::new("floor, executed", |_| Kind::Floor(options.floor.clone()))?);
    for (name, network) in [("weft routed", ROUTED), ("weft bridge", BRIDGE), (gates::WEFT_PUBLISHED, ROUTED)]
    {
        let publish = name == gates::WEFT_PUBLISHED;
        let weft = |host: &host::Host| contestant::weft(options.plugin.clone(), host, network, publish);
        let contestant = Contestant::new(name, weft)?;
        let agent = Agent::start(&options.weft, &contestant.host)?;
        if network == BRIDGE {
            agent.bridge_network(BRIDGE)?;
        }
        all.push(contestant);
        agents.push(agent);
    }
    let chain = |chain| Kind::Plugins(chain);
    all.push(Contestant::new("bridge + host-local", |host| chain(contestant::bridge(host)))?);
    all.push(Contestant::new("bridge + host-local, dual stack", |h| chain(contestant::bridge_dual(h)))?);
    all.push(Contestant::new("ptp + host-local", |host| chain(contestant::ptp(host)))?);
    let list = "bridge + ipMasq + portmap + tuning";
    all.push(Contestant::new(list, |host| chain(contestant::bridge_chain(host, false)))?);
    all.push(Contestant::new(gates::PUBLISHED, |host| chain(contestant::bridge_chain(host, true)))?);
    all.push(Contestant::new("netavark", |host| Kind::Netavark(Netavark::new(host, driver)))?);
    Ok((all, agents))
}

/// The one place that prints. Nobody may be listening; the work is done all the same.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
