//! Facts about this host that the plan needs: what the uplink carries, who learns from routers, what is taken.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use weft_kernel::netlink::{Error, Family, Message, Socket};
use weft_kernel::ours::{ROUTE_PROTOCOL, is_ours};
use weft_kernel::rtnl::{address, link, route};
use weft_kernel::state::Sysctl;
use weft_kernel::sysctl;
use weft_model::IfName;

/// What an Ethernet carries when nothing else is known, in bytes.
const ETHERNET: u32 = 1500;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Largest packet of the uplink, in bytes: the default route's interface, or the smallest of all others.
    pub(crate) mtu: u32,
    /// Links with `accept_ra` = 1 on a host that does not forward IPv6 yet.
    pub(crate) learning_links: BTreeSet<IfName>,
    /// Addresses of interfaces that are not weft's, and the largest packet of each, in bytes.
    pub(crate) addresses: Vec<(IfName, u32, IpAddr)>,
    /// Destinations that the host reaches already, weft's own aside: a network must not overlap them.
    pub(crate) taken: Vec<IpNet>,
}

/// Asks the kernel of the calling thread's namespace.
///
/// # Errors
/// When netlink fails.
pub(crate) fn facts() -> Result<Facts, Error> {
    let mut socket = Socket::open(Family::Route)?;
    let links = socket.dump(&link::list(), |all: &mut Vec<_>, m| all.extend(link::read(m)))?;
    let routes = socket.dump(&route::list(), |all: &mut Vec<_>, m| all.extend(route::read(m)))?;
    let addresses = socket.dump(&address::list(), |all: &mut Vec<_>, m| all.extend(address::read(m)))?;
    Ok(of(&links, &routes, &addresses))
}

/// Gathers them from what the kernel has told of the calling thread's namespace.
#[must_use]
pub(crate) fn of(
    links: &[link::Described],
    routes: &[route::Described],
    addresses: &[address::Described],
) -> Facts {
    let foreign = |index: u32| links.iter().any(|l| l.index == index && !is_ours(l.group));

    let uplinks: BTreeSet<u32> =
        routes.iter().filter(|r| r.destination.prefix_len() == 0).map(|r| r.index).collect();
    let others =
        || links.iter().filter(|l| !is_ours(l.group) && l.name.as_ref().is_none_or(|n| n.as_str() != "lo"));
    let mtu = others()
        .filter(|l| uplinks.contains(&l.index))
        .map(|l| l.mtu)
        .min()
        .or_else(|| others().filter(|l| l.up).map(|l| l.mtu).min());

    let reached = routes.iter().filter(|r| r.protocol != ROUTE_PROTOCOL && r.destination.prefix_len() > 0);
    let mut taken: Vec<IpNet> = reached.filter(|r| foreign(r.index)).map(|r| r.destination).collect();
    taken.extend(addresses.iter().filter(|a| foreign(a.index)).map(|a| a.address.trunc()));
    taken.sort_unstable();
    taken.dedup();

    let held = addresses.iter().filter_map(|a| {
        let link = links.iter().find(|l| l.index == a.index && !is_ours(l.group))?;
        Some((link.name.clone()?, link.mtu, a.address.addr()))
    });
    let held = held.collect();
    let names = others().filter_map(|l| l.name.clone());
    Facts { mtu: mtu.unwrap_or(ETHERNET), learning_links: learning(names), addresses: held, taken }
}

/// All addresses of the calling thread's namespace.
///
/// # Errors
/// When netlink fails.
pub(crate) fn addresses() -> Result<BTreeSet<IpAddr>, Error> {
    let mut socket = Socket::open(Family::Route)?;
    let gather = |all: &mut BTreeSet<IpAddr>, m: &Message<'_>| {
        all.extend(address::read(m).map(|a| a.address.addr()));
    };
    socket.dump(&address::list(), gather)
}

fn learning(links: impl Iterator<Item = IfName>) -> BTreeSet<IfName> {
    let is = |key: &Sysctl, value: &str| matches!(sysctl::read(key), Ok(Some(now)) if now == value);
    if !is(&Sysctl::global("net/ipv6/conf/all/forwarding"), "0") {
        return BTreeSet::new();
    }
    links.filter(|l| is(&Sysctl::of_link("ipv6", l, "accept_ra"), "1")).collect()
}

/// This host's place on the underlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Underlay {
    /// At most one address per family, with the prefix length of its subnet.
    pub(crate) addresses: Vec<IpNet>,
    /// The largest packet of their interface, in bytes.
    pub(crate) mtu: u32,
    /// What is not certain about it.
    pub(crate) doubt: Option<String>,
}

/// Finds this host's addresses on the underlay: those that are `chosen`, or those of the default route's
/// interface.
///
/// # Errors
/// When netlink fails.
pub(crate) fn underlay(chosen: &[IpAddr]) -> Result<Underlay, Error> {
    let mut socket = Socket::open(Family::Route)?;
    let links = socket.dump(&link::list(), |all: &mut Vec<_>, m| all.extend(link::read(m)))?;
    let routes = socket.dump(&route::list(), |all: &mut Vec<_>, m| all.extend(route::read(m)))?;
    let addresses = socket.dump(&address::list(), |all: &mut Vec<_>, m| all.extend(address::read(m)))?;
    let mut found = Underlay { addresses: Vec::new(), mtu: ETHERNET, doubt: None };
    let mut doubts = Vec::new();
    let mut on = BTreeSet::new();
    for v4 in [true, false] {
        let family = |a: &IpAddr| a.is_ipv4() == v4;
        let foreign = |index: u32| links.iter().any(|l| l.index == index && !is_ours(l.group));
        let usable = |a: &IpAddr| match a {
            IpAddr::V4(a) => !a.is_loopback() && !a.is_link_local(),
            IpAddr::V6(a) => !a.is_loopback() && !a.is_unicast_link_local(),
        };
        let here = addresses
            .iter()
            .filter(|a| family(&a.address.addr()) && foreign(a.index) && usable(&a.address.addr()));
        let candidates: Vec<(u32, IpNet)> = if let Some(wish) = chosen.iter().copied().find(family) {
            let fits: Vec<_> =
                here.filter(|a| a.address.addr() == wish).map(|a| (a.index, a.address)).collect();
            if fits.is_empty() {
                doubts.push(format!("no interface has {wish}, which `underlay` in the configuration names"));
            }
            fits
        } else if chosen.is_empty() {
            let uplink = routes
                .iter()
                .filter(|r| r.destination.prefix_len() == 0 && r.destination.addr().is_ipv4() == v4)
                .filter(|r| foreign(r.index))
                .min_by_key(|r| r.metric.unwrap_or(0));
            let Some(uplink) = uplink else { continue };
            here.filter(|a| a.index == uplink.index).map(|a| (a.index, a.address)).collect()
        } else {
            continue;
        };
        let Some((index, address)) = candidates.first() else { continue };
        if candidates.len() > 1 && chosen.is_empty() && v4 {
            let all: Vec<String> = candidates.iter().map(|(_, a)| a.addr().to_string()).collect();
            doubts.push(format!(
                "this host has several addresses on its uplink ({}); it took {}: `underlay` in the configuration chooses",
                all.join(", "),
                address.addr()
            ));
        }
        found.addresses.push(*address);
        on.insert(*index);
    }
    if found.addresses.is_empty() && doubts.is_empty() {
        doubts.push(
            "this host has no default route and so no address for the other hosts: name one with `underlay` in \
             the configuration"
                .to_owned(),
        );
    }
    let mtus = links.iter().filter(|l| on.contains(&l.index)).map(|l| l.mtu);
    found.mtu = mtus.min().unwrap_or(ETHERNET);
    found.doubt = (!doubts.is_empty()).then(|| doubts.join("; "));
    Ok(found)
}
