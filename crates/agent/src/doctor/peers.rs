//! The ways to other hosts, as the agent's probes have found them (docs/hosts.md#what-it-looks-like).

use weft_model::api::{PeerFault, PeerStatus};

use super::{Facts, Finding, Severity};

/// UDP port of VXLAN (RFC 7348).
const VXLAN: u16 = 4789;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    facts.peers.iter().filter_map(|peer| finding(facts, peer)).collect()
}

fn finding(facts: &Facts, peer: &PeerStatus) -> Option<Finding> {
    let (node, problem) = (&peer.node, peer.problem.as_ref()?);
    let reach = peer.reaches.first();
    let tunnelled = reach.is_some_and(|r| r.path == "vxlan");
    let explain = format!("weft explain host {node}   # the way there, and its arithmetic");
    let error = |kind, why: String, fix: Vec<String>| {
        let what = format!("host {node}: {problem}");
        Some(Finding { severity: Severity::Error, kind, what, why, fix })
    };
    match peer.fault? {
        PeerFault::Silent if tunnelled => {
            let from = peer.addresses.iter().map(|a| {
                let family = if a.is_ipv4() { "iptables" } else { "ip6tables" };
                format!("{family} -I INPUT -p udp --dport {VXLAN} -s {a} -j ACCEPT")
            });
            let there = format!("# and the same on {node}; a cloud's own firewall must let UDP port {VXLAN} pass between the two");
            error(
                "peer-silent",
                format!("packets between the two are in UDP port {VXLAN} of the underlay: a firewall there, or on the way, stops them"),
                from.chain([there, explain]).collect(),
            )
        }
        PeerFault::Silent => error(
            "peer-silent",
            "packets between the two travel as they are: the host is off, or something on the segment drops addresses that it does not know (a cloud's source check)".to_owned(),
            vec!["weft network create NAME --encapsulation vxlan   # where the underlay will not carry others' addresses".to_owned(), explain],
        ),
        PeerFault::Size => {
            let mtu = reach.map_or(0, |r| r.mtu);
            let overhead = overhead(peer, tunnelled);
            let uplink = facts.uplinks.first().map_or("UPLINK", |l| l.as_str());
            error(
                "peer-mtu",
                format!("{mtu} bytes and {overhead} for the tunnel are {} on the underlay, and packets of that size do not arrive: something on the way carries less", mtu + overhead),
                vec![
                    format!("ping -M do -s {} {}   # how much does the underlay carry?", mtu + overhead - 28, peer.addresses.first().map(ToString::to_string).unwrap_or_default()),
                    format!("ip link set {uplink} mtu N   # what it carries; running workloads follow"),
                ],
            )
        }
        PeerFault::Checksums => {
            let tunnel = reach.and_then(|r| r.device.as_ref()).map_or("TUNNEL", |d| d.as_str());
            error(
                "checksum-offload",
                "the network card writes wrong checksums into packets in tunnels: connections take a minute to begin, or never do".to_owned(),
                vec![
                    format!("ethtool -K {tunnel} tx off   # the agent does this by itself"),
                    facts.uplinks.first().map_or_else(|| "ethtool -K UPLINK tx off".to_owned(), |l| format!("ethtool -K {l} tx off   # if that is not enough; on both hosts")),
                ],
            )
        }
        PeerFault::Nowhere => error("peer-nowhere", "no way leads to its workloads".to_owned(), vec![explain]),
    }
}

/// What a tunnel adds to a packet, in bytes.
fn overhead(peer: &PeerStatus, tunnelled: bool) -> u32 {
    match (tunnelled, peer.addresses.iter().any(std::net::IpAddr::is_ipv4)) {
        (false, _) => 0,
        (true, true) => 50,
        (true, false) => 70,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::tests::{facts, peer};

    #[test]
    fn each_fault_has_its_finding_and_its_fix() {
        for (fault, path, kind, part) in [
            (PeerFault::Silent, "vxlan", "peer-silent", "--dport 4789 -s 192.0.2.12"),
            (PeerFault::Silent, "direct", "peer-silent", "--encapsulation vxlan"),
            (PeerFault::Size, "vxlan", "peer-mtu", "ping -M do -s 1472 192.0.2.12"),
            (PeerFault::Checksums, "vxlan", "checksum-offload", "ethtool -K weft4_7 tx off"),
            (PeerFault::Nowhere, "nowhere", "peer-nowhere", "weft explain host host2"),
        ] {
            let sick =
                PeerStatus { fault: Some(fault), problem: Some("x".into()), ..peer("host2", 12, path) };
            let host = Facts { peers: vec![peer("host3", 13, path), sick], ..facts(&["10.0.0.0/8"]) };
            let found = findings(&host);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].severity, found[0].kind), (Severity::Error, kind));
            assert!(found[0].fix.iter().any(|f| f.contains(part)), "{found:?}");
        }
    }
}
