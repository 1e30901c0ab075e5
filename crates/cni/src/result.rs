//! Results, free of versions: what [`parse`](CniResult::parse) reads and [`render`](CniResult::render) prints.

mod read;
mod render;

use std::net::IpAddr;

use ipnet::IpNet;

/// What a network looks like from inside a container (CNI SPEC.md 1.1.0, section 5, "ADD success").
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CniResult {
    /// What was made, on both sides.
    pub interfaces: Vec<Interface>,
    /// The addresses.
    pub ips: Vec<Ip>,
    /// The routes inside.
    pub routes: Vec<Route>,
    /// What resolvers shall be told.
    pub dns: Dns,
}

/// One interface.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its Ethernet address.
    pub mac: Option<String>,
    /// Largest packet in bytes; since 1.1.0.
    pub mtu: Option<u32>,
    /// The namespace it is in; none for the host's.
    pub sandbox: Option<String>,
    /// A socket in place of a device; since 1.1.0.
    pub socket_path: Option<String>,
    /// The PCI device behind it; since 1.1.0.
    pub pci_id: Option<String>,
}

/// One address.
#[derive(Clone, Debug, PartialEq)]
pub struct Ip {
    /// The address with its prefix length.
    pub address: IpNet,
    /// The next hop for it.
    pub gateway: Option<IpAddr>,
    /// Which of the result's interfaces bears it.
    pub interface: Option<usize>,
}

/// One route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Where to.
    pub dst: IpNet,
    /// By which hop.
    pub gw: Option<IpAddr>,
    /// Attributes that came with 1.1.0.
    pub attributes: RouteAttributes,
}

/// What a route may have since 1.1.0, each with rtnetlink's meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteAttributes {
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// Largest segment to advertise, in bytes.
    pub advmss: Option<u32>,
    /// Metric.
    pub priority: Option<u32>,
    /// Table.
    pub table: Option<u32>,
    /// Scope.
    pub scope: Option<u32>,
}

/// What resolvers shall be told (CNI SPEC.md 1.1.0, section 5, "dns").
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Dns {
    /// Addresses of servers, the preferred first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Domains to try for short names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options as in `resolv.conf`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl CniResult {
    /// Adds what a later plugin of a chain has made. Its indices move behind those that are there;
    /// what resolvers shall be told stays, unless there is nothing.
    pub(crate) fn append(&mut self, later: CniResult) {
        let before = self.interfaces.len();
        self.interfaces.extend(later.interfaces);
        self.ips.extend(later.ips.into_iter().map(|mut ip| {
            ip.interface = ip.interface.map(|i| i + before);
            ip
        }));
        for route in later.routes {
            if !self.routes.contains(&route) {
                self.routes.push(route);
            }
        }
        if self.dns.is_empty() {
            self.dns = later.dns;
        }
    }

    /// The addresses of an interface inside a sandbox. The sandbox's path decides only between several of
    /// the same name: runtimes name one namespace by different paths.
    pub(crate) fn addresses_of(&self, name: &str, sandbox: &str) -> Option<Vec<IpNet>> {
        let inside = |i: &Interface| i.name == name && i.sandbox.is_some();
        let exact = self.interfaces.iter().position(|i| inside(i) && i.sandbox.as_deref() == Some(sandbox));
        let index = exact.or_else(|| self.interfaces.iter().position(inside))?;
        let ours = self.ips.iter().filter(|ip| ip.interface == Some(index));
        Some(ours.map(|ip| ip.address).collect())
    }
}

impl Dns {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }

    pub(crate) fn overridden_by(mut self, other: &Dns) -> Dns {
        let list = |mine: &mut Vec<String>, theirs: &Vec<String>| {
            if !theirs.is_empty() {
                mine.clone_from(theirs);
            }
        };
        list(&mut self.nameservers, &other.nameservers);
        list(&mut self.search, &other.search);
        list(&mut self.options, &other.options);
        if other.domain.is_some() {
            self.domain.clone_from(&other.domain);
        }
        self
    }
}

#[cfg(test)]
mod tests;
