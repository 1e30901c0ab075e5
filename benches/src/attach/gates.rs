//! The gates: what weft is held to, with what was measured.

use crate::report::Results;
use crate::{pairs, storm};

/// A promise and how it fared.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) promise: String,
    pub(crate) measured: String,
    pub(crate) passed: bool,
}

/// The list with nothing published takes less than 20 × the floor: the gate is about its work.
pub(crate) const PUBLISHED: &str = "bridge + ipMasq + portmap + tuning, one port published";

/// weft with the same to do.
pub(crate) const WEFT_PUBLISHED: &str = "weft routed, one port published";

/// Judges what was measured; phases that were left out have no gates.
pub(crate) fn judge(results: &Results) -> Vec<Gate> {
    let mut gates = Vec::new();
    attach(results, &mut gates);
    published(results, &mut gates);
    first_packets(results, &mut gates);
    crowds(results, &mut gates);
    agent(results, &mut gates);
    gates
}

fn at_most(gates: &mut Vec<Gate>, promise: &str, figure: f64, bound: f64, unit: &str) {
    let measured = format!("{figure:.3}{unit}");
    gates.push(Gate { promise: promise.to_owned(), measured, passed: figure <= bound });
}

fn at_least(gates: &mut Vec<Gate>, promise: &str, figure: f64, bound: f64, unit: &str) {
    let measured = format!("{figure:.0}{unit}");
    gates.push(Gate { promise: promise.to_owned(), measured, passed: figure >= bound });
}

fn attach(results: &Results, gates: &mut Vec<Gate>) {
    let row = |name: &str| results.rows.iter().find(|r| r.name == name);
    let Some(weft) = row("weft routed") else { return };
    let others = [
        ("1. ADD p50 ≤ 1/4 of bridge + host-local", "bridge + host-local", 1.0 / 4.0),
        ("1. ADD p50 ≤ 1/8 of netavark", "netavark", 1.0 / 8.0),
        (
            "1. ADD p50 ≤ 1/20 of bridge + ipMasq + portmap + tuning, one port published",
            PUBLISHED,
            1.0 / 20.0,
        ),
        ("ADD p50 ≤ 2 × the floor, executed", "floor, executed", 2.0),
    ];
    for (promise, name, bound) in others {
        if let Some(other) = row(name) {
            at_most(gates, promise, weft.add.p50() / other.add.p50(), bound, " ×");
        }
    }
    at_most(gates, "2. DEL p50 ≤ 3 ms", weft.del.p50(), 3.0, " ms");
    let wefts = || results.rows.iter().filter(|r| r.name.starts_with("weft"));
    let answer = wefts().map(|r| r.answer.max()).fold(0.0, f64::max);
    at_most(gates, "the first packet after ADD is answered, every time, both modes", answer, 900.0, " ms");
    let reached: usize = wefts().map(|r| r.reachable_after).sum();
    let promise = "unreachable when DEL returns, every time, both modes".to_owned();
    gates.push(Gate { promise, measured: format!("{reached} answered"), passed: reached == 0 });
    let gone = wefts().map(|r| r.gone.max()).fold(0.0, f64::max);
    at_most(gates, "the link is gone ≤ 1 s after DEL, every time, both modes", gone, 1000.0, " ms");
}

fn published(results: &Results, gates: &mut Vec<Gate>) {
    let row = |name: &str| results.rows.iter().find(|r| r.name == name);
    if let (Some(weft), Some(other)) = (row(WEFT_PUBLISHED), row(PUBLISHED)) {
        let add = weft.add.p50() / other.add.p50();
        at_most(gates, "ADD with one published port ≤ 1/20 of the list with portmap", add, 1.0 / 20.0, " ×");
        let del = weft.del.p50() / other.del.p50();
        at_most(gates, "DEL with one published port ≤ 1/20 of the list with portmap", del, 1.0 / 20.0, " ×");
    }
}

fn first_packets(results: &Results, gates: &mut Vec<Gate>) {
    let Some(first) = &results.first_packets else { return };
    let ports = first.ports;
    for (what, many, one) in [
        ("TCP connect", &first.many.tcp, &first.one.tcp),
        ("first UDP datagram", &first.many.udp, &first.one.udp),
    ] {
        let promise = format!("{what} through one of {ports} published ports ≤ 1.05 × through the only one");
        at_most(gates, &promise, many.p50() / one.p50(), 1.05, " ×");
    }
}

fn crowds(results: &Results, gates: &mut Vec<Gate>) {
    if let Some(weft) = results.storms.iter().find(|s| s.name == "weft routed") {
        let promise = format!("3. ≥ 300 ADD/s with {} callers", storm::CALLERS);
        at_least(gates, &promise, weft.rate, 300.0, "/s");
    }
    if let Some(pairs) = &results.pairs {
        let promise = format!("≥ 200 ADD+DEL pairs/s with {} callers", pairs::CALLERS);
        at_least(gates, &promise, pairs.count as f64 / pairs.seconds, 200.0, "/s");
        let promise = "no link, nftables element or record is left of them".to_owned();
        let measured = format!("{} → {}", pairs.before, pairs.after);
        gates.push(Gate { promise, measured, passed: pairs.before == pairs.after });
    }
}

fn agent(results: &Results, gates: &mut Vec<Gate>) {
    let mib = |kib: u64| kib as f64 / 1024.0;
    if let Some(idle) = results.idle {
        at_most(gates, "9. agent idle ≤ 15 MiB resident", mib(idle.resident), 15.0, " MiB");
    }
    let Some(scale) = &results.scale else { return };
    let count = scale.workloads;
    for mode in &scale.modes {
        let ratio = mode.full.add.p50() / mode.empty.add.p50();
        let promise = format!("4. {}: ADD p50 with {count} workloads ≤ 1.5 × an empty host", mode.name);
        at_most(gates, &promise, ratio, 1.5, " ×");
    }
    let resident = mib(scale.memory_full.resident.max(scale.memory_restarted.resident));
    at_most(gates, &format!("agent ≤ 40 MiB resident with {count} workloads"), resident, 40.0, " MiB");
    at_most(gates, "agent ready < 100 ms, empty host, p50", scale.ready_empty.p50(), 100.0, " ms");
    let promise = format!("agent ready < 100 ms with {count} workloads, p50");
    at_most(gates, &promise, scale.ready_full.p50(), 100.0, " ms");
}
