//! A network's device and its gateway addresses.

use std::str::FromStr;

use ipnet::IpNet;
use weft_kernel::ours::device_group;
use weft_kernel::state::{Kind, Link, State, Sysctl};
use weft_model::{Encapsulation, Mode, Network, NetworkId, Vni};
use weft_plan::NetworkPlan;
use weft_plan::attach::GATEWAY6;

/// The first word of a network device's alias; the number is the format's version.
const ALIAS: &str = "weft1net";

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
        hairpin: false,
        alias: Some(alias(&network.declared)),
    };
    state.links.insert(device.clone(), link);
    state.addresses.extend(network.gateways.iter().map(|g| (device.clone(), *g)));
    let ipv6 = network.subnets.iter().any(|s| s.addr().is_ipv6());
    // Without a link-local address the kernel cannot ask for neighbours on behalf of packets that it
    // forwards (net/ipv6/ndisc.c `ndisc_send_ns`), so that no answer from outside would get in. Not left
    // to the kernel, which makes one only when it has seen a carrier: up to a second after the first attach.
    if ipv6 && network.mode == Mode::Bridge {
        let link_local = IpNet::new(GATEWAY6, 64).expect("64 is a valid prefix length");
        state.addresses.insert((device.clone(), link_local));
    }
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

/// What a network device's alias says: the whole declaration, so that a lost record can be rebuilt from
/// the kernel alone. At most 200 bytes (IFALIASZ is 256).
#[must_use]
pub fn alias(network: &Network) -> String {
    let Network { name, id, mode, ipv4, ipv6, mtu, masquerade, vni, encapsulation } = network;
    let or_dash = |net: Option<String>| net.unwrap_or_else(|| "-".to_owned());
    let (ipv4, ipv6) = (or_dash(ipv4.map(|n| n.to_string())), or_dash(ipv6.map(|n| n.to_string())));
    let (mtu, masquerade) = (mtu.unwrap_or(0), u8::from(*masquerade));
    let host = format!("{ALIAS} {name} {} {} {ipv4} {ipv6} {mtu} {masquerade}", id.0, mode.as_str());
    match vni {
        None => host,
        Some(vni) => format!("{host} {vni} {}", encapsulation.as_str()),
    }
}

/// Reads an alias back.
#[must_use]
pub fn read_alias(alias: &str) -> Option<Network> {
    fn or_dash<T: FromStr>(word: &str) -> Option<Option<T>> {
        if word == "-" { Some(None) } else { word.parse().ok().map(Some) }
    }
    let mut words = alias.split(' ');
    if words.next() != Some(ALIAS) {
        return None;
    }
    let name = words.next()?.parse().ok()?;
    let id = NetworkId(words.next()?.parse().ok()?);
    let mode = [Mode::Routed, Mode::Bridge].into_iter().find(|m| Some(m.as_str()) == words.clone().next())?;
    words.next();
    let (ipv4, ipv6) = (or_dash(words.next()?)?, or_dash(words.next()?)?);
    let mtu = Some(words.next()?.parse().ok()?).filter(|mtu| *mtu != 0);
    let masquerade = words.next()? == "1";
    let (mut vni, mut encapsulation) = (None, Encapsulation::Auto);
    if let Some(number) = words.next() {
        vni = Some(Vni::try_from(number.parse::<u32>().ok()?).ok()?);
        let word = words.next()?;
        encapsulation = Encapsulation::ALL.into_iter().find(|e| e.as_str() == word)?;
    }
    let network = Network { name, id, mode, ipv4, ipv6, mtu, masquerade, vni, encapsulation };
    words.next().is_none().then_some(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_round_trips_and_fits() {
        let network = Network {
            name: "n".repeat(63).parse().unwrap(),
            id: NetworkId(0x7ffe),
            mode: Mode::Bridge,
            ipv4: Some("255.255.255.0/24".parse().unwrap()),
            ipv6: Some("fd01:2345:6789:abcd::/64".parse().unwrap()),
            mtu: Some(65_535),
            masquerade: false,
            vni: Some(Vni::try_from(0x00ff_ffff).unwrap()),
            encapsulation: Encapsulation::Direct,
        };
        assert!(alias(&network).len() < 256);
        assert_eq!(read_alias(&alias(&network)), Some(network.clone()));
        let bare = Network {
            ipv6: None,
            mtu: None,
            masquerade: true,
            mode: Mode::Routed,
            vni: None,
            encapsulation: Encapsulation::Auto,
            ..network
        };
        assert_eq!(read_alias(&alias(&bare)), Some(bare));
        for foreign in ["", "weft1net", "weft1 default c eth0 1", "weft1net x 1 routed - - 0 1 more"] {
            assert_eq!(read_alias(foreign), None, "{foreign}");
        }
    }
}
