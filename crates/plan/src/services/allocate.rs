//! What a service leaves open: its addresses and its ports of hosts. Chosen once, and recorded with the service.
//!
//! The choice follows from the service's name, so that hosts that are told the same in another order choose the same as
//! long as no two names want one place.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use weft_model::object::Flaw;
use weft_model::policy::Protocol;
use weft_model::service::{ClusterIp, IpFamily, IpFamilyPolicy, ServiceType};
use weft_model::slice::not_a_backend;
use weft_model::{Declared, Service, ServiceName, ServiceRanges};

/// What services have.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    addresses: BTreeMap<IpAddr, ServiceName>,
    external: BTreeMap<(IpAddr, Protocol, u16), ServiceName>,
    node_ports: BTreeMap<(Protocol, u16), ServiceName>,
}

impl Taken {
    /// By all services.
    #[must_use]
    pub fn of(declared: &Declared) -> Taken {
        let mut taken = Taken::default();
        declared.services.values().for_each(|service| taken.add(service));
        taken
    }

    /// Takes a service in.
    pub fn add(&mut self, service: &Service) {
        let name = service.name();
        self.addresses.extend(service.addresses().map(|address| (address, name.clone())));
        for port in &service.spec.ports {
            let external = service.spec.external_ips.iter();
            self.external.extend(external.map(|a| ((*a, port.protocol, port.port), name.clone())));
            self.node_ports.extend(port.node_port.map(|number| ((port.protocol, number), name.clone())));
        }
    }

    /// Takes a service out.
    pub fn remove(&mut self, service: &Service) {
        let name = service.name();
        self.addresses.retain_own(service.addresses(), &name);
        for port in &service.spec.ports {
            let external = service.spec.external_ips.iter().map(|a| (*a, port.protocol, port.port));
            self.external.retain_own(external, &name);
            self.node_ports.retain_own(port.node_port.map(|n| (port.protocol, n)).into_iter(), &name);
        }
    }
}

/// Taking out what is a service's own, and nobody else's.
trait RetainOwn<K> {
    fn retain_own(&mut self, keys: impl Iterator<Item = K>, name: &ServiceName);
}

impl<K: Ord> RetainOwn<K> for BTreeMap<K, ServiceName> {
    fn retain_own(&mut self, keys: impl Iterator<Item = K>, name: &ServiceName) {
        for key in keys {
            if self.get(&key) == Some(name) {
                self.remove(&key);
            }
        }
    }
}

/// Fills in what a service leaves open, from what it had `before` or from what is free.
///
/// # Errors
/// What it asks for and cannot have, with the field.
pub fn settle(
    service: &mut Service,
    before: Option<&Service>,
    taken: &Taken,
    ranges: &ServiceRanges,
) -> Result<(), Flaw> {
    external(service, taken, ranges)?;
    if service.is_headless() || service.spec.cluster_ips == [ClusterIp::None] {
        service.spec.cluster_ip = Some(ClusterIp::None);
        service.spec.cluster_ips = vec![ClusterIp::None];
        return Ok(());
    }
    addresses(service, before, taken, ranges)?;
    node_ports(service, before, taken, ranges)
}

fn addresses(
    service: &mut Service,
    before: Option<&Service>,
    taken: &Taken,
    ranges: &ServiceRanges,
) -> Result<(), Flaw> {
    let name = service.name();
    let given: Vec<IpAddr> = match (service.addresses().collect::<Vec<_>>(), service.spec.cluster_ip) {
        (all, Some(ClusterIp::At(first))) if all.is_empty() => vec![first],
        (all, _) => all,
    };
    let had: Vec<IpAddr> = before.map(|b| b.addresses().collect()).unwrap_or_default();
    let families = families(service, &given, &had, ranges)?;
    let mut addresses = Vec::new();
    for (index, family) in families.iter().enumerate() {
        let path = || format!("spec.clusterIPs[{index}]");
        let like = |address: &&IpAddr| IpFamily::of(**address) == *family;
        let range = ranges.of(*family == IpFamily::IPv4).ok_or_else(|| {
            Flaw::new(
                format!("spec.ipFamilies[{index}]"),
                format!("no range of {family:?} is configured for services"),
            )
        })?;
        let address = match given.iter().find(like) {
            Some(address) => {
                if !usable(range, *address) {
                    return Err(Flaw::new(path(), format!("{address} is not in services' range {range}")));
                }
                if let Some((namespace, other)) = taken.addresses.get(address).filter(|other| **other != name)
                {
                    return Err(Flaw::new(
                        path(),
                        format!("{address} is that of Service/{namespace}/{other}"),
                    ));
                }
                *address
            }
            None => match had.iter().filter(like).find(|a| usable(range, **a)) {
                Some(address) => *address,
                None => free_address(range, &name, taken).ok_or_else(|| {
                    Flaw::new(path(), format!("no address is free in services' range {range}"))
                })?,
            },
        };
        addresses.push(address);
    }
    let spec = &mut service.spec;
    let policy =
        if addresses.len() == 2 { IpFamilyPolicy::RequireDualStack } else { IpFamilyPolicy::SingleStack };
    spec.ip_family_policy.get_or_insert(policy);
    spec.cluster_ips = addresses.into_iter().map(ClusterIp::At).collect();
    spec.cluster_ip = spec.cluster_ips.first().copied();
    spec.ip_families = families;
    Ok(())
}

/// The families that a service is to have, in order.
fn families(
    service: &Service,
    given: &[IpAddr],
    had: &[IpAddr],
    ranges: &ServiceRanges,
) -> Result<Vec<IpFamily>, Flaw> {
    let spec = &service.spec;
    let mut families = spec.ip_families.clone();
    let known = if given.is_empty() { had } else { given };
    for family in known.iter().map(|a| IpFamily::of(*a)) {
        let wanted = families.is_empty() || given.len() == 2 || spec.ip_family_policy.is_none();
        if wanted && !families.contains(&family) && spec.ip_families.is_empty() {
            families.push(family);
        }
    }
    if families.is_empty() {
        families.extend(ranges.addresses.first().map(|r| IpFamily::of(r.addr())));
    }
    match spec.ip_family_policy {
        Some(IpFamilyPolicy::SingleStack) => families.truncate(1),
        Some(policy) => {
            for (family, v4) in [(IpFamily::IPv4, true), (IpFamily::IPv6, false)] {
                let there = ranges.of(v4).is_some();
                if !there && policy == IpFamilyPolicy::RequireDualStack {
                    let why = format!("no range of {family:?} is configured for services");
                    return Err(Flaw::new("spec.ipFamilyPolicy", why));
                }
                if there && !families.contains(&family) {
                    families.push(family);
                }
            }
        }
        None => {}
    }
    if families.is_empty() {
        return Err(Flaw::new("spec.clusterIP", "no range of addresses is configured for services"));
    }
    Ok(families)
}

fn node_ports(
    service: &mut Service,
    before: Option<&Service>,
    taken: &Taken,
    ranges: &ServiceRanges,
) -> Result<(), Flaw> {
    if service.spec.kind != ServiceType::NodePort {
        return Ok(());
    }
    let name = service.name();
    let (first, last) = ranges.node_ports;
    let mut own: Vec<(Protocol, u16)> =
        service.spec.ports.iter().filter_map(|p| Some((p.protocol, p.node_port?))).collect();
    for (index, port) in service.spec.ports.iter_mut().enumerate() {
        let path = || format!("spec.ports[{index}].nodePort");
        let others =
            |number: u16| taken.node_ports.get(&(port.protocol, number)).filter(|other| **other != name);
        if let Some(number) = port.node_port {
            if !(first..=last).contains(&number) {
                return Err(Flaw::new(path(), format!("{number} is not in the range {first}-{last}")));
            }
            if let Some((namespace, other)) = others(number) {
                let why = format!("{number}/{} is that of Service/{namespace}/{other}", port.protocol);
                return Err(Flaw::new(path(), why));
            }
            continue;
        }
        let had = before.and_then(|b| {
            let same =
                |p: &&weft_model::service::ServicePort| (p.protocol, p.port) == (port.protocol, port.port);
            b.spec.ports.iter().find(same)?.node_port
        });
        let free = |number: &u16| others(*number).is_none() && !own.contains(&(port.protocol, *number));
        let count = u64::from(last - first) + 1;
        let start = seed(&name, &format!("{}/{}", port.port, port.protocol)) % count;
        let nth = |n: u64| first + u16::try_from((start + n) % count).unwrap_or(0);
        let number = had
            .filter(|number| (first..=last).contains(number) && free(number))
            .or_else(|| (0..count).map(nth).find(free))
            .ok_or_else(|| Flaw::new(path(), format!("no port is free in the range {first}-{last}")))?;
        own.push((port.protocol, number));
        port.node_port = Some(number);
    }
    Ok(())
}

/// Addresses of others: only where the configuration permits it (CVE-2020-8554).
fn external(service: &Service, taken: &Taken, ranges: &ServiceRanges) -> Result<(), Flaw> {
    let name = service.name();
    for (index, address) in service.spec.external_ips.iter().enumerate() {
        let flaw = |why: String| Err(Flaw::new(format!("spec.externalIPs[{index}]"), why));
        if let Some(why) = not_a_backend(*address) {
            return flaw(format!("{address} is {why}"));
        }
        if !ranges.external.iter().any(|range| range.contains(address)) {
            return flaw(format!(
                "{address} is in none of the ranges that the configuration permits (external_ips)"
            ));
        }
        for port in &service.spec.ports {
            let other = taken.external.get(&(*address, port.protocol, port.port));
            if let Some((namespace, other)) = other.filter(|other| **other != name) {
                let at = format!("{address} port {}/{}", port.port, port.protocol);
                return flaw(format!("{at} is that of Service/{namespace}/{other}"));
            }
        }
    }
    Ok(())
}

/// Whether a service can have the address: the range's first and last are nobody's.
fn usable(range: IpNet, address: IpAddr) -> bool {
    range.contains(&address) && address != range.network() && address != range.broadcast()
}

fn free_address(range: IpNet, name: &ServiceName, taken: &Taken) -> Option<IpAddr> {
    let bits = u32::from(range.max_prefix_len() - range.prefix_len()).min(63);
    let count = (1_u64 << bits).checked_sub(2).filter(|count| *count > 0)?;
    let start = seed(name, "") % count;
    let nth = |n: u64| {
        let offset = 1 + (start + n) % count;
        match range.network() {
            IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) + u32::try_from(offset).unwrap_or(0)).into()),
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) + u128::from(offset)).into()),
        }
    };
    (0..count).map(nth).find(|address| !taken.addresses.contains_key(address))
}

/// FNV-1a of what names the thing: the same on every host and in every version.
fn seed((namespace, name): &ServiceName, what: &str) -> u64 {
    let parts = [namespace.as_str(), "/", name.as_str(), "/", what];
    let bytes = parts.iter().flat_map(|part| part.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
