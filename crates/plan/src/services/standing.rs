//! Whom services select, kept so that a change finds what it touches without asking everybody.
//!
//! Workloads are found by each of their labels, services by the first label that they ask for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weft_model::policy::{NamedPorts, PortRef, Protocol};
use weft_model::service::{IpFamily, ServicePort};
use weft_model::slice::not_a_backend;
use weft_model::{
    AttachmentId, EndpointSlice, Here, LabelKey, LabelValue, Labels, NamespaceName, ObjectName, RemoteName,
    Service, ServiceName, World,
};

use super::{Frontend, PortPlan, ServicePlan, ServicesPlan};

/// A workload, here or elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// One of this host's.
    Local(AttachmentId),
    /// One of another host's.
    Remote(RemoteName),
}

type Label = (NamespaceName, LabelKey, LabelValue);

/// Who is found by what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Services by the first label that they ask for.
    selectors: HashMap<Label, BTreeSet<ObjectName>>,
    /// Workloads by each of their labels.
    labelled: HashMap<Label, BTreeSet<Arc<Source>>>,
    /// Slices by the service that they name.
    slices: BTreeMap<ServiceName, BTreeSet<ObjectName>>,
    /// Whether workloads are known: only once there is a service.
    awake: bool,
}

/// A workload as services see it.
struct Member<'a> {
    labels: &'a Labels,
    ports: &'a NamedPorts,
    addresses: Vec<IpAddr>,
    local: bool,
}

impl Standing {
    /// All of a world.
    #[must_use]
    pub fn of(world: &World) -> Standing {
        let mut standing = Standing::default();
        for slice in world.declared.slices.values() {
            standing.slice(None, Some(slice));
        }
        for service in world.declared.services.values() {
            standing.service(world, None, Some(service));
        }
        standing
    }

    /// Takes all workloads in, with the first service.
    fn wake(&mut self, world: &World) {
        if std::mem::replace(&mut self.awake, true) {
            return;
        }
        for (id, workload) in &world.workloads {
            let source = Source::Local(id.clone());
            self.workload(&source, None, Some((&workload.namespace(), &workload.profile.labels)));
        }
        for (name, remote) in &world.remote {
            self.workload(&Source::Remote(name.clone()), None, Some((&remote.namespace, &remote.labels)));
        }
    }

    /// Takes a service's change in.
    pub fn service(&mut self, world: &World, before: Option<&Service>, after: Option<&Service>) {
        self.wake(world);
        for (service, add) in [(before, false), (after, true)] {
            let Some(service) = service else { continue };
            let (namespace, name) = service.name();
            let Some((key, value)) = service.spec.selector.iter().next() else { continue };
            change(&mut self.selectors, (namespace, key.clone(), value.clone()), name, add);
        }
    }

    /// Takes a slice's change in; returns the services that it touches.
    pub fn slice(
        &mut self,
        before: Option<&EndpointSlice>,
        after: Option<&EndpointSlice>,
    ) -> BTreeSet<ServiceName> {
        let mut touched = BTreeSet::new();
        for (slice, add) in [(before, false), (after, true)] {
            let Some((slice, service)) = slice.and_then(|s| Some((s, s.service()?))) else { continue };
            let names = self.slices.entry(service.clone()).or_default();
            if add {
                names.insert(slice.metadata.name.clone());
            } else {
                names.remove(&slice.metadata.name);
            }
            if names.is_empty() {
                self.slices.remove(&service);
            }
            touched.insert(service);
        }
        touched
    }

    /// Takes a workload's change in; returns the services that it touches, also if only its addresses changed.
    pub fn workload(
        &mut self,
        source: &Source,
        before: Option<(&NamespaceName, &Labels)>,
        after: Option<(&NamespaceName, &Labels)>,
    ) -> BTreeSet<ServiceName> {
        let mut touched = BTreeSet::new();
        if !self.awake {
            return touched;
        }
        let source = Arc::new(source.clone());
        for (who, add) in [(before, false), (after, true)] {
            let Some((namespace, labels)) = who else { continue };
            for (key, value) in labels {
                let label = (namespace.clone(), key.clone(), value.clone());
                let services = self.selectors.get(&label).into_iter().flatten();
                touched.extend(services.map(|name| (namespace.clone(), name.clone())));
                change(&mut self.labelled, label, source.clone(), add);
            }
        }
        touched
    }

    /// The workloads that a service may select: those with the rarest of its labels.
    fn candidates(&self, service: &Service) -> impl Iterator<Item = &Arc<Source>> {
        let (namespace, _) = service.name();
        let found = |(key, value): (&LabelKey, &LabelValue)| {
            self.labelled.get(&(namespace.clone(), key.clone(), value.clone()))
        };
        let sets: Option<Vec<_>> = service.spec.selector.iter().map(found).collect();
        sets.into_iter().flatten().min_by_key(|set| set.len()).into_iter().flatten()
    }

    /// All services, from what is known.
    #[must_use]
    pub fn plan(&self, world: &World, here: &Here) -> ServicesPlan {
        let mut plan = ServicesPlan { ranges: here.services.addresses.clone(), ..ServicesPlan::default() };
        for name in world.declared.services.keys() {
            plan.put(name, self.derive(world, name));
        }
        plan
    }

    /// One service; `None` if it is not there.
    #[must_use]
    pub fn derive(&self, world: &World, name: &ServiceName) -> Option<ServicePlan> {
        let service = world.declared.services.get(name)?;
        let members: Vec<Member<'_>> = self
            .candidates(service)
            .filter_map(|source| member(world, source))
            .filter(|member| service.selects(member.labels))
            .collect();
        let slices: Vec<&EndpointSlice> = self
            .slices
            .get(name)
            .into_iter()
            .flatten()
            .filter_map(|slice| world.declared.slices.get(&(name.0.clone(), slice.clone())))
            .collect();
        let mut plan = ServicePlan {
            addresses: service.addresses().collect(),
            affinity: service.affinity(),
            ports: Vec::new(),
            local: BTreeSet::new(),
        };
        for family in families(service) {
            for port in &service.spec.ports {
                let ipv4 = family == IpFamily::IPv4;
                let mut backends = BTreeSet::new();
                for member in &members {
                    let Some(number) = target(port, member.ports) else { continue };
                    for address in member.addresses.iter().filter(|a| a.is_ipv4() == ipv4) {
                        backends.insert(SocketAddr::new(*address, number));
                        if member.local {
                            plan.local.insert(*address);
                        }
                    }
                }
                backends.extend(named(service, port, ipv4, &slices));
                plan.ports.push(PortPlan {
                    name: port.name.clone(),
                    protocol: port.protocol,
                    ipv4,
                    frontends: frontends(service, port, ipv4),
                    backends: backends.into_iter().collect(),
                });
            }
        }
        Some(plan)
    }
}

fn change<K: std::hash::Hash + Eq, V: Ord>(map: &mut HashMap<K, BTreeSet<V>>, key: K, value: V, add: bool) {
    if add {
        map.entry(key).or_default().insert(value);
        return;
    }
    if let Some(set) = map.get_mut(&key) {
        set.remove(&value);
        if set.is_empty() {
            map.remove(&key);
        }
    }
}

fn member<'a>(world: &'a World, source: &Source) -> Option<Member<'a>> {
    Some(match source {
        Source::Local(id) => {
            let workload = world.workloads.get(id)?;
            Member {
                labels: &workload.profile.labels,
                ports: &workload.profile.named_ports,
                addresses: workload.addresses.iter().map(ipnet::IpNet::addr).collect(),
                local: true,
            }
        }
        Source::Remote(name) => {
            let remote = world.remote.get(name)?;
            let (labels, ports) = (&*remote.labels, &remote.ports);
            Member { labels, ports, addresses: remote.addresses.clone(), local: false }
        }
    })
}

/// The families in which a service is there; one without addresses has those that it names, or both.
fn families(service: &Service) -> Vec<IpFamily> {
    let mut families: Vec<IpFamily> = service.addresses().map(IpFamily::of).collect();
    if service.is_headless() {
        families.clone_from(&service.spec.ip_families);
        if families.is_empty() {
            families = vec![IpFamily::IPv4, IpFamily::IPv6];
        }
    }
    families
}

/// The port of a workload to which a service's port leads.
fn target(port: &ServicePort, named: &NamedPorts) -> Option<u16> {
    match &port.target_port {
        None => Some(port.port),
        Some(PortRef::Number(number)) => Some(*number),
        Some(PortRef::Name(name)) => {
            named.get(name).filter(|found| found.protocol == port.protocol).map(|found| found.port)
        }
    }
}

fn frontends(service: &Service, port: &ServicePort, ipv4: bool) -> Vec<Frontend> {
    let external = service.spec.external_ips.iter().copied();
    let addresses = service.addresses().chain(external).filter(|a| a.is_ipv4() == ipv4);
    let mut frontends: Vec<Frontend> = addresses.map(|a| Frontend::At(a, port.port)).collect();
    frontends.extend(port.node_port.map(Frontend::Host));
    frontends
}

/// Backends that slices name: those that are ready, or else those that still serve although they are about to end.
fn named(service: &Service, port: &ServicePort, ipv4: bool, slices: &[&EndpointSlice]) -> Vec<SocketAddr> {
    let (mut ready, mut ending) = (Vec::new(), Vec::new());
    for slice in slices {
        let same = |p: &&weft_model::slice::EndpointPort| {
            p.name == port.name && Protocol::number(p.protocol) == Protocol::number(port.protocol)
        };
        let Some(number) = slice.ports.iter().find(same).map(|p| p.port) else { continue };
        for endpoint in &slice.endpoints {
            let Some(address) = endpoint.addresses.first().copied() else { continue };
            if address.is_ipv4() != ipv4 || not_a_backend(address).is_some() {
                continue;
            }
            let conditions = endpoint.conditions;
            if conditions.ready.unwrap_or(true) || service.spec.publish_not_ready_addresses {
                ready.push(SocketAddr::new(address, number));
            } else if conditions.serving.unwrap_or(false) && conditions.terminating.unwrap_or(false) {
                ending.push(SocketAddr::new(address, number));
            }
        }
    }
    if ready.is_empty() { ending } else { ready }
}
