//! A workload's share of the plan: the host's ports that lead to it, one by one.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use weft_model::{PortMapping, Protocol};

/// One port of the host in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PortPlan {
    /// The protocol.
    pub protocol: Protocol,
    /// The one address of the host at which it answers; `None` for all of the family.
    pub at: Option<IpAddr>,
    /// The host's port.
    pub port: u16,
    /// Where it leads: the workload's address, of the same family, and port.
    pub to: SocketAddr,
}

/// Plans the ports of a workload with these addresses. What is published at addresses of a family that it does
/// not have leads nowhere and is left out.
pub fn plan(mappings: &[PortMapping], addresses: impl Iterator<Item = IpAddr>) -> Vec<PortPlan> {
    let one = |address: IpAddr| {
        mappings.iter().filter(move |m| m.is_for(address.is_ipv4())).flat_map(move |mapping| {
            let (protocol, at) = (mapping.protocol(), mapping.at());
            let plan = move |(port, to)| PortPlan { protocol, at, port, to: SocketAddr::new(address, to) };
            mapping.pairs().map(plan)
        })
    };
    addresses.flat_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(mappings: &[&str], addresses: &[&str]) -> Vec<String> {
        let mappings: Vec<PortMapping> = mappings.iter().map(|m| m.parse().unwrap()).collect();
        let plan = plan(&mappings, addresses.iter().map(|a| a.parse().unwrap()));
        let shown = |p: &PortPlan| {
            let at = p.at.map_or_else(|| "*".to_owned(), |a| a.to_string());
            format!("{at} {}/{} {}", p.port, p.protocol, p.to)
        };
        plan.iter().map(shown).collect()
    }

    #[test]
    fn each_port_leads_to_each_address() {
        assert_eq!(
            planned(&["80-81:8080-8081"], &["10.0.0.2", "fd00::2"]),
            [
                "* 80/tcp 10.0.0.2:8080",
                "* 81/tcp 10.0.0.2:8081",
                "* 80/tcp [fd00::2]:8080",
                "* 81/tcp [fd00::2]:8081"
            ]
        );
    }

    #[test]
    fn an_address_of_the_host_picks_the_family() {
        let all = ["127.0.0.1:53:53/udp", "[2001:db8::1]:53:53/udp", "0.0.0.0:54:54/sctp"];
        assert_eq!(
            planned(&all, &["10.0.0.2", "fd00::2"]),
            ["127.0.0.1 53/udp 10.0.0.2:53", "* 54/sctp 10.0.0.2:54", "2001:db8::1 53/udp [fd00::2]:53"]
        );
        assert_eq!(planned(&all, &["fd00::2"]), ["2001:db8::1 53/udp [fd00::2]:53"]);
    }
}
