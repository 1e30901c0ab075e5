//! What no policy for hosts can close: the ways by which people and agents would mend it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Protocol, WorkloadPort};

/// A port with its protocol, as `22/TCP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OpenPort(pub WorkloadPort);

/// Ports that stay open whatever policies for hosts say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failsafe {
    /// Of the host, for everybody.
    pub ingress: BTreeSet<OpenPort>,
    /// Of others, for the host.
    pub egress: BTreeSet<OpenPort>,
}

/// ssh; the door of a member, the store for its clients and among its servers (`weft member`).
const INTO: [u16; 4] = [22, 2378, 2379, 2380];
/// The same but ssh, and names.
const OUT: [u16; 4] = [53, 2378, 2379, 2380];
/// Agents ask one another here.
const PROBES: u16 = 7765;
/// Answers of DHCP and DHCPv6 (RFC 2131, RFC 8415), without which a host loses its address.
const DHCP_ANSWERS: [u16; 2] = [68, 546];
/// Names, and questions of DHCP and DHCPv6.
const DATAGRAMS_OUT: [u16; 3] = [53, 67, 547];

impl Default for Failsafe {
    fn default() -> Failsafe {
        let ports = |protocol, ports: &[u16]| {
            let all = ports.iter().map(move |port| OpenPort(WorkloadPort { protocol, port: *port }));
            all.collect::<Vec<_>>()
        };
        let all = |tcp: &[u16], udp: &[u16]| {
            let udp = ports(Protocol::Udp, udp).into_iter().chain(ports(Protocol::Udp, &[PROBES]));
            ports(Protocol::Tcp, tcp).into_iter().chain(udp).collect()
        };
        Failsafe { ingress: all(&INTO, &DHCP_ANSWERS), egress: all(&OUT, &DATAGRAMS_OUT) }
    }
}

impl fmt::Display for OpenPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.port, self.0.protocol)
    }
}

impl FromStr for OpenPort {
    type Err = String;
    fn from_str(text: &str) -> Result<OpenPort, String> {
        let (port, protocol) = match text.split_once('/') {
            Some((port, protocol)) => (port, protocol.parse()?),
            None => (text, Protocol::Tcp),
        };
        let port = port.parse().ok().filter(|port| *port != 0);
        let port = port
            .ok_or_else(|| format!("'{}' is not PORT[/PROTOCOL], such as 22/TCP", text.escape_default()))?;
        Ok(OpenPort(WorkloadPort { protocol, port }))
    }
}

impl TryFrom<String> for OpenPort {
    type Error = String;
    fn try_from(text: String) -> Result<OpenPort, String> {
        text.parse()
    }
}

impl From<OpenPort> for String {
    fn from(port: OpenPort) -> String {
        port.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_they_are_written() {
        for port in Failsafe::default().ingress {
            assert_eq!(port.to_string().parse(), Ok(port));
        }
        assert_eq!("22".parse::<OpenPort>().unwrap().to_string(), "22/TCP");
        for bad in ["", "0", "65536/TCP", "22/GRE", "ssh", "22/TCP/UDP"] {
            assert!(bad.parse::<OpenPort>().is_err(), "{bad}");
        }
    }
}
