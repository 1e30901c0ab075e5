//! Backends by address: EndpointSlice (discovery.k8s.io/v1), for services whose backends are no workloads of weft's.

use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::name::{ObjectName, PortName};
use crate::namespace::default_namespace;
use crate::object::{Flaw, Metadata, Resource};
use crate::policy::Protocol;
use crate::service::{IpFamily, ServiceName};

/// The label of a slice that names its service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// As many endpoints as Kubernetes lets a slice have.
const ENDPOINTS: usize = 1000;

/// `kind: EndpointSlice`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointSlice {
    /// `discovery.k8s.io/v1`.
    pub api_version: String,
    /// Its name and namespace, and the label that names its service.
    pub metadata: Metadata,
    /// The family of its addresses.
    pub address_type: AddressType,
    /// The backends.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// Their ports, by the names of the service's.
    #[serde(default)]
    pub ports: Vec<EndpointPort>,
}

/// The family of a slice's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressType {
    /// IPv4.
    IPv4,
    /// IPv6.
    IPv6,
    /// Names; not understood.
    #[serde(rename = "FQDN")]
    Fqdn,
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Endpoint {
    /// Its addresses; they all lead to the same.
    pub addresses: Vec<IpAddr>,
    /// How it is with it.
    #[serde(default)]
    pub conditions: Conditions,
    /// Its name within the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The host that it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The zone that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// How it is with a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Conditions {
    /// Whether it takes connections; unknown counts as yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// Whether it would, if it were not about to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving: Option<bool>,
    /// Whether it is about to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating: Option<bool>,
}

/// A port of backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointPort {
    /// The name of the service's port; absent or empty for one without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<PortName>,
    /// Its protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
    /// What is spoken there; a note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

impl EndpointSlice {
    /// The service that it belongs to, in its own namespace and never in another.
    #[must_use]
    pub fn service(&self) -> Option<ServiceName> {
        let mut labels = self.metadata.labels.iter();
        let (_, name) = labels.find(|(key, _)| key.as_str() == SERVICE_NAME)?;
        let name: ObjectName = name.as_str().parse().ok()?;
        Some((self.metadata.namespace.clone().unwrap_or_else(default_namespace), name))
    }
}

/// Why an address can be no backend (CVE-2021-25737): what means the host itself, its segment, or nobody.
#[must_use]
pub fn not_a_backend(address: IpAddr) -> Option<&'static str> {
    const METADATA6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    let plain = address.to_canonical();
    let (link_local, broadcast) = match plain {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.is_broadcast()),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), false),
    };
    match plain {
        _ if plain != address => Some("an IPv4 address in IPv6's clothes"),
        _ if plain.is_loopback() => Some("a loopback address"),
        _ if plain.is_unspecified() => Some("no address at all"),
        _ if plain.is_multicast() || broadcast => Some("an address of many"),
        _ if link_local => Some("a link-local address"),
        _ if plain == IpAddr::V6(METADATA6) => Some("the cloud's metadata address"),
        _ => None,
    }
}

impl Resource for EndpointSlice {
    const API_VERSION: &'static str = "discovery.k8s.io/v1";
    const KIND: &'static str = "EndpointSlice";
    const PLURAL: &'static str = "endpointslices";
    const SHORT: &'static str = "eps";
    const NAMESPACED: bool = true;

    fn validate_spec(&self) -> Result<(), Flaw> {
        let family = match self.address_type {
            AddressType::IPv4 => IpFamily::IPv4,
            AddressType::IPv6 => IpFamily::IPv6,
            AddressType::Fqdn => return Err(Flaw::new("addressType", "FQDN is not supported")),
        };
        if self.endpoints.len() > ENDPOINTS {
            let why = format!("a slice has at most {ENDPOINTS}: use several");
            return Err(Flaw::new("endpoints", why));
        }
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            if endpoint.addresses.is_empty() {
                return Err(Flaw::new(format!("endpoints[{index}].addresses"), "at least one is needed"));
            }
            for (at, address) in endpoint.addresses.iter().enumerate() {
                let flaw = |why: &str| {
                    let why = format!("{address} is {why}");
                    Err(Flaw::new(format!("endpoints[{index}].addresses[{at}]"), why))
                };
                if let Some(why) = not_a_backend(*address) {
                    return flaw(&format!("{why}, which is nobody's backend"));
                }
                if IpFamily::of(*address) != family {
                    return flaw(&format!("not {family:?}, which addressType says"));
                }
            }
        }
        for (index, port) in self.ports.iter().enumerate() {
            if port.port == 0 {
                return Err(Flaw::new(format!("ports[{index}].port"), "ports are 1 to 65535"));
            }
            if self.ports[..index].iter().any(|other| other.name == port.name) {
                return Err(Flaw::new(format!("ports[{index}].name"), "two ports have this name"));
            }
        }
        Ok(())
    }
}
