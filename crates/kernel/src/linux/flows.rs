//! Having the kernel forget connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::Linux;
use crate::change::{Cause, Service, Stale};
use crate::conntrack::{self, Filter, Flow, Parts};
use crate::netlink;
use crate::rtnl::address;

/// Each address is asked for three times over; above so many the whole table is read once instead.
const ONE_BY_ONE: usize = 3;

impl Linux {
    pub(super) fn forget(&mut self, stale: &[Stale]) -> Result<(), Cause> {
        let of = |stale: &Stale| if let Stale::Of(address) = stale { Some(*address) } else { None };
        let gone: BTreeSet<IpAddr> = stale.iter().filter_map(of).collect();
        let mut flows = self.flows_of(&gone)?;
        let mut own = None;
        for stale in stale {
            if let Stale::Unled { ipv4, protocol, at, ports } = stale {
                let original = Parts { protocol: Some(*protocol), destination: *at, ..Parts::default() };
                let found = self.flows(&Filter { original, ipv4: Some(*ipv4), ..Filter::default() })?;
                let own = match &mut own {
                    Some(own) => own,
                    none => none.insert(self.own_addresses()?),
                };
                flows.extend(found.into_iter().filter(|flow| {
                    let to = flow.original.destination;
                    ports.contains(&flow.original.ports.1) && !flow.is_led_elsewhere() && own.contains(&to)
                }));
            }
        }
        for services in stale.iter().filter_map(|s| if let Stale::Astray(all) = s { Some(all) } else { None })
        {
            flows.extend(self.astray(services, &mut own)?);
        }
        conntrack::forget(&mut self.netfilter, &flows)?;
        Ok(())
    }

    /// The flows to services that lead elsewhere than to their backends.
    fn astray(
        &mut self,
        services: &BTreeMap<Service, BTreeSet<SocketAddr>>,
        own: &mut Option<BTreeSet<IpAddr>>,
    ) -> Result<Vec<Flow>, Cause> {
        let filter = match services.keys().next() {
            Some(only) if services.len() == 1 => {
                let (destination, protocol) = (only.at, Some(only.protocol));
                let original =
                    Parts { destination, protocol, destination_port: Some(only.port), ..Parts::default() };
                Filter { original, ipv4: Some(only.ipv4), ..Filter::default() }
            }
            _ => Filter::default(),
        };
        let found = self.flows(&filter)?;
        let own = match own {
            Some(own) => own,
            None if services.keys().all(|s| s.at.is_some()) => &BTreeSet::new(),
            none => none.insert(self.own_addresses()?),
        };
        let is_astray = |flow: &Flow| {
            let (to, port) = (flow.original.destination, flow.original.ports.1);
            let protocol = flow.original.protocol;
            let service =
                |at: Option<IpAddr>| services.get(&Service { ipv4: to.is_ipv4(), at, protocol, port });
            let here = service(Some(to)).or_else(|| service(None).filter(|_| own.contains(&to)));
            let led = SocketAddr::new(flow.reply.source, flow.reply.ports.0);
            here.is_some_and(|backends| !backends.contains(&led))
        };
        Ok(found.into_iter().filter(is_astray).collect())
    }

    fn flows_of(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<Vec<Flow>, Cause> {
        if addresses.len() > ONE_BY_ONE {
            let all = self.flows(&Filter::default())?;
            let concerned = |flow: &Flow| addresses.iter().any(|a| flow.concerns(*a));
            return Ok(all.into_iter().filter(concerned).collect());
        }
        let mut flows: Vec<Flow> = Vec::new();
        for address in addresses {
            let from = Parts { source: Some(*address), ..Parts::default() };
            let to = Parts { destination: Some(*address), ..Parts::default() };
            for filter in [
                Filter { original: from, ..Filter::default() },
                Filter { original: to, ..Filter::default() },
                Filter { reply: from, ..Filter::default() },
            ] {
                flows.extend(self.flows(&filter)?);
            }
        }
        Ok(flows)
    }

    fn flows(&mut self, filter: &Filter) -> Result<Vec<Flow>, netlink::Error> {
        conntrack::flows(&mut self.netfilter, filter)
    }

    fn own_addresses(&mut self) -> Result<BTreeSet<IpAddr>, netlink::Error> {
        self.route.dump(&address::list(), |all: &mut BTreeSet<IpAddr>, message| {
            all.extend(address::read(message).map(|a| a.address.addr()));
        })
    }
}
