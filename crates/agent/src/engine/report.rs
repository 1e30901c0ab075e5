//! What people see: status, networks, inventory.

use weft_kernel::nft;
use weft_model::api::{Error, ErrorKind, NetworkStatus, Owned, Refused, Status, WorkloadStatus};
use weft_model::{Network, Workload};

use super::Engine;
use crate::{chain, clock};

/// Version of the structures behind `--json`.
const API: u32 = 1;

impl Engine {
    /// The host's state.
    #[must_use]
    pub(crate) fn status(&mut self) -> Status {
        let networks: Vec<Network> = self.world.networks.values().cloned().collect();
        Status {
            api: API,
            node: self.here.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime: self.started.elapsed().as_secs(),
            resident_kib: resident_kib(),
            dataplane: "nft".to_owned(),
            networks: networks.iter().map(|n| self.network_status(n)).collect(),
            workloads: self.world.workloads.values().map(workload_status).collect(),
            peers: self.peers(),
            refused: self.refused(),
            health: self.findings(),
            store: self.store_state.clone(),
        }
    }

    /// What is wrong.
    fn findings(&self) -> Vec<String> {
        let lasting = [&self.health, &self.strange, &self.store_problems, &self.plan.policy.problems];
        let lasting = lasting.into_iter().flatten().chain(&self.own_problem).cloned();
        lasting
            .chain(self.refusals())
            .chain(self.services_health())
            .chain(self.ports_health())
            .chain(self.records.health())
            .collect()
    }

    /// All networks with their use.
    #[must_use]
    pub(crate) fn networks(&self) -> Vec<NetworkStatus> {
        self.world.networks.values().map(|n| self.network_status(n)).collect()
    }

    pub(crate) fn network_status(&self, network: &Network) -> NetworkStatus {
        let planned = self.plan.networks.get(&network.name);
        NetworkStatus {
            network: network.clone(),
            device: weft_plan::network::device(&network.name, network.id),
            effective_mtu: planned.map_or(0, |p| p.mtu),
            workloads: self.world.workloads.keys().filter(|id| id.network == network.name).count(),
            pools: self.addresses.get(&network.name).map(|a| a.status(clock::now())).unwrap_or_default(),
            commands: Vec::new(),
        }
    }

    /// The plan as JSON.
    ///
    /// # Errors
    /// Never in practice: the plan is plain data with text keys.
    pub(crate) fn plan_json(&self) -> Result<String, Error> {
        let plan = &self.plan;
        let workloads: Vec<_> = plan.workloads.values().collect();
        let document = serde_json::json!({
            "api": API,
            "networks": plan.networks,
            "peers": plan.peers,
            "workloads": workloads,
            "block_metadata": plan.block_metadata,
            "forward_ipv4": plan.forward_ipv4,
            "forward_ipv6": plan.forward_ipv6,
            "learning_links": plan.learning_links,
        });
        serde_json::to_string(&document).map_err(|e| Error::new(ErrorKind::Storage, e.to_string()))
    }

    /// Everything of weft's in this kernel.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub(crate) fn inventory(&mut self) -> Result<Vec<Owned>, Error> {
        crate::inventory::of(&mut self.kernel).map_err(|e| Error::new(ErrorKind::Kernel, chain(&e)))
    }

    /// A denial by policy, whose counter knows only the wire, with the names of workload and policies.
    fn named_denial(&self, comment: String) -> String {
        let mut words = comment.rsplitn(3, ' ');
        let (Some(host_end), Some(direction), Some(verb @ ("denied" | "would deny"))) =
            (words.next(), words.next(), words.next())
        else {
            return comment;
        };
        let subject = self.plan.policy.all().find(|s| s.host_end.as_str() == host_end);
        let Some(subject) = subject else { return comment };
        let judged = if direction == "ingress" { &subject.ingress } else { &subject.egress };
        let by = judged.as_ref().map(|j| j.by.join(", ")).unwrap_or_default();
        let verb = if verb == "denied" { "policy denied" } else { "policy under audit would deny" };
        format!("{verb} {direction} of {}: {by}", subject.name)
    }

    fn refused(&mut self) -> Vec<Refused> {
        let mut all = Vec::new();
        for table in weft_kernel::ours::tables() {
            match nft::counters(self.kernel.netfilter(), &table) {
                Ok(counters) => all.extend(counters.into_iter().map(|c| Refused {
                    reason: self.named_denial(c.comment),
                    packets: c.packets,
                    bytes: c.bytes,
                })),
                Err(error) => tracing::warn!(error = chain(&error), "failed to read counters"),
            }
        }
        all.sort_by(|a, b| a.reason.cmp(&b.reason));
        all.dedup_by(|later, first| {
            let same = later.reason == first.reason;
            if same {
                first.packets += later.packets;
                first.bytes += later.bytes;
            }
            same
        });
        all
    }
}

fn workload_status(workload: &Workload) -> WorkloadStatus {
    WorkloadStatus {
        id: workload.id.clone(),
        host_ifname: workload.host_end.clone(),
        addresses: workload.addresses.clone(),
        mac: workload.mac,
        phase: workload.phase,
        netns: workload.netns.path.clone(),
        pod: workload.pod.clone(),
        ports: workload.profile.ports.clone(),
        bandwidth: workload.profile.bandwidth,
    }
}

fn resident_kib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|p| p.parse().ok()).unwrap_or(0);
    pages * (u64::try_from(rustix::param::page_size()).unwrap_or(4096) / 1024)
}
