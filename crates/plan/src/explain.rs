//! The way of a packet from here to anywhere, from the plan alone: each hop, its route, what is put around it,
//! and how large it may be.

use std::net::IpAddr;

use weft_model::api::{Explanation, Hop};
use weft_model::network::gateway;
use weft_model::{Mode, NodeName};

use crate::overlay::{PORT, overhead};
use crate::{NetworkPlan, Path, PeerPlan, Plan, Reach, WorkloadPlan};

/// Explains the way of a packet from an address of this host, its own or a workload's, to any address.
#[must_use]
pub fn explain(plan: &Plan, here: &NodeName, from: IpAddr, to: IpAddr) -> Explanation {
    let mut way = Way { plan, here, to, hops: Vec::new(), mtu: u32::MAX };
    let end = match workload(plan, from) {
        _ if from.is_ipv4() != to.is_ipv4() => Err("the two addresses are of different families".to_owned()),
        Some(sender) => way.leave(sender),
        None if is_own(plan, from) => way.cross(None),
        None => match behind(plan, from) {
            Some((peer, _)) => Err(format!("{from} lives on {}: ask there", peer.node)),
            None => Err(format!("{from} is no address of this host or of a workload on it")),
        },
    };
    let mtu = if way.mtu == u32::MAX { 0 } else { way.mtu };
    let (reached, note) = match end {
        Ok(()) => (true, None),
        Err(note) => (false, Some(note)),
    };
    Explanation {
        from: describe(plan, here, from),
        to: describe(plan, here, to),
        hops: way.hops,
        mtu,
        reached,
        note,
    }
}

struct Way<'a> {
    plan: &'a Plan,
    here: &'a NodeName,
    to: IpAddr,
    hops: Vec<Hop>,
    mtu: u32,
}

impl Way<'_> {
    fn hop(&mut self, at: &str, does: String, mtu: Option<u32>) {
        self.mtu = self.mtu.min(mtu.unwrap_or(u32::MAX));
        self.hops.push(Hop { at: at.to_owned(), does, mtu });
    }

    fn leave(&mut self, sender: &WorkloadPlan) -> Result<(), String> {
        let Some(network) = self.plan.networks.get(&sender.id.network) else {
            return Err(format!("network '{}' is not here", sender.id.network));
        };
        let ifname = &sender.id.ifname;
        let name = sender.id.container.to_string();
        if sender.addresses.iter().any(|a| a.addr() == self.to) {
            self.hop(&name, "keeps it: the address is its own".to_owned(), None);
            return Ok(());
        }
        let on_segment = sender.mode == Mode::Bridge && sender.addresses.iter().any(|a| a.contains(&self.to));
        if on_segment {
            self.hop(&name, format!("sends it on the segment of {ifname}"), Some(sender.mtu));
            return match workload(self.plan, self.to) {
                Some(receiver) => {
                    self.arrive(receiver);
                    Ok(())
                }
                None => {
                    Err(format!("nobody on this host's segment of '{}' has {}", sender.id.network, self.to))
                }
            };
        }
        let best = sender
            .routes
            .iter()
            .filter(|(net, _)| net.contains(&self.to))
            .max_by_key(|(net, _)| net.prefix_len());
        let Some((net, via)) = best else {
            return Err(format!("{} has no route to {}", sender.id.container, self.to));
        };
        let net = if net.prefix_len() == 0 { "default".to_owned() } else { net.to_string() };
        self.hop(&name, format!("{net} via {via} dev {ifname}"), Some(sender.mtu));
        self.cross(Some(network))
    }

    /// From this host on; `network` is the one that the packet comes from, if it comes from a workload.
    fn cross(&mut self, network: Option<&NetworkPlan>) -> Result<(), String> {
        let here = self.here.to_string();
        let isolated = |other: &weft_model::NetworkName| match network {
            Some(own) if own.declared.name != *other => {
                Err(format!("networks '{}' and '{other}' are isolated from each other", own.declared.name))
            }
            _ => Ok(()),
        };
        if is_own(self.plan, self.to) {
            self.hop(&here, "takes it: the address is its own".to_owned(), None);
            return Ok(());
        }
        if let Some(receiver) = workload(self.plan, self.to) {
            isolated(&receiver.id.network)?;
            let device = if receiver.mode == Mode::Bridge { &receiver.device } else { &receiver.host_end };
            self.hop(&here, format!("{} dev {device}", self.to), Some(receiver.mtu));
            self.arrive(receiver);
            return Ok(());
        }
        if let Some((peer, reach)) = behind(self.plan, self.to) {
            isolated(&reach.network)?;
            return self.travel(peer, reach);
        }
        let home = self.plan.networks.values().find(|n| n.subnets.iter().any(|s| s.contains(&self.to)));
        if let Some(home) = home {
            isolated(&home.declared.name)?;
            return Err(match home.declared.vni {
                Some(_) => format!("no host of network '{}' has {}", home.declared.name, self.to),
                None => format!("no workload of network '{}' has {}", home.declared.name, self.to),
            });
        }
        match network.filter(|n| n.masquerade) {
            Some(_) => self.hop(
                &here,
                "leaves by the host's own routes, with the host's address as source".to_owned(),
                None,
            ),
            None => self.hop(&here, "leaves by the host's own routes".to_owned(), None),
        }
        Ok(())
    }

    fn travel(&mut self, peer: &PeerPlan, reach: &Reach) -> Result<(), String> {
        let here = self.here.to_string();
        let Some(block) = reach.blocks.iter().find(|b| b.contains(&self.to)) else {
            return Err(format!("{} does not hold {}", peer.node, self.to));
        };
        match &reach.path {
            Path::Direct { via, device } => {
                self.hop(
                    &here,
                    format!("{block} via {via} dev {device}: one segment, as it is"),
                    Some(reach.mtu),
                );
            }
            Path::Router => {
                self.hop(
                    &here,
                    "leaves as it is by the host's own routes: a router knows the block".to_owned(),
                    Some(reach.mtu),
                );
            }
            Path::Vxlan { device, vni, local, remote, next_hop } => {
                self.hop(&here, format!("{block} via {next_hop} dev {device}"), Some(reach.mtu));
                let more = overhead(remote.is_ipv4());
                self.hop(
                    &here,
                    format!("VXLAN {vni}, {local} to {remote}, UDP port {PORT}: {more} bytes more"),
                    Some(reach.mtu),
                );
            }
            Path::Nowhere { why } => return Err(format!("{} cannot be reached: {why}", peer.node)),
        }
        let host = gateway(*block).addr();
        let takes =
            if self.to == host { "takes it: the address is its own" } else { "routes it to its workload" };
        self.hop(peer.node.as_str(), takes.to_owned(), None);
        Ok(())
    }

    fn arrive(&mut self, receiver: &WorkloadPlan) {
        let does = format!("takes it by {}", receiver.id.ifname);
        self.hop(receiver.id.container.as_str(), does, Some(receiver.mtu));
    }
}

fn workload(plan: &Plan, address: IpAddr) -> Option<&WorkloadPlan> {
    plan.workloads.values().find(|w| w.addresses.iter().any(|a| a.addr() == address))
}

fn is_own(plan: &Plan, address: IpAddr) -> bool {
    plan.networks.values().any(|n| n.gateways.iter().any(|g| g.addr() == address))
}

fn behind(plan: &Plan, address: IpAddr) -> Option<(&PeerPlan, &Reach)> {
    let holds = |r: &&Reach| r.blocks.iter().any(|b| b.contains(&address));
    plan.peers.values().find_map(|p| Some((p, p.reaches.iter().find(holds)?)))
}

fn describe(plan: &Plan, here: &NodeName, address: IpAddr) -> String {
    let whose = if let Some(w) = workload(plan, address) {
        format!("{}, network {}", w.id.container, w.id.network)
    } else if is_own(plan, address) {
        format!("host {here}")
    } else if let Some((peer, reach)) = behind(plan, address) {
        format!("on host {}, network {}", peer.node, reach.network)
    } else {
        return address.to_string();
    };
    format!("{address} ({whose})")
}
