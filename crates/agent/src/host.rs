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
    Ok(Facts { mtu: mtu.unwrap_or(ETHERNET), learning_links: learning(names), addresses: held, taken })
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
