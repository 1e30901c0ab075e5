//! `weft status` as text.

use weft_model::Phase;
use weft_model::api::{Member, Refused, Status, WorkloadStatus};

use super::{list, networks};
use crate::output::{Output, Tone};
use crate::table::Table;

/// The node, the networks, the workloads, what was refused; health last, where the eye ends.
pub(crate) fn status(output: Output, status: &Status) -> String {
    let sections = [
        node(output, status),
        store(output, status),
        networks(output, &status.networks),
        super::peers(output, &status.peers),
        workloads(output, status.workloads.iter()),
        refused(output, &status.refused),
        health(output, &status.health),
    ];
    sections.iter().filter(|s| !s.is_empty()).map(String::as_str).collect::<Vec<_>>().join("\n")
}

fn node(output: Output, status: &Status) -> String {
    let mut table = Table::new(["NODE", "VERSION", "DATAPLANE", "AGENT", "UP", "MEMORY"]);
    table.row([
        status.node.to_string(),
        status.version.clone(),
        status.dataplane.clone(),
        format!("pid {}", status.pid),
        duration(status.uptime),
        memory(status.resident_kib),
    ]);
    table.render(output)
}

fn store(output: Output, status: &Status) -> String {
    let mut table = Table::new(["STORE", "STATE", "REVISION", "HOSTS", "ALIVE"]).right(2).right(3).right(4);
    if let Some(store) = &status.store {
        let state = if store.in_sync { "in sync" } else { "away" };
        let numbers = [store.revision.to_string(), store.nodes.to_string(), store.alive.to_string()];
        let [revision, nodes, alive] = numbers;
        table.row([store.address.clone(), state.to_owned(), revision, nodes, alive]);
    }
    table.render(output)
}

/// One line per host of the cluster.
pub(crate) fn members(output: Output, members: &[Member]) -> String {
    let mut table = Table::new(["NODE", "STATE", "VERSION", "ADDRESSES", "BLOCKS", "WORKLOADS"]).right(5);
    for member in members {
        table.row([
            member.name.to_string(),
            if member.alive { "alive" } else { "gone" }.to_owned(),
            member.version.clone(),
            list(member.addresses.iter().map(ipnet::IpNet::addr)),
            crate::command::node::blocks(member),
            member.workloads.to_string(),
        ]);
    }
    table.render(output)
}

/// One line per workload.
pub(crate) fn workloads<'a>(output: Output, workloads: impl Iterator<Item = &'a WorkloadStatus>) -> String {
    let workloads: Vec<&WorkloadStatus> = workloads.collect();
    // Only where there is something to say: the line is long enough.
    let publish = workloads.iter().any(|w| !w.ports.is_empty());
    let columns = ["WORKLOAD", "NETWORK", "IF", "ADDRESSES", "MAC", "HOST END", "STATE", "NAMESPACE"];
    let mut table = Table::new(columns.into_iter().chain(publish.then_some("PORTS")));
    for workload in workloads {
        let name = match &workload.pod {
            Some(pod) => format!("{}/{}", pod.namespace, pod.name),
            None => workload.id.container.to_string(),
        };
        let state = match workload.phase {
            Phase::Pending => "pending",
            Phase::Ready => "ready",
        };
        let ports = publish.then(|| list(workload.ports.iter()));
        let cells = [
            name,
            workload.id.network.to_string(),
            workload.id.ifname.to_string(),
            list(workload.addresses.iter().map(ipnet::IpNet::addr)),
            workload.mac.to_string(),
            workload.host_ifname.to_string(),
            state.to_owned(),
            workload.netns.display().to_string(),
        ];
        table.row(cells.into_iter().chain(ports));
    }
    table.render(output)
}

fn refused(output: Output, refused: &[Refused]) -> String {
    let mut table = Table::new(["REFUSED", "PACKETS", "BYTES"]).right(1).right(2);
    for line in refused.iter().filter(|r| r.packets > 0) {
        table.row([line.reason.clone(), line.packets.to_string(), line.bytes.to_string()]);
    }
    table.render(output)
}

fn health(output: Output, findings: &[String]) -> String {
    match findings {
        [] => format!("health: {}\n", output.tone(Tone::Good, "ok")),
        all => all.iter().map(|f| format!("health: {}\n", output.tone(Tone::Bad, f))).collect(),
    }
}

/// The two largest units: a person reads no more.
fn duration(seconds: u64) -> String {
    let (d, h, m, s) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (d, h, m) {
        (0, 0, 0) => format!("{s}s"),
        (0, 0, m) => format!("{m}m{s}s"),
        (0, h, m) => format!("{h}h{m}m"),
        (d, h, _) => format!("{d}d{h}h"),
    }
}

fn memory(kib: u64) -> String {
    if kib < 1024 { format!("{kib} KiB") } else { format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_short() {
        let times = [0, 61, 3_700, 90_000].map(duration);
        assert_eq!(times, ["0s", "1m1s", "1h1m", "1d1h"]);
        assert_eq!([memory(512), memory(10_035)], ["512 KiB", "9.7 MiB"]);
    }

    #[test]
    fn health_is_said_finding_by_finding() {
        let output = Output::new(false);
        assert_eq!(health(output, &[]), "health: ok\n");
        assert_eq!(health(output, &["a".into(), "b".into()]), "health: a\nhealth: b\n");
    }

    #[test]
    fn only_what_was_refused_is_listed() {
        let none = Refused { reason: "x".into(), packets: 0, bytes: 0 };
        assert_eq!(refused(Output::new(false), &[none]), "");
    }
}
