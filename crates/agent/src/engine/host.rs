//! Policy for this host itself: what it says of a packet, which connections it ends, what it cannot close.

use std::collections::BTreeSet;
use std::net::IpAddr;

use weft_kernel::conntrack::Flow;
use weft_model::policy::{Direction, Failsafe, OpenPort, Protocol, WorkloadPort};
use weft_plan::policy::matcher::Members;
use weft_plan::policy::{Packet, Verdict, host};
use weft_store::cluster::etcd::Address;

use super::Engine;
use crate::cluster::settings;
use crate::{Config, chain};

impl Engine {
    /// What this host's policies say of a packet to it or from it, whichever of its addresses that has.
    pub(super) fn judge_host(&self, members: &Members, direction: Direction, packet: &Packet) -> Verdict {
        let name = &self.here.name;
        let labels = self.world.nodes.get(name).map(|node| node.labels(name)).unwrap_or_default();
        let side = host::judge(&self.world, members, (name, labels), direction, packet);
        Verdict { allowed: side.as_ref().is_none_or(|side| side.allowed), sides: side.into_iter().collect() }
    }

    /// `host` and `node/HERE` are one.
    pub(super) fn called<'a>(&self, end: &'a str) -> std::borrow::Cow<'a, str> {
        if end == host::HOST { format!("node/{}", self.here.name).into() } else { end.into() }
    }

    /// Which of these flows the host's policies deny.
    pub(super) fn denied_of_host<'a>(&self, flows: &'a [Flow]) -> Vec<&'a Flow> {
        if self.plan.policy.host.is_none() {
            return Vec::new();
        }
        let own = match crate::host::addresses() {
            Ok(own) => own,
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "this host's addresses cannot be listed; its connections go on"
                );
                return Vec::new();
            }
        };
        flows.iter().filter(|flow| self.host_denies(flow, &own)).collect()
    }

    fn host_denies(&self, flow: &Flow, own: &BTreeSet<IpAddr>) -> bool {
        // The real destination is where answers come from.
        let (from, to) = (flow.original.source, flow.reply.source);
        let (protocol, port) = (flow.original.protocol, flow.reply.ports.0);
        let plan = &self.plan.policy;
        match (own.contains(&from), own.contains(&to)) {
            (false, true) => !plan.host_passes(Direction::Ingress, from, protocol, port),
            (true, false) => {
                let local = self.plan.workloads.values().any(|w| w.addresses.iter().any(|a| a.addr() == to));
                // One that was taken up in its middle, by what the host said in it.
                let open = Protocol::from_number(protocol)
                    .map(|protocol| OpenPort(WorkloadPort { protocol, port: flow.original.ports.0 }));
                let session = open.is_some_and(|open| plan.failsafe.ingress.contains(&open));
                !local && !session && !plan.host_passes(Direction::Egress, to, protocol, port)
            }
            _ => false, // its own affair, or forwarded
        }
    }
}

/// What policies for hosts cannot close: as configured, and the store's own ports.
pub(super) fn failsafe(config: &Config) -> Failsafe {
    let ports = |given: &[OpenPort]| given.iter().copied().collect();
    let mut failsafe =
        Failsafe { ingress: ports(&config.failsafe_ingress), egress: ports(&config.failsafe_egress) };
    let store = settings::find(config).and_then(|file| Address::parse(&file.store).ok());
    if !failsafe.egress.is_empty() {
        let hosts = store.iter().flat_map(|address| &address.hosts);
        let ports = hosts.filter_map(|host| host.rsplit_once(':')?.1.parse().ok());
        failsafe.egress.extend(ports.map(|port| OpenPort(WorkloadPort { protocol: Protocol::Tcp, port })));
    }
    failsafe
}
