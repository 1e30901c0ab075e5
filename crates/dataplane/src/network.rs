//! A network's device and its gateway addresses.

use weft_kernel::ours::device_group;
use weft_kernel::state::{Kind, Link, State, Sysctl};
use weft_plan::NetworkPlan;

/// Adds a network's device.
pub fn render(network: &NetworkPlan, state: &mut State) {
    let device = &network.device;
    let link = Link {
        kind: Kind::Bridge,
        mac: network.device_mac,
        mtu: network.mtu,
        group: device_group(network.id),
        up: true,
        master: None,
        alias: None,
    };
    state.links.insert(device.clone(), link);
    state.addresses.extend(network.gateways.iter().map(|g| (device.clone(), *g)));
    let ipv6 = network.subnets.iter().any(|s| s.addr().is_ipv6());
    state.sysctls.extend(host_settings(device, ipv6));
}

/// Settings of an interface on the host's side (BAR.md, security rows 1 and 24): router advertisements
/// and redirects are not believed, no address appears by itself, no IPv6 where the network has none.
pub(crate) fn host_settings(
    link: &weft_model::IfName,
    ipv6: bool,
) -> impl Iterator<Item = (Sysctl, String)> + use<'_> {
    let on: &[(&str, &str)] =
        &[("accept_ra", "0"), ("accept_redirects", "0"), ("autoconf", "0"), ("addr_gen_mode", "1")];
    let off: &[(&str, &str)] = &[("disable_ipv6", "1")];
    let settings = if ipv6 { on } else { off };
    settings.iter().map(move |(key, value)| (Sysctl::of_link("ipv6", link, key), (*value).to_owned()))
}
