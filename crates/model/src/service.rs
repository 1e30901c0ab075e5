//! Services: one stable address in front of several backends (Kubernetes' `Service`, v1).
//!
//! Only the words; which backends a service has, and what the kernel holds of it, is `weft_plan::services`'.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::label::{LabelKey, LabelValue, Labels};
use crate::name::{NamespaceName, ObjectName, PortName};
use crate::object::{Dropped, Flaw, Metadata, Resource};
use crate::policy::{PortRef, Protocol};

/// What names a service.
pub type ServiceName = (NamespaceName, ObjectName);

/// `kind: Service`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// `v1`.
    pub api_version: String,
    /// Its name and namespace.
    pub metadata: Metadata,
    /// What it says.
    pub spec: ServiceSpec,
    /// What an API server adds to what it returns; taken and left out.
    #[serde(default, skip_serializing)]
    status: Dropped,
}

/// What a [`Service`] says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ServiceSpec {
    /// How it is reached.
    #[serde(rename = "type")]
    pub kind: ServiceType,
    /// The labels of its backends in its namespace; without any, EndpointSlices name them.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub selector: Labels,
    /// Its ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePort>,
    /// Its address, or `None` for a service without; chosen when it is left out.
    #[serde(rename = "clusterIP", skip_serializing_if = "Option::is_none")]
    pub cluster_ip: Option<ClusterIp>,
    /// Its addresses, one per family, the first of them again.
    #[serde(rename = "clusterIPs", skip_serializing_if = "Vec::is_empty")]
    pub cluster_ips: Vec<ClusterIp>,
    /// The families of its addresses, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip_families: Vec<IpFamily>,
    /// Of how many families it has addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// Further addresses at which it answers, of those that the configuration permits.
    #[serde(rename = "externalIPs", skip_serializing_if = "Vec::is_empty")]
    pub external_ips: Vec<IpAddr>,
    /// Whether a client stays with a backend.
    pub session_affinity: SessionAffinity,
    /// For how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_affinity_config: Option<SessionAffinityConfig>,
    /// Whether backends count that are not ready.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub publish_not_ready_addresses: bool,
    /// To which backends clients inside are led: only `Cluster` is understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internal_traffic_policy: Option<TrafficPolicy>,
    /// To which backends clients outside are led: only `Cluster` is understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<TrafficPolicy>,
}

/// How a service is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceType {
    /// At an address of its own, from workloads and their hosts.
    #[default]
    ClusterIP,
    /// At a port of every host besides.
    NodePort,
    /// At an address for the outside; not understood yet.
    LoadBalancer,
    /// As another name for something; not understood yet.
    ExternalName,
}

/// An address of a service: `None` says that it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ClusterIp {
    /// The service has no address: only its backends are named (headless).
    None,
    /// This one.
    At(IpAddr),
}

impl TryFrom<String> for ClusterIp {
    type Error = String;
    fn try_from(text: String) -> Result<ClusterIp, String> {
        match text.as_str() {
            "None" => Ok(ClusterIp::None),
            _ => text
                .parse()
                .map(ClusterIp::At)
                .map_err(|_| format!("'{}' is neither an IP address nor None", text.escape_default())),
        }
    }
}

impl From<ClusterIp> for String {
    fn from(address: ClusterIp) -> String {
        address.to_string()
    }
}

impl std::fmt::Display for ClusterIp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ClusterIp::None => f.write_str("None"),
            ClusterIp::At(address) => address.fmt(f),
        }
    }
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum IpFamily {
    /// IPv4.
    IPv4,
    /// IPv6.
    IPv6,
}

impl IpFamily {
    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> IpFamily {
        if address.is_ipv4() { IpFamily::IPv4 } else { IpFamily::IPv6 }
    }
}

/// Of how many families a service has addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpFamilyPolicy {
    /// Of one.
    SingleStack,
    /// Of both, where both can be had.
    PreferDualStack,
    /// Of both.
    RequireDualStack,
}

/// Whether a client stays with a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionAffinity {
    /// Each connection is on its own.
    #[default]
    None,
    /// By the client's address.
    ClientIP,
}

/// For how long a client stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionAffinityConfig {
    /// Of affinity by address.
    #[serde(rename = "clientIP")]
    pub client_ip: ClientIpConfig,
}

/// For how long a client stays that is known by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientIpConfig {
    /// Seconds since its last connection, 1 to 86,400.
    pub timeout_seconds: u32,
}

/// What Kubernetes has for the timeout when none is given: three hours.
pub const AFFINITY_SECONDS: u32 = 10_800;
/// The longest timeout of affinity: a day.
const LONGEST_AFFINITY: u32 = 86_400;

/// To which backends clients are led.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrafficPolicy {
    /// To all of them.
    Cluster,
    /// To those on the client's host; not understood yet.
    Local,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServicePort {
    /// Its name; needed if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<PortName>,
    /// Its protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
    /// The backends' port, by number or by the name that they give it; the same number without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<PortRef>,
    /// The hosts' port, for services of that type; chosen when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_port: Option<u16>,
    /// What is spoken there; a note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

impl Service {
    /// What names it.
    #[must_use]
    pub fn name(&self) -> ServiceName {
        let namespace = self.metadata.namespace.clone().unwrap_or_else(crate::namespace::default_namespace);
        (namespace, self.metadata.name.clone())
    }

    /// Whether it has no address.
    #[must_use]
    pub fn is_headless(&self) -> bool {
        self.spec.cluster_ip == Some(ClusterIp::None)
    }

    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.spec.cluster_ips.iter().filter_map(|address| match address {
            ClusterIp::At(address) => Some(*address),
            ClusterIp::None => None,
        })
    }

    /// For how many seconds a client stays with its backend, if it does.
    #[must_use]
    pub fn affinity(&self) -> Option<u32> {
        let seconds =
            self.spec.session_affinity_config.map_or(AFFINITY_SECONDS, |c| c.client_ip.timeout_seconds);
        (self.spec.session_affinity == SessionAffinity::ClientIP).then_some(seconds)
    }

    /// Whether a workload of its namespace with these labels is one of its backends.
    #[must_use]
    pub fn selects(&self, labels: &Labels) -> bool {
        let has = |(key, value): (&LabelKey, &LabelValue)| labels.get(key) == Some(value);
        !self.spec.selector.is_empty() && self.spec.selector.iter().all(has)
    }
}

impl Resource for Service {
    const API_VERSION: &'static str = "v1";
    const KIND: &'static str = "Service";
    const PLURAL: &'static str = "services";
    const SHORT: &'static str = "svc";
    const NAMESPACED: bool = true;

    fn validate_spec(&self) -> Result<(), Flaw> {
        let spec = &self.spec;
        let unknown = |path: &str, what: &str| Err(Flaw::new(path, format!("{what} is not supported yet")));
        match spec.kind {
            ServiceType::LoadBalancer => return unknown("spec.type", "LoadBalancer"),
            ServiceType::ExternalName => return unknown("spec.type", "ExternalName"),
            ServiceType::NodePort if self.is_headless() => {
                return Err(Flaw::new("spec.clusterIP", "a service with ports of hosts needs an address"));
            }
            ServiceType::NodePort | ServiceType::ClusterIP => {}
        }
        let policies = [
            ("spec.internalTrafficPolicy", spec.internal_traffic_policy),
            ("spec.externalTrafficPolicy", spec.external_traffic_policy),
        ];
        for (path, policy) in policies {
            if policy == Some(TrafficPolicy::Local) {
                return unknown(path, "Local");
            }
        }
        if spec.session_affinity == SessionAffinity::ClientIP {
            return unknown("spec.sessionAffinity", "ClientIP");
        }
        ports(spec)?;
        addresses(spec)?;
        affinity(spec)
    }
}

fn ports(spec: &ServiceSpec) -> Result<(), Flaw> {
    if spec.ports.is_empty() && spec.cluster_ip != Some(ClusterIp::None) {
        return Err(Flaw::new("spec.ports", "a service with an address needs at least one port"));
    }
    for (index, port) in spec.ports.iter().enumerate() {
        let flaw = |field: &str, why: &str| Err(Flaw::new(format!("spec.ports[{index}].{field}"), why));
        if port.port == 0 {
            return flaw("port", "ports are 1 to 65535");
        }
        if port.target_port == Some(PortRef::Number(0)) {
            return flaw("targetPort", "ports are 1 to 65535");
        }
        if port.name.is_none() && spec.ports.len() > 1 {
            return flaw("name", "one of several ports needs a name");
        }
        if port.node_port == Some(0) {
            return flaw("nodePort", "ports are 1 to 65535");
        }
        if port.node_port.is_some() && spec.kind != ServiceType::NodePort {
            return flaw("nodePort", "only a service of type NodePort has ports of hosts");
        }
        for other in &spec.ports[..index] {
            if port.name.is_some() && port.name == other.name {
                return flaw("name", "two ports have this name");
            }
            if (port.protocol, port.port) == (other.protocol, other.port) {
                return flaw("port", "two ports have this number and protocol");
            }
            if port.node_port.is_some()
                && (port.protocol, port.node_port) == (other.protocol, other.node_port)
            {
                return flaw("nodePort", "two ports want this port of hosts");
            }
        }
    }
    Ok(())
}

fn addresses(spec: &ServiceSpec) -> Result<(), Flaw> {
    let (first, all) = (spec.cluster_ip, &spec.cluster_ips);
    if first.is_some() && !all.is_empty() && all.first() != first.as_ref() {
        return Err(Flaw::new("spec.clusterIPs[0]", "must be the same as clusterIP"));
    }
    let none = all.contains(&ClusterIp::None);
    let family = |address: &ClusterIp| match address {
        ClusterIp::At(address) => Some(IpFamily::of(*address)),
        ClusterIp::None => None,
    };
    if all.len() > 2 || (all.len() == 2 && (none || family(&all[0]) == family(&all[1]))) {
        return Err(Flaw::new(
            "spec.clusterIPs",
            "there is at most one address of each family, or None alone",
        ));
    }
    if spec.ip_families.len() > 2
        || (spec.ip_families.len() == 2 && spec.ip_families[0] == spec.ip_families[1])
    {
        return Err(Flaw::new("spec.ipFamilies", "each family is named once"));
    }
    let single = spec.ip_family_policy.unwrap_or(IpFamilyPolicy::SingleStack) == IpFamilyPolicy::SingleStack;
    if single && spec.ip_family_policy.is_some() && (spec.ip_families.len() == 2 || all.len() == 2) {
        return Err(Flaw::new("spec.ipFamilyPolicy", "SingleStack goes with one family"));
    }
    for (index, (address, wanted)) in all.iter().zip(&spec.ip_families).enumerate() {
        if family(address).is_some_and(|found| found != *wanted) {
            return Err(Flaw::new(
                format!("spec.clusterIPs[{index}]"),
                format!("'{address}' is not {wanted:?}, which ipFamilies[{index}] says"),
            ));
        }
    }
    Ok(())
}

fn affinity(spec: &ServiceSpec) -> Result<(), Flaw> {
    match (spec.session_affinity, spec.session_affinity_config) {
        (SessionAffinity::None, Some(_)) => {
            Err(Flaw::new("spec.sessionAffinityConfig", "goes with sessionAffinity ClientIP only"))
        }
        (_, Some(config)) if !(1..=LONGEST_AFFINITY).contains(&config.client_ip.timeout_seconds) => {
            let path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
            Err(Flaw::new(path, format!("must be 1 to {LONGEST_AFFINITY}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
