//! Published ports: what may be asked for, and the loopback's share of it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use weft_dataplane::Wanted;
use weft_kernel::listeners::{self, Listener};
use weft_kernel::netns::Netns;
use weft_kernel::{Change, Kernel as _, State};
use weft_model::api::{Attach, Error, ErrorKind};
use weft_model::{Network, PortMapping, Protocol, Workload};

use super::Engine;
use crate::{chain, host};

/// How long the loopback's programs stay without a port: containers with ports come one after the other.
const LINGER: Duration = Duration::from_secs(5);

impl Engine {
    /// The ports that a new attachment gets: those of its wish, each once, and none that somebody else has.
    ///
    /// # Errors
    /// By name: who has the port, or why there is no such place for it.
    pub(super) fn wanted_ports(&self, wish: &Attach, netns: &Netns) -> Result<Vec<PortMapping>, Error> {
        let mut wanted: Vec<PortMapping> = Vec::new();
        if wish.profile.ports.is_empty() {
            return Ok(wanted);
        }
        let network = &self.world.networks[&wish.id.network];
        for mapping in &wish.profile.ports {
            if wanted.contains(mapping) || self.is_anothers_of(wish, netns, mapping) {
                continue;
            }
            if let Some(other) = wanted.iter().find(|other| meet(mapping, other, network)) {
                let message = format!("{mapping} and {other} want one port");
                return Err(
                    Error::new(ErrorKind::Invalid, message).hint("publish each port of the host once")
                );
            }
            self.has_family(mapping, network)?;
            self.is_unpublished(mapping, network)?;
            self.is_no_services(mapping)?;
            wanted.push(*mapping);
        }
        are_of_this_host(&wanted)?;
        are_unheld(&wanted, network)?;
        self.answers_at_loopback(&wanted)?;
        Ok(wanted)
    }

    /// Whether another interface of the same container has this very port: runtimes ask for each network anew.
    fn is_anothers_of(&self, wish: &Attach, netns: &Netns, mapping: &PortMapping) -> bool {
        let same = |w: &&Workload| w.id.container == wish.id.container && w.netns.inode == netns.inode();
        self.world.workloads.values().filter(same).any(|w| w.profile.ports.contains(mapping))
    }

    fn has_family(&self, mapping: &PortMapping, network: &Network) -> Result<(), Error> {
        if families(network).any(|ipv4| mapping.is_for(ipv4)) {
            return Ok(());
        }
        let family = if mapping.is_for(true) { "IPv4" } else { "IPv6" };
        let message = format!("{mapping} is for {family}, which network '{}' does not have", network.name);
        Err(Error::new(ErrorKind::Invalid, message)
            .hint("leave the host's address out, or choose one of the other family"))
    }

    fn is_unpublished(&self, mapping: &PortMapping, network: &Network) -> Result<(), Error> {
        for workload in self.world.workloads.values() {
            let Some(theirs) = self.world.networks.get(&workload.id.network) else { continue };
            let both = |ipv4: &bool| families(theirs).any(|of_theirs| of_theirs == *ipv4);
            let meets =
                |other: &&PortMapping| families(network).filter(both).any(|ipv4| mapping.meets(other, ipv4));
            if let Some(other) = workload.profile.ports.iter().find(meets) {
                let message = format!("{mapping} cannot be published: {} has {other}", workload.id);
                return Err(Error::new(ErrorKind::Exists, message)
                    .hint("choose another port of the host, or detach that one first"));
            }
        }
        Ok(())
    }

    /// Refuses ports that services have at every host.
    fn is_no_services(&self, mapping: &PortMapping) -> Result<(), Error> {
        let (first, last) = mapping.host();
        let protocol = mapping.protocol().number();
        let Some((namespace, name)) = self.service_among(protocol, first, last) else { return Ok(()) };
        let message =
            format!("{mapping} cannot be published: Service {namespace}/{name} has it at every host");
        Err(Error::new(ErrorKind::Exists, message)
            .hint("choose another port of the host; `weft get services -A` shows those taken"))
    }

    /// Refuses what would answer at the loopback only, where nothing can answer there.
    fn answers_at_loopback(&self, wanted: &[PortMapping]) -> Result<(), Error> {
        let Some(mapping) = wanted.iter().find(|m| m.at().is_some_and(|at| at.is_loopback())) else {
            return Ok(());
        };
        let why = match self.loopback_problem() {
            _ if mapping.protocol() == Protocol::Sctp => {
                "the kernel has no way to lead SCTP elsewhere".to_owned()
            }
            Some(why) => why,
            None => return Ok(()),
        };
        let message = format!("{mapping} cannot be published at the loopback: {why}");
        Err(Error::new(ErrorKind::Kernel, message).hint("publish at another address of the host, or at all"))
    }

    /// Why ports do not answer at 127.0.0.1 and ::1; `None` if they can.
    fn loopback_problem(&self) -> Option<String> {
        match &self.loopback {
            Some(place) => place.check().err().map(|error| chain(&error)),
            None if self.loopback_wanted => Some("this host has no cgroup of version 2".to_owned()),
            None => Some("publish_on_loopback is off".to_owned()),
        }
    }

    /// Keeps of what is wanted at the loopback only what can be had there.
    pub(super) fn fit_loopback(&self, wanted: &mut Wanted) {
        if wanted.state.loopback.is_some() && self.loopback_problem().is_some() {
            wanted.state.loopback = None;
        }
    }

    /// Puts the loopback's programs in place for a first port. Where that fails, the port answers everywhere
    /// else, and the state of health says so.
    pub(super) fn prepare_loopback(&mut self, wanted: &mut Wanted) {
        let Some(loopback) = &mut wanted.state.loopback else { return };
        if loopback.ports.is_empty() {
            return;
        }
        let ready = match &self.loopback {
            Some(place) if place.is_whole() => true,
            Some(place) if place.check().is_ok() => {
                let answers = self.kernel.apply(&[Change::InstallLoopback]);
                for error in answers.into_iter().filter_map(Result::err) {
                    tracing::warn!(
                        error = chain(&error),
                        "published ports will not answer at 127.0.0.1 and ::1"
                    );
                }
                self.loopback.as_ref().is_some_and(weft_kernel::loopback::Place::is_whole)
            }
            _ => false,
        };
        if !ready {
            loopback.ports.clear();
        }
    }

    /// Whether another hand has taken away what leads ports of the loopback elsewhere. The kernel tells nobody of that.
    pub(crate) fn lost_loopback(&self) -> bool {
        let Some(place) = &self.loopback else { return false };
        let mut wanted = State::default();
        let publishing = self.plan.workloads.values().filter(|w| !w.ports.is_empty());
        publishing.for_each(|w| weft_dataplane::loopback::render(w, &mut wanted));
        wanted.loopback.is_some_and(|wanted| !place.leads(&wanted.ports) && place.check().is_ok())
    }

    /// Whether the loopback's programs have had no port to lead for so long that they may go: loading them takes ten
    /// milliseconds, which the next container with a port need not wait for.
    pub(crate) fn is_loopback_idle(&mut self) -> bool {
        self.unled_since.take_if(|since| since.elapsed() > LINGER).is_some()
    }

    /// What people should know of ports that answer less than they could.
    pub(super) fn ports_health(&self) -> Option<String> {
        if !self.loopback_wanted || self.world.workloads.values().all(|w| w.profile.ports.is_empty()) {
            return None;
        }
        let why = self.loopback_problem()?;
        Some(format!("published ports do not answer at 127.0.0.1 and ::1: {why}"))
    }
}

/// The families of a network: whether IPv4.
fn families(network: &Network) -> impl Iterator<Item = bool> {
    network.subnets().map(|s| s.addr().is_ipv4())
}

fn meet(one: &PortMapping, other: &PortMapping, network: &Network) -> bool {
    families(network).any(|ipv4| one.meets(other, ipv4))
}

/// Refuses addresses that the host does not have. All of 127.0.0.0/8 is its own.
fn are_of_this_host(wanted: &[PortMapping]) -> Result<(), Error> {
    let asked: BTreeSet<IpAddr> = wanted.iter().filter_map(PortMapping::at).collect();
    let asked: Vec<IpAddr> = asked.into_iter().filter(|a| !a.is_loopback()).collect();
    if asked.is_empty() {
        return Ok(());
    }
    let own = host::addresses().map_err(|e| Error::new(ErrorKind::Kernel, chain(&e)))?;
    match asked.iter().find(|address| !own.contains(address)) {
        None => Ok(()),
        Some(foreign) => {
            let message = format!("ports cannot be published at {foreign}, which is no address of this host");
            let hint = "`ip addr` shows those it has; without an address a port is published at all of them";
            Err(Error::new(ErrorKind::Invalid, message).hint(hint))
        }
    }
}

/// Refuses ports at which a process of the host listens: it would get no packet any more.
fn are_unheld(wanted: &[PortMapping], network: &Network) -> Result<(), Error> {
    let mut known: BTreeMap<Protocol, Vec<Listener>> = BTreeMap::new();
    for mapping in wanted {
        let protocol = mapping.protocol();
        let listeners = match known.entry(protocol) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(listening(protocol)?),
        };
        // Of several the lowest, so that the same question gets the same answer.
        let holders = listeners.iter().filter(|l| takes_from(l, mapping, network));
        let Some(holder) = holders.min_by_key(|l| l.at.port()) else {
            continue;
        };
        let who: Vec<String> = listeners::holders(holder.inode)
            .iter()
            .map(|(pid, name)| format!("{name}, process {pid},"))
            .collect();
        let who = who.first().map_or("somebody", String::as_str);
        let message = format!("{mapping} cannot be published: {who} listens at {}/{protocol}", holder.at);
        return Err(Error::new(ErrorKind::Exists, message)
            .hint("choose another port of the host, or end that process"));
    }
    Ok(())
}

fn listening(protocol: Protocol) -> Result<Vec<Listener>, Error> {
    listeners::listeners(protocol.number()).map_err(|e| {
        let why = chain(&e);
        Error::new(ErrorKind::Kernel, format!("failed to see who listens on this host: {why}"))
    })
}

/// Whether packets to the listener would go to the workload instead.
fn takes_from(listener: &Listener, mapping: &PortMapping, network: &Network) -> bool {
    let (first, last) = mapping.host();
    if !(first..=last).contains(&listener.at.port()) {
        return false;
    }
    let ip = listener.at.ip();
    families(network).filter(|ipv4| mapping.is_for(*ipv4)).any(|ipv4| {
        let wildcard = ip.is_unspecified() && (ip.is_ipv4() == ipv4 || ip.is_ipv6());
        let here = match mapping.at() {
            Some(at) => at == ip,
            // Of the loopback's addresses only the usual one is led elsewhere.
            None => ip.is_ipv4() == ipv4 && (!ip.is_loopback() || ip == weft_model::ports::loopback(ipv4)),
        };
        wildcard || here
    })
}

#[cfg(test)]
mod tests {
    use weft_model::{Mode, NetworkId};

    use super::*;

    #[test]
    fn a_listener_is_in_the_way_where_it_would_get_nothing_any_more() {
        let network = |ipv4: Option<&str>, ipv6: Option<&str>| Network {
            name: "n".parse().unwrap(),
            id: NetworkId(1),
            mode: Mode::Routed,
            ipv4: ipv4.map(|n| n.parse().unwrap()),
            ipv6: ipv6.map(|n| n.parse().unwrap()),
            mtu: None,
            masquerade: true,
            vni: None,
            encapsulation: Default::default(),
        };
        let v4 = network(Some("10.0.0.0/24"), None);
        let dual = network(Some("10.0.0.0/24"), Some("fd00::/64"));
        for (at, mapping, network, taken) in [
            ("0.0.0.0:80", "80:80", &v4, true),
            ("0.0.0.0:81", "80:80", &v4, false),
            ("0.0.0.0:85", "80-90:80-90", &v4, true),
            ("[::]:80", "80:80", &v4, true),
            ("[::1]:80", "80:80", &v4, false),
            ("[::1]:80", "80:80", &dual, true),
            ("127.0.0.1:80", "80:80", &v4, true),
            ("127.0.0.53:80", "80:80", &v4, false),
            ("127.0.0.53:80", "127.0.0.53:80:80", &v4, true),
            ("192.0.2.1:80", "192.0.2.2:80:80", &v4, false),
            ("0.0.0.0:80", "[::]:80:80", &dual, false),
            ("[::]:80", "0.0.0.0:80:80", &dual, true),
        ] {
            let listener = Listener { at: at.parse().unwrap(), inode: 0 };
            let mapping: PortMapping = mapping.parse().unwrap();
            assert_eq!(takes_from(&listener, &mapping, network), taken, "{at} and {mapping}");
        }
    }
}
