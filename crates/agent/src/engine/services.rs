//! Services: what changed of them, into the kernel, and what a new one asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use weft_dataplane::nft::services::{Changed, Frame, change, concerned, found};
use weft_kernel::Change;
use weft_kernel::nft::Tables;
use weft_model::api::{Error, ErrorKind};
use weft_model::object::Flaw;
use weft_model::{
    AttachmentId, Kind, Object, ObjectId, Remote, RemoteName, Service, ServiceName, ServiceRanges, Workload,
};
use weft_plan::services::allocate::{Taken, settle};
use weft_plan::services::standing::Source;
use weft_plan::services::{Frontend, ServicePlan, ServicesPlan, Standing, explain};

use super::Engine;
use crate::{Config, chain};

/// Where a configuration lets services have their addresses and ports.
pub(super) fn ranges(config: &Config) -> ServiceRanges {
    ServiceRanges {
        addresses: config.service_ranges.clone(),
        node_ports: (config.node_ports[0], config.node_ports[1]),
        external: config.external_ips.clone(),
    }
}

impl Engine {
    /// At start: the services of the world, with their backends in the slots that the kernel has them in.
    pub(super) fn begin_services(&mut self, tables: &Tables) {
        self.serving = Standing::of(&self.world);
        self.plan.services = self.serving.plan(&self.world, &self.here);
        let found = found(tables, &self.plan.services);
        self.keep_services(&found);
        let services = &self.plan.services;
        self.plan.workloads.values_mut().for_each(|w| w.hairpin |= services.serves(w));
    }

    /// Keeps of what services were what the world does not say: slots, and as long as nobody has said which workloads there are
    /// on other hosts, those that were backends (DESIGN.md, invariant 2).
    pub(super) fn keep_services(&mut self, before: &ServicesPlan) {
        if self.remote_unknown {
            for (name, plan) in self.with_elsewhere(before) {
                self.plan.services.put(&name, Some(plan));
            }
        }
        self.plan.services.keep_slots(before);
    }

    /// The services that led to other hosts, each with those backends again.
    fn with_elsewhere(&self, before: &ServicesPlan) -> Vec<(ServiceName, ServicePlan)> {
        let networks = || self.plan.networks.values().filter(|n| n.declared.vni.is_some());
        let within = |all: &[ipnet::IpNet], address: IpAddr| all.iter().any(|net| net.contains(&address));
        let elsewhere = |backend: &&SocketAddr| {
            let address = backend.ip();
            networks().any(|n| within(&n.subnets, address) && !within(&n.blocks, address))
        };
        let mut kept = Vec::new();
        for (name, now) in &self.plan.services.services {
            let Some(before) = before.services.get(name) else { continue };
            let mut with = now.clone();
            for (port, old) in with.ports.iter_mut().zip(&before.ports) {
                if (&port.name, port.protocol, port.ipv4) == (&old.name, old.protocol, old.ipv4) {
                    let missing: Vec<SocketAddr> = old
                        .backends
                        .iter()
                        .filter(elsewhere)
                        .filter(|b| !port.backends.contains(b))
                        .copied()
                        .collect();
                    port.backends.extend(missing);
                }
            }
            if with != *now {
                kept.push((name.clone(), with));
            }
        }
        kept
    }

    /// Where a service is reached and where that leads, in words.
    ///
    /// # Errors
    /// If there is no such service.
    pub(crate) fn backends(&self, id: &ObjectId) -> Result<String, Error> {
        let namespace = id.namespace.clone().unwrap_or_else(weft_model::namespace::default_namespace);
        let name = (namespace, id.name.clone());
        match self.plan.services.services.get(&name) {
            Some(plan) => Ok(explain::words(&self.world, &name, plan)),
            None => Err(Error::new(ErrorKind::NotFound, format!("there is no {id}"))
                .hint("`weft get services -A` shows those there are")),
        }
    }

    /// What people should know of services that do less than they could.
    pub(super) fn services_health(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.world.declared.services.is_empty() {
            return problems;
        }
        let ranges = &self.here.services.addresses;
        let overlaps = |one: &ipnet::IpNet, other: &ipnet::IpNet| one.contains(other) || other.contains(one);
        for network in self.world.networks.values() {
            for subnet in network.subnets() {
                if let Some(range) = ranges.iter().find(|range| overlaps(range, &subnet)) {
                    let name = &network.name;
                    problems
                        .push(format!("services' range {range} and {subnet} of network '{name}' overlap"));
                }
            }
        }
        for ((namespace, name), service) in &self.world.declared.services {
            for address in service.addresses().filter(|a| !ranges.iter().any(|r| r.contains(a))) {
                problems.push(format!(
                    "Service {namespace}/{name} has {address}, which is in no range for services"
                ));
            }
        }
        problems.extend(self.held_ports());
        problems
    }

    /// Ports of hosts that a process of this host listens at: it gets nothing.
    fn held_ports(&self) -> Vec<String> {
        let wanted: BTreeMap<(u8, u16), &ServiceName> = self
            .plan
            .services
            .services
            .iter()
            .flat_map(|(name, plan)| plan.ports.iter().map(move |port| (name, port)))
            .filter(|(_, port)| !port.backends.is_empty())
            .flat_map(|(name, port)| port.frontends.iter().map(move |f| (name, port.protocol.number(), *f)))
            .filter_map(|(name, protocol, frontend)| match frontend {
                Frontend::Host(number) => Some(((protocol, number), name)),
                Frontend::At(..) => None,
            })
            .collect();
        let mut problems = BTreeSet::new();
        let protocols: BTreeSet<u8> = wanted.keys().map(|(protocol, _)| *protocol).collect();
        for protocol in protocols {
            for listener in weft_kernel::listeners::listeners(protocol).unwrap_or_default() {
                let at = listener.at;
                if let Some((namespace, name)) =
                    wanted.get(&(protocol, at.port())).filter(|_| !at.ip().is_loopback())
                {
                    problems.insert(format!(
                        "a process of this host listens at {at} and gets nothing: the port is that of Service {namespace}/{name}"
                    ));
                }
            }
        }
        problems.into_iter().collect()
    }

    /// Fills in what a service leaves open; `taken` is gathered with the first of a request.
    ///
    /// # Errors
    /// What it asks for and cannot have.
    pub(super) fn settle_service(&self, taken: &mut Option<Taken>, object: &mut Object) -> Result<(), Error> {
        let id = object.id();
        let Object::Service(service) = object else { return Ok(()) };
        let declared = &self.world.declared;
        let taken = taken.get_or_insert_with(|| Taken::of(declared));
        let before = declared.services.get(&service.name());
        settle(service, before, taken, &self.here.services)
            .and_then(|()| self.is_nobody_elses(service))
            .map_err(|flaw| {
                Error::new(ErrorKind::Invalid, format!("{id} cannot be had: {flaw}"))
                    .hint("nothing was changed; leave the field out to have it chosen, or choose another")
            })?;
        before.into_iter().for_each(|before| taken.remove(before));
        taken.add(service);
        Ok(())
    }

    /// Refuses ports that workloads publish, and addresses that are no stranger's.
    fn is_nobody_elses(&self, service: &Service) -> Result<(), Flaw> {
        for (index, port) in service.spec.ports.iter().enumerate() {
            let Some(number) = port.node_port else { continue };
            let holds = |w: &&Workload| {
                w.profile.ports.iter().any(|mapping| {
                    let (first, last) = mapping.host();
                    mapping.protocol().number() == port.protocol.number() && (first..=last).contains(&number)
                })
            };
            if let Some(workload) = self.world.workloads.values().find(holds) {
                let why = format!("{} publishes {number}/{}", workload.id, port.protocol);
                return Err(Flaw::new(format!("spec.ports[{index}].nodePort"), why));
            }
        }
        for (index, address) in service.spec.external_ips.iter().enumerate() {
            if let Some(whose) = self.holder(*address) {
                return Err(Flaw::new(format!("spec.externalIPs[{index}]"), format!("{address} is {whose}")));
            }
        }
        Ok(())
    }

    /// Whose an address is, if it is not a stranger's.
    fn holder(&self, address: IpAddr) -> Option<String> {
        if self.here.services.addresses.iter().any(|range| range.contains(&address)) {
            return Some("in services' own range".to_owned());
        }
        let mut networks = self.world.networks.values();
        if let Some(network) = networks.find(|n| n.subnets().any(|s| s.contains(&address))) {
            return Some(format!("in network '{}'", network.name));
        }
        let has = |n: &weft_model::Node| n.addresses.iter().any(|a| a.addr() == address);
        if let Some((name, _)) = self.world.nodes.iter().find(|(_, n)| has(n)) {
            return Some(format!("that of host {name}"));
        }
        crate::host::addresses().is_ok_and(|own| own.contains(&address)).then(|| "this host's own".to_owned())
    }

    /// The service that has one of these ports of the host's.
    pub(super) fn service_among(&self, protocol: u8, first: u16, last: u16) -> Option<ServiceName> {
        let has = |service: &&Service| {
            let mut ports = service.spec.ports.iter().filter(|p| p.protocol.number() == protocol);
            ports.any(|p| p.node_port.is_some_and(|port| (first..=last).contains(&port)))
        };
        self.world.declared.services.values().find(has).map(Service::name)
    }

    /// Follows declared services and slices that changed, given what they were; whether the kernel took all of it.
    pub(super) fn serve_objects(&mut self, changed: &[(ObjectId, Option<Object>)], operation: &str) -> bool {
        let (mut touched, mut seen) = (BTreeSet::new(), BTreeSet::new());
        for (id, was) in changed {
            let Some(namespace) = id.namespace.clone() else { continue };
            // Of an object that changed twice, what it was at first.
            if !matches!(id.kind, Kind::Service | Kind::EndpointSlice) || !seen.insert(id) {
                continue;
            }
            let name = (namespace, id.name.clone());
            let declared = &self.world.declared;
            match was {
                Some(Object::EndpointSlice(old)) => {
                    touched.extend(self.serving.slice(Some(old), declared.slices.get(&name)));
                }
                Some(Object::Service(old)) => {
                    self.serving.service(&self.world, Some(old), declared.services.get(&name));
                    touched.insert(name);
                }
                _ if id.kind == Kind::Service => {
                    self.serving.service(&self.world, None, declared.services.get(&name));
                    touched.insert(name);
                }
                _ => touched.extend(self.serving.slice(None, declared.slices.get(&name))),
            }
        }
        self.serve(touched, operation)
    }

    /// Lets services lead to a workload whose wire is finished.
    pub(super) fn serve_workload(&mut self, id: &AttachmentId) {
        let Some(workload) = self.world.workloads.get(id) else { return };
        let now = (&workload.namespace(), &workload.profile.labels);
        let touched = self.serving.workload(&Source::Local(id.clone()), None, Some(now));
        self.serve(touched, "attach");
    }

    /// Lets no service lead to a workload any more that is gone from the world.
    pub(super) fn unserve_workload(&mut self, gone: &Workload) {
        let before = (&gone.namespace(), &gone.profile.labels);
        let touched = self.serving.workload(&Source::Local(gone.id.clone()), Some(before), None);
        self.serve(touched, "detach");
    }

    /// Follows a workload of another host, which the world has as it is now.
    pub(super) fn serve_remote(
        &mut self,
        name: &RemoteName,
        before: Option<&Remote>,
    ) -> BTreeSet<ServiceName> {
        let seen = |remote: &Remote| (remote.namespace.clone(), remote.labels.clone());
        let (before, now) = (before.map(seen), self.world.remote.get(name).map(seen));
        let source = Source::Remote(name.clone());
        let before = before.as_ref().map(|(namespace, labels)| (namespace, &**labels));
        self.serving.workload(&source, before, now.as_ref().map(|(namespace, labels)| (namespace, &**labels)))
    }

    /// Follows all workloads of other hosts anew.
    pub(super) fn serve_anew(&mut self) {
        self.serving = Standing::of(&self.world);
        let all = self.world.declared.services.keys().cloned().collect();
        self.serve(all, "peers");
    }

    /// Brings these services in line with the world, and nothing else; whether the kernel took all of it. Where it did not,
    /// a repair is under way.
    pub(super) fn serve(&mut self, touched: BTreeSet<ServiceName>, operation: &str) -> bool {
        if touched.is_empty() {
            return true;
        }
        let (before, changed) = (Frame::of(&self.plan), self.rederive(touched));
        if changed.services.is_empty() {
            return true;
        }
        let mut changes = change(&before, &Frame::of(&self.plan), &changed);
        changes.extend(self.turn_back(&changed));
        changes.sort_by_key(Change::rank);
        let answers = self.apply(operation, &changes);
        let refused: Vec<String> = answers.into_iter().filter_map(Result::err).map(|e| chain(&e)).collect();
        for problem in &refused {
            tracing::warn!(problem, "services could not be changed by steps; all of the kernel is compared");
        }
        if !refused.is_empty() {
            self.reaper.send(crate::reaper::Retired::Resync).ok();
        }
        refused.is_empty()
    }

    /// Derives services anew, into the plan.
    fn rederive(&mut self, touched: BTreeSet<ServiceName>) -> Changed {
        let mut changed = Changed::default();
        let mut names = Vec::new();
        for name in touched {
            let mut after = self.serving.derive(&self.world, &name);
            let before = self.plan.services.services.get(&name);
            if let (Some(after), Some(before)) = (&mut after, before) {
                after.keep_slots(before);
            }
            if before != after.as_ref() {
                changed.services.push((before.cloned(), after));
                names.push(name);
            }
        }
        let concerned = concerned(&changed.services);
        let served = |engine: &Engine, address: &IpAddr| engine.plan.services.served.contains_key(address);
        let before: Vec<bool> = concerned.iter().map(|address| served(self, address)).collect();
        for (name, (_, after)) in names.iter().zip(&changed.services) {
            self.plan.services.put(name, after.clone());
        }
        for (address, before) in concerned.into_iter().zip(before) {
            let now = served(self, &address);
            if now != before {
                changed.served.insert(address, now);
            }
        }
        changed
    }

    /// Ports of bridges whose workload may be led to itself from now on, or no more.
    fn turn_back(&mut self, changed: &Changed) -> Vec<Change> {
        let mut changes = Vec::new();
        if changed.served.is_empty() {
            return changes;
        }
        let services = &self.plan.services;
        for workload in self.plan.workloads.values_mut() {
            if !workload.addresses.iter().any(|a| changed.served.contains_key(&a.addr())) {
                continue;
            }
            let hairpin = !workload.ports.is_empty() || services.serves(workload);
            if std::mem::replace(&mut workload.hairpin, hairpin) != hairpin
                && workload.mode == weft_model::Mode::Bridge
            {
                changes.push(Change::SetHairpin(workload.host_end.clone(), hairpin));
            }
        }
        changes
    }
}
