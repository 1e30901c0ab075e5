//! Which kernel events call for a repair. Deletions of our own making do not: what we delete has left
//! the plan before.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_kernel::State;
use weft_kernel::netns::name_of;
use weft_kernel::rtnl::link;
use weft_kernel::rtnl::settings::Settings;
use weft_kernel::state::{Link, Sysctl};
use weft_model::{IfName, Mac, Mode, Phase};
use weft_plan::{BandwidthPlan, NetworkPlan, Path, Reach, WorkloadPlan};

use super::Engine;
use crate::watch::Event;

impl Engine {
    /// Whether one of these events took away or changed something that the plan wants.
    pub(crate) fn matters(&mut self, events: &[Event]) -> bool {
        events.iter().any(|event| self.touches_plan(event))
    }

    fn touches_plan(&mut self, event: &Event) -> bool {
        match event {
            Event::Rules => true,
            Event::ForwardingOff(true) => self.plan.forward_ipv4,
            Event::ForwardingOff(false) => self.plan.forward_ipv6,
            Event::Link(name) if self.here.uplink.as_ref() == Some(name) => {
                let carried = self.world.nodes.get(&self.here.name).map(|own| own.mtu);
                matches!(self.kernel.link(name), Ok(Some(link)) if Some(link.mtu) != carried)
            }
            Event::Link(name) => {
                let Some(wanted) = self.wanted_link(name) else { return false };
                // The event may be older than what was done since: only the link itself knows.
                match self.kernel.link(name) {
                    Ok(Some(found)) => !wanted.is_met_by(&found),
                    _ => wanted.link.is_some(),
                }
            }
            Event::Settings(name, found) => {
                let Some(wanted) = self.wanted_link(name) else { return false };
                // Most often it is what an attach has just set. Otherwise it may be half of one.
                !wanted.is_set(found)
                    && !matches!(self.kernel.link(name), Ok(Some(now)) if wanted.is_set(&now.ipv6))
            }
            Event::Queue(index) => {
                let Some(name) = name(*index) else { return false };
                let limited = |w: &WorkloadPlan| w.bandwidth != BandwidthPlan::default();
                self.wire(&name).is_some_and(limited) || self.detoured(&name).is_some()
            }
            Event::Route(route) => {
                // Of whatever protocol: a route that somebody sets to a workload takes the place of ours.
                let to = route.destination;
                let is_host = to.prefix_len() == to.max_prefix_len();
                self.reach_to(to).is_some()
                    || is_host
                        && self
                            .plan
                            .workloads
                            .values()
                            .any(|w| w.addresses.iter().any(|a| a.addr() == to.addr()))
            }
            Event::NeighbourSet(set, permanent) => {
                let Some(name) = name(set.index) else { return false };
                match self.neighbour(&name, set.address) {
                    Some(mac) => !permanent || set.mac != Some(mac),
                    None => *permanent && (self.wire(&name).is_some() || self.device(&name).is_some()),
                }
            }
            Event::AddressSet(set) => {
                let Some(name) = name(set.index).filter(|_| !set.automatic) else { return false };
                let device = self.device(&name);
                let wanted = device.is_some_and(|d| d.gateways.contains(&set.address));
                !wanted && (device.is_some() || self.wire(&name).is_some())
            }
            Event::NeighbourGone(gone) => {
                name(gone.index).is_some_and(|name| self.neighbour(&name, gone.address).is_some())
            }
            Event::Forwarding(entry, gone) => {
                let Some(name) = name(entry.index) else { return false };
                let wanted = self.forwarded(&name, entry.mac);
                let tunnel = self.plan.networks.values().any(|n| n.tunnels.iter().any(|t| t.device == name));
                if *gone { wanted.is_some() } else { tunnel && wanted != Some(entry.to) }
            }
            Event::AddressGone(gone) => self
                .plan
                .networks
                .values()
                .any(|n| n.gateways.iter().any(|g| g.addr() == gone.address.addr())),
        }
    }

    /// The link of that name as the plan has it; those of attachments under way change all the time.
    fn wanted_link(&self, name: &IfName) -> Option<WantedLink> {
        let mut state = State::default();
        match (self.wire(name).or_else(|| self.detoured(name)), self.device(name)) {
            (Some(wire), _) if wire.phase == Phase::Pending => return None,
            (Some(wire), _) => state = weft_dataplane::render_workload(wire).state,
            (None, Some(device)) => {
                weft_dataplane::network::render(device, &mut state);
                weft_dataplane::overlay::render(device, &mut state);
            }
            (None, None) if self.plan.learning_links.contains(name) => {
                weft_dataplane::learn(name, &mut state);
            }
            (None, None) => return None,
        }
        let link = state.links.remove(name);
        let settings = state.sysctls.into_iter().filter(|(key, _)| key.link() == Some(name.as_str()));
        Some(WantedLink { link, settings: settings.collect() })
    }

    /// The way whose route is to exactly these addresses.
    fn reach_to(&self, to: IpNet) -> Option<&Reach> {
        let mut all = self.plan.peers.values().flat_map(|p| &p.reaches);
        all.find(|r| r.blocks.contains(&to) && !matches!(r.path, Path::Router | Path::Nowhere { .. }))
    }

    /// The Ethernet address that the host is to know for an address behind a link, without asking.
    fn neighbour(&self, link: &IfName, address: IpAddr) -> Option<Mac> {
        let is_there = |w: &&WorkloadPlan| match w.mode {
            Mode::Routed => w.host_end == *link,
            Mode::Bridge => w.device == *link,
        };
        let holds = |w: &&WorkloadPlan| w.addresses.iter().any(|a| a.addr() == address);
        let workload = self.plan.workloads.values().filter(is_there).find(holds);
        workload.map(|w| w.mac).or_else(|| self.behind(link, address))
    }

    /// The Ethernet address of the host behind a tunnel's next hop.
    fn behind(&self, tunnel: &IfName, hop: IpAddr) -> Option<Mac> {
        let leads = |r: &Reach| matches!(&r.path, Path::Vxlan { device, next_hop, .. } if device == tunnel && *next_hop == hop);
        self.plan.peers.values().find(|p| p.reaches.iter().any(leads)).map(|p| p.mac)
    }

    /// Where a tunnel sends what is for an Ethernet address.
    fn forwarded(&self, tunnel: &IfName, mac: Mac) -> Option<IpAddr> {
        let to = |r: &Reach| match &r.path {
            Path::Vxlan { device, remote, .. } if device == tunnel => Some(*remote),
            _ => None,
        };
        self.plan.peers.values().filter(|p| p.mac == mac).find_map(|p| p.reaches.iter().find_map(to))
    }

    fn wire(&self, name: &IfName) -> Option<&WorkloadPlan> {
        self.plan.workloads.get(self.host_ends.get(name)?)
    }

    /// Whose detour a link of that name is.
    fn detoured(&self, name: &IfName) -> Option<&WorkloadPlan> {
        let leads = |w: &&WorkloadPlan| w.bandwidth.from.as_ref().is_some_and(|d| d.device == *name);
        self.plan.workloads.values().find(leads)
    }

    fn device(&self, name: &IfName) -> Option<&NetworkPlan> {
        let holds = |n: &&NetworkPlan| n.device == *name || n.tunnels.iter().any(|t| t.device == *name);
        self.plan.networks.values().find(holds)
    }
}

fn name(index: u32) -> Option<IfName> {
    name_of(index)?.parse().ok()
}

/// A link as the plan has it: of one that is not weft's only settings are wanted.
struct WantedLink {
    link: Option<Link>,
    settings: Vec<(Sysctl, String)>,
}

impl WantedLink {
    fn is_met_by(&self, found: &link::Described) -> bool {
        let described = self.link.as_ref().is_none_or(|wanted| {
            let Link { kind: _, mac, mtu, group, up, master, hairpin, alias } = wanted;
            *hairpin == found.hairpin
                && (Some(*mac), *mtu, *group, *up, alias)
                    == (found.mac, found.mtu, found.group, found.up, &found.alias)
                && *master == found.master.and_then(name)
        });
        described && self.is_set(&found.ipv6)
    }

    fn is_set(&self, found: &Settings) -> bool {
        self.settings.iter().all(|(key, value)| {
            let now = key.link_and_name("ipv6").and_then(|(_, name)| found.get(name));
            now.is_none_or(|now| now == *value)
        })
    }
}
