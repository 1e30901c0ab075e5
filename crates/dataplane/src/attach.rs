//! A workload's wire: the host's end, the way to it, its limits, its guard, and the inside.

use ipnet::IpNet;
use weft_kernel::ours::{wire_alias, wire_group};
use weft_kernel::state::{Inside, InsideRoute, Kind, Link, Route, Sysctl};
use weft_model::{IfName, Mode};
use weft_plan::WorkloadPlan;

use crate::{Wanted, Wire, bandwidth, loopback, network, nft};

/// Adds a workload's wire.
pub fn render(workload: &WorkloadPlan, wanted: &mut Wanted) {
    let ipv6 = workload.addresses.iter().any(|a| a.addr().is_ipv6());
    let host_end = &workload.host_end;
    let alias = wire_alias(&workload.id, &workload.owner, workload.netns.inode);
    let state = &mut wanted.state;
    let link = Link {
        kind: Kind::Wire,
        mac: workload.host_mac,
        mtu: workload.mtu,
        group: wire_group(workload.network),
        up: true,
        master: (workload.mode == Mode::Bridge).then(|| workload.device.clone()),
        hairpin: workload.mode == Mode::Bridge && workload.hairpin,
        alias: Some(alias.clone()),
    };
    state.links.insert(host_end.clone(), link);
    // A port of a bridge never speaks IP itself, so that it has no need of IPv6.
    state.sysctls.extend(network::host_settings(host_end, ipv6 && workload.mode == Mode::Routed));
    // Nobody is asked who has an address: weft knows. On a segment the host would believe for seconds that it is still
    // the former holder, where an address comes back with another workload.
    let link = if workload.mode == Mode::Routed { host_end } else { &workload.device };
    for address in workload.addresses.iter().map(IpNet::addr) {
        state.neighbours.insert((link.clone(), address), workload.mac);
    }
    if workload.mode == Mode::Routed {
        for address in workload.addresses.iter().map(IpNet::addr) {
            let source = workload.host_sources.iter().find(|s| s.is_ipv4() == address.is_ipv4());
            let route = Route::on_link(host_end.clone(), source.copied());
            state.routes.insert(IpNet::from(address), route);
        }
    }
    bandwidth::render(workload, state);
    nft::guard(workload, &mut state.tables);
    nft::ports(workload, &mut state.tables);
    loopback::render(workload, state);
    let routes = workload.routes.iter();
    let inside = Inside {
        netns: workload.netns.clone(),
        ifname: workload.id.ifname.clone(),
        mac: workload.mac,
        addresses: workload.addresses.clone(),
        neighbours: workload.gateways.clone(),
        routes: routes
            .map(|(destination, gateway)| InsideRoute { destination: *destination, gateway: *gateway })
            .collect(),
        sysctls: inside_settings(&workload.id.ifname, ipv6, workload.mode),
    };
    wanted.wires.insert(host_end.clone(), Wire { inside, alias });
}

/// Settings inside: as on the host's side, and no duplicate address detection (DESIGN.md §6), for an
/// address that weft gave out is nobody else's.
fn inside_settings(ifname: &IfName, ipv6: bool, mode: Mode) -> Vec<(Sysctl, String)> {
    if !ipv6 {
        return vec![(Sysctl::of_link("ipv6", ifname, "disable_ipv6"), "1".to_owned())];
    }
    // On a segment, software that wants link-local neighbours finds them; a routed wire has none.
    let generate = if mode == Mode::Bridge { "0" } else { "1" };
    [
        ("disable_ipv6", "0"),
        ("accept_ra", "0"),
        ("accept_redirects", "0"),
        ("autoconf", "0"),
        ("accept_dad", "0"),
        ("addr_gen_mode", generate),
    ]
    .map(|(key, value)| (Sysctl::of_link("ipv6", ifname, key), value.to_owned()))
    .into()
}
