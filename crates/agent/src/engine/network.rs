//! Declaring and removing networks.

use ipnet::IpNet;
use weft_kernel::Change;
use weft_model::api::{Error, ErrorKind, NetworkSpec, NetworkStatus};
use weft_model::{Encapsulation, Network, NetworkId, NetworkName};
use weft_plan::address::{choose_subnets, overlaps, validate_subnet};
use weft_store::Write;

use super::{Engine, no_network};
use crate::{chain, host, random};

/// IPv6 demands it of every link (RFC 8200, section 5).
const SMALLEST_IPV6: u32 = 1280;
/// IPv4 demands it of every host (RFC 791).
const SMALLEST_IPV4: u32 = 576;
const LARGEST: u32 = 65_535;
/// Numbers from here on would collide with the groups of tunnels and of retired links.
const LAST_ID: u16 = 0x3ffe;

impl Engine {
    /// Declares a network and makes its device.
    ///
    /// # Errors
    /// With nothing changed.
    pub(crate) fn network_create(&mut self, spec: &NetworkSpec) -> Result<NetworkStatus, Error> {
        let network = self.declare(spec)?;
        let name = network.name.clone();
        self.world.networks.insert(name.clone(), network.clone());
        self.replan();
        if spec.explain {
            let changes = self.outstanding();
            let status = self.network_status(&network);
            self.world.networks.remove(&name);
            self.replan();
            let commands = changes?.iter().flat_map(Change::commands).collect();
            return Ok(NetworkStatus { commands, ..status });
        }
        self.addresses.insert(name.clone(), self.pools(&network));
        let recorded = self.record(vec![Write::PutNetwork(network.clone())]);
        if let Err(error) = recorded.and_then(|()| self.sync_strictly()) {
            self.world.networks.remove(&name);
            self.addresses.remove(&name);
            self.replan();
            if let Err(error) = self.record(vec![Write::RemoveNetwork(name)]) {
                tracing::warn!(%error, "failed to record that a network was not made");
            }
            self.sync();
            return Err(error);
        }
        Ok(self.network_status(&network))
    }

    /// Removes a network that no workload uses. Returns the equivalent commands if they were asked for.
    ///
    /// # Errors
    /// With nothing changed.
    pub(crate) fn network_remove(&mut self, name: &NetworkName, explain: bool) -> Result<Vec<String>, Error> {
        let network = self.world.networks.get(name).cloned().ok_or_else(|| no_network(name))?;
        if network.vni.is_some() {
            let message = format!("network '{name}' belongs to the whole cluster");
            return Err(Error::new(ErrorKind::Invalid, message)
                .hint("remove it without --explain, or from where it was declared: all hosts follow"));
        }
        let users: Vec<String> =
            self.world.workloads.keys().filter(|id| id.network == *name).map(ToString::to_string).collect();
        if !users.is_empty() {
            let (some, more) = (users[..users.len().min(3)].join(", "), users.len().saturating_sub(3));
            let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
            return Err(Error::new(ErrorKind::Exists, format!("network '{name}' is used by {some}{rest}"))
                .hint("detach them first; `weft status` shows them"));
        }
        self.world.networks.remove(name);
        self.replan();
        if explain {
            let changes = self.outstanding();
            self.world.networks.insert(name.clone(), network);
            self.replan();
            return Ok(changes?.iter().flat_map(Change::commands).collect());
        }
        if let Err(error) = self.record(vec![Write::RemoveNetwork(name.clone())]) {
            self.world.networks.insert(name.clone(), network);
            self.replan();
            return Err(error);
        }
        self.addresses.remove(name);
        self.sync_strictly()?;
        Ok(Vec::new())
    }

    /// Makes the network `default` if there is none.
    ///
    /// # Errors
    /// As [`network_create`](Self::network_create).
    pub(crate) fn default_network(&mut self) -> Result<(), Error> {
        let name: NetworkName = "default".parse().expect("default is a valid name");
        if self.world.networks.contains_key(&name) {
            return Ok(());
        }
        let subnets = Vec::new();
        let (mode, mtu) = (weft_model::Mode::Routed, None);
        let spec = NetworkSpec {
            name,
            subnets,
            mode,
            mtu,
            masquerade: true,
            encapsulation: Encapsulation::Auto,
            explain: false,
        };
        self.network_create(&spec).map(|_| ())
    }

    /// Whether the next attach to a network can succeed.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn ready(&mut self, name: &NetworkName) -> Result<(), Error> {
        self.addresses(name)?.ready().map_err(Error::from)
    }

    /// Checks a wish and fills in what it leaves open.
    pub(crate) fn declare(&self, spec: &NetworkSpec) -> Result<Network, Error> {
        let name = &spec.name;
        let invalid = |message: String| Error::new(ErrorKind::Invalid, message);
        if self.world.networks.contains_key(name) {
            return Err(Error::new(ErrorKind::Exists, format!("network '{name}' exists already"))
                .hint(format!("`weft network inspect {name}` shows it")));
        }
        let facts = host::facts().map_err(|e| Error::new(ErrorKind::Kernel, chain(&e)))?;
        let mut taken: Vec<(IpNet, String)> =
            facts.taken.iter().map(|t| (*t, "the host reaches already".to_owned())).collect();
        for other in self.world.networks.values() {
            taken.extend(other.subnets().map(|s| (s, format!("belongs to network '{}'", other.name))));
        }
        let (ipv4, ipv6) = self.subnets(spec, &taken)?;
        let smallest = if ipv6.is_some() { SMALLEST_IPV6 } else { SMALLEST_IPV4 };
        if let Some(mtu) = spec.mtu.filter(|m| !(smallest..=LARGEST).contains(m)) {
            return Err(invalid(format!("an MTU of {mtu} bytes is not possible here"))
                .hint(format!("choose one from {smallest} to {LARGEST}")));
        }
        let mut network = Network {
            name: name.clone(),
            id: self.free_id()?,
            mode: spec.mode,
            ipv4,
            ipv6,
            mtu: spec.mtu,
            masquerade: spec.masquerade,
            vni: None,
            encapsulation: spec.encapsulation,
        };
        network.ipv4 = network.ipv4.map(|n| n.trunc());
        network.ipv6 = network.ipv6.map(|n| n.trunc());
        Ok(network)
    }

    fn subnets(
        &self,
        spec: &NetworkSpec,
        taken: &[(IpNet, String)],
    ) -> Result<(Option<ipnet::Ipv4Net>, Option<ipnet::Ipv6Net>), Error> {
        if spec.subnets.is_empty() {
            let nets: Vec<IpNet> = taken.iter().map(|(net, _)| *net).collect();
            let [_, _, _, seed @ ..] = random().to_be_bytes();
            let (ipv4, ipv6) = choose_subnets(&nets, seed).map_err(Error::from)?;
            let no_ipv6 = !std::path::Path::new("/proc/sys/net/ipv6").exists();
            return Ok((Some(ipv4), (!no_ipv6).then_some(ipv6)));
        }
        let (mut ipv4, mut ipv6) = (None, None);
        for subnet in &spec.subnets {
            validate_subnet(*subnet).map_err(Error::from)?;
            if let Some((net, whose)) = taken.iter().find(|(net, _)| overlaps(*net, *subnet)) {
                let message = format!("{subnet} overlaps {net}, which {whose}");
                return Err(Error::new(ErrorKind::Invalid, message).hint("choose another --subnet"));
            }
            let twice = match subnet {
                IpNet::V4(net) => ipv4.replace(*net).is_some(),
                IpNet::V6(net) => ipv6.replace(*net).is_some(),
            };
            if twice {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!("{subnet} is the second subnet of its family"),
                )
                .hint("give at most one IPv4 and one IPv6 subnet"));
            }
        }
        Ok((ipv4, ipv6))
    }

    /// A number after the highest in use, so that one just given up is not used again at once.
    pub(super) fn free_id(&self) -> Result<NetworkId, Error> {
        let used = |id: &u16| self.world.networks.values().any(|n| n.id.0 == *id);
        let highest = self.world.networks.values().map(|n| n.id.0).max().unwrap_or(0);
        (highest.saturating_add(1)..=LAST_ID)
            .chain(1..=highest.min(LAST_ID))
            .find(|id| !used(id))
            .map(NetworkId)
            .ok_or_else(|| {
                Error::new(ErrorKind::Exhausted, format!("there are {LAST_ID} networks on this host already"))
            })
    }
}
