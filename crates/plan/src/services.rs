//! Services: which addresses lead to which backends.
//!
//! ```text
//!   objects, workloads ──[`standing`]──▶ a service's backends ──[`slots`]──▶ numbered, each with its place
//!   a new service      ──[`allocate`]──▶ the same with addresses and ports, as it is recorded
//! ```
//!
//! What a change touches is derived anew, and nothing else: a workload's change touches the services that select it.

pub mod allocate;
pub mod explain;
pub mod slots;
pub mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::Serialize;
use weft_model::policy::Protocol;
use weft_model::{Here, PortName, ServiceName, World};

pub use standing::Standing;

/// What a host holds of services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServicesPlan {
    /// Each service.
    #[serde(skip)]
    pub services: BTreeMap<ServiceName, ServicePlan>,
    /// Where services have their addresses: whatever goes there and is no service's leads nowhere.
    pub ranges: Vec<IpNet>,
    /// Addresses of this host's workloads that are backends, and of how many services.
    pub served: BTreeMap<IpAddr, u32>,
    /// How many ports there are with so many backends.
    pub sizes: BTreeMap<usize, u32>,
}

/// One service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServicePlan {
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// For how many seconds a client stays with its backend.
    pub affinity: Option<u32>,
    /// Its ports, each in each family.
    pub ports: Vec<PortPlan>,
    /// Those of its backends' addresses that are of this host's workloads.
    pub local: BTreeSet<IpAddr>,
}

/// One port of a service in one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortPlan {
    /// Its name.
    pub name: Option<PortName>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Whether it is IPv4.
    pub ipv4: bool,
    /// Where it is reached.
    pub frontends: Vec<Frontend>,
    /// Where that leads, by slot. The order is of no account, but a backend keeps its slot as long as it can.
    pub backends: Vec<SocketAddr>,
}

/// Where a port is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Frontend {
    /// At this address.
    At(IpAddr, u16),
    /// At every address of the host's, but those of the loopback.
    Host(u16),
}

impl ServicesPlan {
    /// Puts a service's plan in the place of an older one, or takes it out; returns that.
    pub fn put(&mut self, name: &ServiceName, plan: Option<ServicePlan>) -> Option<ServicePlan> {
        if let Some(plan) = &plan {
            plan.local.iter().for_each(|address| *self.served.entry(*address).or_default() += 1);
            plan.ports.iter().for_each(|port| *self.sizes.entry(port.backends.len()).or_default() += 1);
        }
        let before = match plan {
            Some(plan) => self.services.insert(name.clone(), plan),
            None => self.services.remove(name),
        };
        if let Some(plan) = &before {
            plan.local.iter().for_each(|address| less(&mut self.served, address));
            plan.ports.iter().for_each(|port| less(&mut self.sizes, &port.backends.len()));
        }
        before
    }

    /// Whether a workload is a service's backend.
    #[must_use]
    pub fn serves(&self, workload: &crate::WorkloadPlan) -> bool {
        workload.addresses.iter().any(|a| self.served.contains_key(&a.addr()))
    }

    /// Lets backends keep the slots that they had.
    pub fn keep_slots(&mut self, before: &ServicesPlan) {
        for (name, plan) in &mut self.services {
            if let Some(before) = before.services.get(name) {
                plan.keep_slots(before);
            }
        }
    }
}

/// Counts one less.
fn less<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl ServicePlan {
    /// Lets backends keep the slots that they had.
    pub fn keep_slots(&mut self, before: &ServicePlan) {
        for port in &mut self.ports {
            let same =
                |p: &&PortPlan| (&p.name, p.protocol, p.ipv4) == (&port.name, port.protocol, port.ipv4);
            if let Some(before) = before.ports.iter().find(same) {
                port.backends = slots::settle(&before.backends, &port.backends);
            }
        }
    }

    /// The same with backends in the order of their addresses: what does not depend on the past.
    #[must_use]
    pub fn sorted(mut self) -> ServicePlan {
        self.ports.iter_mut().for_each(|port| port.backends.sort_unstable());
        self
    }
}

/// Plans all services from scratch.
#[must_use]
pub fn plan(world: &World, here: &Here) -> ServicesPlan {
    Standing::of(world).plan(world, here)
}

#[cfg(test)]
mod tests;
