//! Results in the form of each version:
//!
//! | version       | form                                                                          |
//! |---------------|-------------------------------------------------------------------------------|
//! | 0.1.0, 0.2.0  | `ip4` and `ip6`, each with its routes; no interfaces; one address a family    |
//! | 0.3.0 – 0.4.0 | `interfaces`, `ips` with `version`, `routes`, `dns`                           |
//! | 1.0.0         | the same without `version`                                                    |
//! | 1.1.0         | `mtu`, `socketPath`, `pciID` of interfaces; attributes of routes              |

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use super::{CniResult, Dns, Interface, Ip, Route};
use crate::version::SpecVersion;

impl CniResult {
    /// The result as text in the form of a version, ending in a newline. What a version has no words for
    /// is left out.
    #[must_use]
    pub fn render(&self, version: SpecVersion) -> String {
        let text = match version {
            SpecVersion::V0_1_0 | SpecVersion::V0_2_0 => pretty(&Old::new(self, version)),
            _ => pretty(&Current::new(self, version)),
        };
        text + "\n"
    }
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("strings, numbers and lists of them always become JSON")
}

#[derive(Serialize)]
struct Old<'a> {
    #[serde(rename = "cniVersion")]
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip4: Option<OldIp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip6: Option<OldIp>,
    #[serde(skip_serializing_if = "Dns::is_empty")]
    dns: &'a Dns,
}

#[derive(Serialize)]
struct OldIp {
    ip: IpNet,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<CurrentRoute>,
}

impl<'a> Old<'a> {
    fn new(result: &'a CniResult, version: SpecVersion) -> Old<'a> {
        let family = |v4: bool| {
            let ip = result.ips.iter().find(|ip| ip.address.addr().is_ipv4() == v4)?;
            let routes = result.routes.iter().filter(|r| r.dst.addr().is_ipv4() == v4);
            let routes = routes.map(|r| CurrentRoute::new(r, version)).collect();
            Some(OldIp { ip: ip.address, gateway: ip.gateway, routes })
        };
        Old { version: version.as_str(), ip4: family(true), ip6: family(false), dns: &result.dns }
    }
}

#[derive(Serialize)]
struct Current<'a> {
    #[serde(rename = "cniVersion")]
    version: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<CurrentInterface<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<CurrentIp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<CurrentRoute>,
    #[serde(skip_serializing_if = "Dns::is_empty")]
    dns: &'a Dns,
}

impl<'a> Current<'a> {
    fn new(result: &'a CniResult, version: SpecVersion) -> Current<'a> {
        Current {
            version: version.as_str(),
            interfaces: result.interfaces.iter().map(|i| CurrentInterface::new(i, version)).collect(),
            ips: result.ips.iter().map(|ip| CurrentIp::new(ip, version)).collect(),
            routes: result.routes.iter().map(|r| CurrentRoute::new(r, version)).collect(),
            dns: &result.dns,
        }
    }
}

#[derive(Serialize)]
struct CurrentInterface<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<&'a str>,
    #[serde(rename = "socketPath", skip_serializing_if = "Option::is_none")]
    socket_path: Option<&'a str>,
    #[serde(rename = "pciID", skip_serializing_if = "Option::is_none")]
    pci_id: Option<&'a str>,
}

impl<'a> CurrentInterface<'a> {
    fn new(interface: &'a Interface, version: SpecVersion) -> CurrentInterface<'a> {
        let new = version >= SpecVersion::V1_1_0;
        CurrentInterface {
            name: &interface.name,
            mac: interface.mac.as_deref(),
            mtu: interface.mtu.filter(|_| new),
            sandbox: interface.sandbox.as_deref(),
            socket_path: interface.socket_path.as_deref().filter(|_| new),
            pci_id: interface.pci_id.as_deref().filter(|_| new),
        }
    }
}

#[derive(Serialize)]
struct CurrentIp {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    address: IpNet,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<usize>,
}

impl CurrentIp {
    fn new(ip: &Ip, version: SpecVersion) -> CurrentIp {
        let family = if ip.address.addr().is_ipv4() { "4" } else { "6" };
        CurrentIp {
            version: (version < SpecVersion::V1_0_0).then_some(family),
            address: ip.address,
            gateway: ip.gateway,
            interface: ip.interface,
        }
    }
}

#[derive(Serialize)]
struct CurrentRoute {
    dst: IpNet,
    #[serde(skip_serializing_if = "Option::is_none")]
    gw: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advmss: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<u32>,
}

impl CurrentRoute {
    fn new(route: &Route, version: SpecVersion) -> CurrentRoute {
        let new = version >= SpecVersion::V1_1_0;
        let a = if new { route.attributes } else { super::RouteAttributes::default() };
        CurrentRoute {
            dst: route.dst,
            gw: route.gw,
            mtu: a.mtu,
            advmss: a.advmss,
            priority: a.priority,
            table: a.table,
            scope: a.scope,
        }
    }
}
