//! MTU arithmetic of tunnels: what goes in must fit, with what is put around it, into what the underlay carries
//! (PAINS.md 5).

use weft_kernel::state::Kind;
use weft_model::IfName;

use super::{Facts, Finding, Severity};

/// The least that IPv6 wants of a link (RFC 8200, section 5).
const IPV6_LEAST: u32 = 1280;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let carried = facts.uplinks.iter().filter_map(|l| Some((l, *facts.mtus.get(l)?)));
    let Some((uplink, carries)) = carried.min_by_key(|(_, mtu)| *mtu) else { return Vec::new() };
    let mut all = Vec::new();
    for (tunnel, kind) in &facts.tunnels {
        let Some(mtu) = facts.mtus.get(tunnel).copied() else { continue };
        let around = overhead(kind);
        let room = carries.saturating_sub(around);
        if mtu > room {
            all.push(too_large(tunnel, mtu, around, uplink, carries));
        }
        if room < IPV6_LEAST && facts.networks.iter().any(|p| p.network.ipv6.is_some()) {
            all.push(Finding {
                severity: Severity::Error,
                kind: "mtu-ipv6",
                what: format!("{uplink} carries {carries} bytes, less {around} for the tunnel {tunnel} are {room}: IPv6 needs {IPV6_LEAST}"),
                why: "Linux switches IPv6 off on links of less: workloads with tunnels have none".to_owned(),
                fix: vec![format!("ip link set {uplink} mtu {}   # on all hosts, if the underlay carries it", IPV6_LEAST + around)],
            });
        }
        let declared = facts.networks.iter().filter_map(|p| Some((&p.network, p.network.mtu?)));
        let more = declared.filter(|(network, mtu)| network.vni.is_some() && *mtu > room);
        all.extend(more.map(|(network, mtu)| Finding {
            severity: Severity::Note,
            kind: "mtu-declared",
            what: format!(
                "network '{}' was declared with an MTU of {mtu}; in {tunnel} {room} fit ({carries} of {uplink} less {around}), and its workloads get that",
                network.name
            ),
            why: "nothing is lost by it, but what was asked for is not had".to_owned(),
            fix: vec![format!("ip link set {uplink} mtu {}   # on all hosts, if the underlay carries it", mtu + around)],
        }));
    }
    all
}

fn too_large(tunnel: &IfName, mtu: u32, around: u32, uplink: &IfName, carries: u32) -> Finding {
    Finding {
        severity: Severity::Error,
        kind: "mtu-tunnel",
        what: format!(
            "{tunnel} takes packets of {mtu} bytes, with {around} around them {} on {uplink}, which carries {carries}",
            mtu + around
        ),
        why: "large packets to other hosts are lost without a word, small ones arrive: connections hang"
            .to_owned(),
        fix: vec![
            format!("ip link set {uplink} mtu {}   # if the underlay carries that", mtu + around),
            format!(
                "ip link set {tunnel} mtu {}   # otherwise; the agent does this by itself while it runs",
                carries.saturating_sub(around)
            ),
        ],
    }
}

/// Bytes that VXLAN puts around a packet: IP 20 or 40, UDP 8, VXLAN 8, Ethernet 14 (RFC 7348).
fn overhead(kind: &Kind) -> u32 {
    if matches!(kind, Kind::Tunnel { local, .. } if local.is_ipv6()) { 70 } else { 50 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::tests::facts;

    fn judged(uplink: u32, tunnel: u32, ipv4: bool, declared: Option<u32>) -> Vec<(&'static str, String)> {
        let mut host = facts(&["10.119.0.0/16", "fd00:119::/48"]);
        let name: IfName = "weft4_7".parse().unwrap();
        let local = if ipv4 { "192.0.2.11" } else { "2001:db8::11" };
        let kind = Kind::Tunnel { vni: 7, local: local.parse().unwrap() };
        host.tunnels = vec![(name.clone(), kind)];
        host.mtus = [("eth0".parse().unwrap(), uplink), (name, tunnel)].into();
        host.networks[0].network.vni = weft_model::Vni::try_from(7).ok();
        host.networks[0].network.mtu = declared;
        findings(&host).into_iter().map(|f| (f.kind, f.what)).collect()
    }

    #[test]
    fn what_goes_in_must_fit_with_what_is_around_it() {
        assert_eq!(judged(1500, 1450, true, None), []);
        assert_eq!(judged(1500, 1430, false, None), []);
        let found = judged(1500, 1450, false, None);
        assert_eq!(found[0].0, "mtu-tunnel");
        assert!(found[0].1.contains("1450 bytes, with 70 around them 1520 on eth0, which carries 1500"));
        assert_eq!(judged(1400, 1450, true, None)[0].0, "mtu-tunnel");
        assert_eq!(judged(1300, 1250, true, None)[0].0, "mtu-ipv6");
        assert_eq!(judged(1500, 1450, true, Some(1450)), []);
        assert_eq!(judged(1500, 1450, true, Some(1500))[0].0, "mtu-declared");
    }
}
