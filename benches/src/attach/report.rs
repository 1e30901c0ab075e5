//! The report: tables in Markdown.

use std::fmt::Write;

use crate::agent::Memory;
use crate::gates::Gate;
use crate::pairs::{self, Pairs};
use crate::published::{Cost, FirstPackets};
use crate::rounds::Row;
use crate::samples::Samples;
use crate::scale::Scale;
use crate::storm::{self, Storm};

/// Everything that was measured; what was left out is empty.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) machine: String,
    pub(crate) netavark: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) idle: Option<Memory>,
    pub(crate) storms: Vec<Storm>,
    pub(crate) first_packets: Option<FirstPackets>,
    pub(crate) pairs: Option<Pairs>,
    pub(crate) scale: Option<Scale>,
}

/// The whole report.
pub(crate) fn markdown(results: &Results, gates: &[Gate]) -> String {
    let mut text = format!("Measured on {}.\n", results.machine);
    // Writing to a string cannot fail.
    let _ = rows(results, &mut text);
    let _ = storms(results, &mut text);
    if let Some(first) = &results.first_packets {
        let _ = first_packets(first, &mut text);
    }
    if let Some(pairs) = &results.pairs {
        let _ = pairs_table(pairs, &mut text);
    }
    if let Some(scale) = &results.scale {
        let _ = scale_table(scale, results.idle, &mut text);
    }
    let _ = gate_table(gates, &mut text);
    text
}

fn rows(results: &Results, text: &mut String) -> std::fmt::Result {
    let Some(weft) = results.rows.iter().find(|r| r.name == "weft routed") else { return Ok(()) };
    let turns = weft.add.len();
    writeln!(
        text,
        "\n### One at a time\n\n{turns} turns each, alternating; {}. Milliseconds.\n",
        results.netavark
    )?;
    writeln!(
        text,
        "| | ADD p50 | p90 | p99 | ÷ weft | DEL p50 | p90 | p99 | ÷ weft | link gone p50 | max |"
    )?;
    writeln!(text, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")?;
    for row in &results.rows {
        let ratio = |a: &Samples, b: &Samples| a.p50() / b.p50();
        let gone = match row.gone.len() {
            0 => "| at once | at once".to_owned(),
            _ => format!("| {:.0} | {:.0}", row.gone.p50(), row.gone.max()),
        };
        writeln!(
            text,
            "| {} {} | {:.2} {} | {:.2} {gone} |",
            row.name,
            times(&row.add),
            ratio(&row.add, &weft.add),
            times(&row.del),
            ratio(&row.del, &weft.del),
        )?;
    }
    writeln!(text)?;
    for row in results.rows.iter().filter(|r| r.answer.len() > 0) {
        let (p50, max) = (row.answer.p50(), row.answer.max());
        writeln!(
            text,
            "After ADD of {} both addresses have answered within {p50:.2} ms (p50), {max:.2} ms (max).",
            row.name
        )?;
    }
    Ok(())
}

fn times(samples: &Samples) -> String {
    let [p50, p90, p99] = [50, 90, 99].map(|p| samples.percentile(p));
    format!("| {p50:.2} | {p90:.2} | {p99:.2}")
}

fn storms(results: &Results, text: &mut String) -> std::fmt::Result {
    let Some(weft) = results.storms.iter().find(|s| s.name == "weft routed") else { return Ok(()) };
    writeln!(text, "\n### Storm: {} callers at once\n", storm::CALLERS)?;
    writeln!(text, "| | ADD/s | ÷ weft | one ADD p50 | p90 | p99 |\n|---|--:|--:|--:|--:|--:|")?;
    for storm in &results.storms {
        let ratio = storm.rate / weft.rate;
        writeln!(text, "| {} | {:.0} | {ratio:.2} {} |", storm.name, storm.rate, times(&storm.add))?;
    }
    Ok(())
}

fn first_packets(first: &FirstPackets, text: &mut String) -> std::fmt::Result {
    let (flows, ports) = (first.one.tcp.len(), first.ports);
    writeln!(text, "\n### First packet through a published port\n")?;
    writeln!(text, "{flows} fresh flows each, alternating, all of the path on one CPU. Microseconds.\n")?;
    writeln!(text, "| | TCP connect p50 | p90 | first UDP datagram p50 | p90 |\n|---|--:|--:|--:|--:|")?;
    let mut row = |name: &str, cost: &Cost| {
        let [tcp, udp] = [&cost.tcp, &cost.udp].map(|s| [50, 90].map(|p| s.percentile(p) * 1e3));
        writeln!(text, "| {name} | {:.1} | {:.1} | {:.1} | {:.1} |", tcp[0], tcp[1], udp[0], udp[1])
    };
    row("1 port", &first.one)?;
    row(&format!("{ports} ports"), &first.many)?;
    let ratio = |of: fn(&Cost) -> &Samples| of(&first.many).p50() / of(&first.one).p50();
    writeln!(text, "| ratio | {:.3} | | {:.3} | |", ratio(|c| &c.tcp), ratio(|c| &c.udp))
}

fn pairs_table(pairs: &Pairs, text: &mut String) -> std::fmt::Result {
    let rate = pairs.count as f64 / pairs.seconds;
    let callers = pairs::CALLERS;
    writeln!(text, "\n### ADD and DEL without a pause: {callers} callers, {:.0} s\n", pairs.seconds)?;
    writeln!(text, "| pairs/s | ADD p50 | p90 | p99 | DEL p50 | p90 | p99 |\n|--:|--:|--:|--:|--:|--:|--:|")?;
    writeln!(text, "| {rate:.0} {} {} |", times(&pairs.add), times(&pairs.del))?;
    writeln!(text, "\nBefore: {}; after: {}.", pairs.before, pairs.after)?;
    let (before, after) = (pairs.memory_before.resident, pairs.memory_after.resident);
    writeln!(
        text,
        "The agent's resident memory went from {before} to {after} KiB over {} pairs.",
        pairs.count
    )
}

fn scale_table(scale: &Scale, idle: Option<Memory>, text: &mut String) -> std::fmt::Result {
    let count = scale.workloads;
    writeln!(text, "\n### Beside {count} workloads\n")?;
    writeln!(text, "| | ADD p50, empty host | p90 | p99 | ADD p50, {count} present | p90 | p99 | ratio |")?;
    writeln!(text, "|---|--:|--:|--:|--:|--:|--:|--:|")?;
    for mode in &scale.modes {
        let ratio = mode.full.add.p50() / mode.empty.add.p50();
        let (empty, full) = (times(&mode.empty.add), times(&mode.full.add));
        writeln!(text, "| {} {empty} {full} | {ratio:.2} |", mode.name)?;
    }
    writeln!(
        text,
        "\n### The agent\n\n| | ready p50 | p90 | resident | proportional |\n|---|--:|--:|--:|--:|"
    )?;
    let weight = |m: Memory| format!("{:.1} MiB | {:.1} MiB", mib(m.resident), mib(m.proportional));
    let ready = |s: &Samples| format!("{:.1} ms | {:.1} ms", s.p50(), s.percentile(90));
    if let Some(idle) = idle {
        writeln!(text, "| just started | {} | {} |", ready(&scale.ready_empty), weight(idle))?;
    }
    writeln!(text, "| empty, after the rounds above | | | {} |", weight(scale.memory_empty))?;
    writeln!(text, "| {count} workloads, as they came | | | {} |", weight(scale.memory_full))?;
    let restarted = weight(scale.memory_restarted);
    writeln!(text, "| {count} workloads, restarted | {} | {restarted} |", ready(&scale.ready_full))
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn gate_table(gates: &[Gate], text: &mut String) -> std::fmt::Result {
    writeln!(text, "\n### Gates\n\n| | promise | measured |\n|---|---|--:|")?;
    for gate in gates {
        let mark = if gate.passed { "✓" } else { "✗" };
        writeln!(text, "| {mark} | {} | {} |", gate.promise, gate.measured)?;
    }
    Ok(())
}
