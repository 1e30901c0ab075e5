//! Other hosts as people see them, and the way of a packet to them.

use std::net::IpAddr;

use weft_model::api::{Error, ErrorKind, Explanation, PeerFault, PeerStatus, ReachStatus};
use weft_plan::{Path, PeerPlan};

use super::Engine;
use crate::probe::{Sample, Target};

impl Engine {
    /// Every other host, with the ways to it and what is wrong with them.
    pub(super) fn peers(&self) -> Vec<PeerStatus> {
        let others = self.world.nodes.iter().filter(|(name, _)| **name != self.here.name);
        others
            .map(|(name, node)| {
                let planned = self.plan.peers.get(name);
                let reaches = planned.map(reaches).unwrap_or_default();
                let heard = self.heard.get(name);
                let nowhere = planned.and_then(|p| {
                    p.reaches.iter().find_map(|r| match r.path {
                        Path::Nowhere { why } => Some(why.to_owned()),
                        _ => None,
                    })
                });
                let holds_nothing = || {
                    reaches.is_empty().then(|| "it holds no addresses of networks that are here".to_owned())
                };
                PeerStatus {
                    fault: nowhere
                        .is_some()
                        .then_some(PeerFault::Nowhere)
                        .or_else(|| heard.and_then(|h| h.fault)),
                    clock: heard.and_then(|h| h.clock),
                    node: name.clone(),
                    zone: node.zone.clone(),
                    addresses: node.addresses.iter().map(ipnet::IpNet::addr).collect(),
                    heard: heard.and_then(|h| h.at).map(|at| at.elapsed().as_secs()),
                    problem: nowhere.or_else(|| heard.and_then(|h| h.problem.clone())).or_else(holds_nothing),
                    reaches,
                }
            })
            .collect()
    }

    /// Whom to ask whether they hear us: of every other host the first way to it.
    pub(crate) fn probe_targets(&self) -> Vec<Target> {
        self.plan.peers.values().filter_map(target).collect()
    }

    /// Notes what was heard of other hosts.
    pub(crate) fn note_probes(&mut self, samples: std::collections::BTreeMap<weft_model::NodeName, Sample>) {
        self.heard = samples;
    }

    /// The way of a packet, from the plan.
    ///
    /// # Errors
    /// When a name means nobody here.
    pub(crate) fn explain(&self, from: &str, to: &str) -> Result<Explanation, Error> {
        let like: Option<IpAddr> = from.parse().or_else(|_| to.parse()).ok();
        let v4 = like.is_none_or(|a| a.is_ipv4());
        let (from, to) = (self.named(from, v4)?, self.named(to, v4)?);
        Ok(weft_plan::explain::explain(&self.plan, &self.here.name, from, to))
    }

    /// An address, a workload's container, this host or another one.
    fn named(&self, text: &str, v4: bool) -> Result<IpAddr, Error> {
        if let Ok(address) = text.parse() {
            return Ok(address);
        }
        let container = |id: &weft_model::AttachmentId| {
            let name = id.container.as_str();
            name == text || name.strip_prefix("netns-") == Some(text) || id.to_string() == text
        };
        let of = |mut all: Box<dyn Iterator<Item = IpAddr> + '_>| all.find(|a| a.is_ipv4() == v4);
        let workload = self.plan.workloads.values().find(|w| container(&w.id));
        let found = if let Some(workload) = workload {
            of(Box::new(workload.addresses.iter().map(ipnet::IpNet::addr)))
        } else if text == "host" || text == self.here.name.as_str() {
            of(Box::new(self.plan.networks.values().flat_map(|n| n.gateways.iter().map(ipnet::IpNet::addr))))
        } else {
            let peer = self.plan.peers.iter().find(|(name, _)| name.as_str() == text).map(|(_, peer)| peer);
            let blocks = peer.into_iter().flat_map(|p| &p.reaches).flat_map(|r| r.blocks.first());
            of(Box::new(blocks.map(|b| weft_model::network::gateway(*b).addr())))
        };
        found.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("'{text}' is no address, workload or host with an address that fits"),
            )
            .hint("give an address, a name from `weft status`, or `host` for this host")
        })
    }
}

fn reaches(peer: &PeerPlan) -> Vec<ReachStatus> {
    peer.reaches
        .iter()
        .map(|r| ReachStatus {
            network: r.network.clone(),
            path: r.path.as_str().to_owned(),
            device: match &r.path {
                Path::Direct { device, .. } | Path::Vxlan { device, .. } => Some(device.clone()),
                Path::Router | Path::Nowhere { .. } => None,
            },
            mtu: r.mtu,
            blocks: r.blocks.clone(),
        })
        .collect()
}

fn target(peer: &PeerPlan) -> Option<Target> {
    peer.reaches.iter().find_map(|r| {
        let tunnel = match &r.path {
            Path::Vxlan { device, .. } => Some(device.clone()),
            Path::Direct { .. } | Path::Router => None,
            Path::Nowhere { .. } => return None,
        };
        let to = weft_model::network::gateway(*r.blocks.first()?).addr();
        Some(Target { node: peer.node.clone(), own: r.source?, to, mtu: r.mtu, tunnel })
    })
}
