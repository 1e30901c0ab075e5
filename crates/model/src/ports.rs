//! Published ports: ports of the host that lead to a workload.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// Its number in IP headers (IANA, "Assigned Internet Protocol Numbers").
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The protocol with that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Protocol> {
        Protocol::ALL.into_iter().find(|p| p.number() == number)
    }

    /// Its name, in small letters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = InvalidPorts;

    fn from_str(text: &str) -> Result<Protocol, InvalidPorts> {
        let named = |p: &Protocol| p.as_str().eq_ignore_ascii_case(text);
        Protocol::ALL.into_iter().find(named).ok_or_else(|| InvalidPorts::Protocol(shown(text)))
    }
}

/// Why something is not a mapping of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPorts {
    /// Not of the form that is asked for.
    #[error("'{0}' does not read [HOSTIP:]HOST[-HOST]:CONTAINER[-CONTAINER][/PROTOCOL]")]
    Form(String),
    /// Not a number from 1 to 65535.
    #[error("'{0}' is not a port: ports go from 1 to 65535")]
    Port(String),
    /// A range whose last port comes before its first.
    #[error("the range of ports {0}-{1} is turned round")]
    Reversed(u16, u16),
    /// Ranges of the host and the container that are not equally long.
    #[error("{host} ports of the host cannot lead to {container} ports of the container")]
    Lengths {
        /// How many ports the host's range has.
        host: u32,
        /// How many ports the container's range has.
        container: u32,
    },
    /// A container's range that would go beyond the last port.
    #[error("{count} ports from {first} on go beyond 65535")]
    Beyond {
        /// The first port of the range.
        first: u16,
        /// How many ports the range has.
        count: u32,
    },
    /// Neither TCP, nor UDP, nor SCTP.
    #[error("'{0}' is not a protocol whose ports can be published: tcp, udp and sctp are")]
    Protocol(String),
    /// Not an IP address.
    #[error("'{0}' is not an IP address")]
    Address(String),
    /// An address at which no host takes connections from elsewhere.
    #[error("ports cannot be published at {0}")]
    Nowhere(IpAddr),
}

/// Ports of the host that lead to as many ports of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Record", into = "Record")]
pub struct PortMapping {
    protocol: Protocol,
    host_ip: Option<IpAddr>,
    first: u16,
    last: u16,
    container: u16,
}

/// A mapping as it is stored and sent.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    protocol: Protocol,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host_ip: Option<IpAddr>,
    host: (u16, u16),
    container: u16,
}

impl TryFrom<Record> for PortMapping {
    type Error = InvalidPorts;

    fn try_from(record: Record) -> Result<PortMapping, InvalidPorts> {
        PortMapping::new(record.protocol, record.host_ip, record.host, record.container)
    }
}

impl From<PortMapping> for Record {
    fn from(mapping: PortMapping) -> Record {
        let PortMapping { protocol, host_ip, first, last, container } = mapping;
        Record { protocol, host_ip, host: (first, last), container }
    }
}

impl PortMapping {
    /// Maps the host's ports from `host.0` to `host.1`, both included, to as many from `container` on.
    ///
    /// `host_ip` is the address at which they answer; none means all of the host's, `0.0.0.0` all of IPv4,
    /// `::` all of IPv6.
    ///
    /// # Errors
    /// [`InvalidPorts`].
    pub fn new(
        protocol: Protocol,
        host_ip: Option<IpAddr>,
        host: (u16, u16),
        container: u16,
    ) -> Result<PortMapping, InvalidPorts> {
        let (first, last) = host;
        if first == 0 || container == 0 {
            return Err(InvalidPorts::Port("0".to_owned()));
        }
        if last < first {
            return Err(InvalidPorts::Reversed(first, last));
        }
        let count = u32::from(last - first) + 1;
        if u32::from(container) + count - 1 > u32::from(u16::MAX) {
            return Err(InvalidPorts::Beyond { first: container, count });
        }
        let host_ip = host_ip.map(|a| a.to_canonical());
        match host_ip {
            Some(address) if is_nowhere(address) => Err(InvalidPorts::Nowhere(address)),
            _ => Ok(PortMapping { protocol, host_ip, first, last, container }),
        }
    }

    /// The protocol.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The address at which the ports answer; see [`new`](Self::new).
    #[must_use]
    pub fn host_ip(&self) -> Option<IpAddr> {
        self.host_ip
    }

    /// The host's first and last port.
    #[must_use]
    pub fn host(&self) -> (u16, u16) {
        (self.first, self.last)
    }

    /// The container's first port.
    #[must_use]
    pub fn container(&self) -> u16 {
        self.container
    }

    /// Each port of the host with the port it leads to.
    pub fn pairs(&self) -> impl Iterator<Item = (u16, u16)> + use<> {
        (self.first..=self.last).zip(self.container..=u16::MAX)
    }

    /// Whether it publishes at addresses of this family.
    #[must_use]
    pub fn is_for(&self, ipv4: bool) -> bool {
        self.host_ip.is_none_or(|address| address.is_ipv4() == ipv4)
    }

    /// The single address of this family at which it publishes; `None` for all of them.
    #[must_use]
    pub fn at(&self) -> Option<IpAddr> {
        self.host_ip.filter(|address| !address.is_unspecified())
    }

    /// Whether both want one port at one address of this family.
    #[must_use]
    pub fn meets(&self, other: &PortMapping, ipv4: bool) -> bool {
        let at_one_place = match (self.at(), other.at()) {
            (Some(here), Some(there)) => here == there,
            _ => true,
        };
        self.protocol == other.protocol
            && self.first <= other.last
            && other.first <= self.last
            && self.is_for(ipv4)
            && other.is_for(ipv4)
            && at_one_place
    }
}

/// Multicast, broadcast, and link-local addresses of IPv6, which mean nothing without an interface.
fn is_nowhere(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_multicast() || v4 == Ipv4Addr::BROADCAST,
        IpAddr::V6(v6) => v6.is_multicast() || v6.is_unicast_link_local(),
    }
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(IpAddr::V4(v4)) => write!(f, "{v4}:")?,
            Some(IpAddr::V6(v6)) => write!(f, "[{v6}]:")?,
            None => {}
        }
        let (first, last, container) = (self.first, self.last, self.container);
        if first == last {
            write!(f, "{first}:{container}")?;
        } else {
            write!(f, "{first}-{last}:{container}-{}", container + (last - first))?;
        }
        write!(f, "/{}", self.protocol)
    }
}

/// `[HOSTIP:]HOST[-HOST]:CONTAINER[-CONTAINER][/PROTOCOL]`; an IPv6 address stands in brackets.
impl FromStr for PortMapping {
    type Err = InvalidPorts;

    fn from_str(text: &str) -> Result<PortMapping, InvalidPorts> {
        let form = || InvalidPorts::Form(shown(text));
        let (ports, protocol) = match text.rsplit_once('/') {
            Some((ports, protocol)) => (ports, protocol.parse()?),
            None => (text, Protocol::Tcp),
        };
        let (host_ip, ports) = address(ports).ok_or_else(form)?;
        let (host, container) = ports.split_once(':').filter(|(_, c)| !c.contains(':')).ok_or_else(form)?;
        let (host, container) = (range(host)?, range(container)?);
        let count = |(first, last): (u16, u16)| u32::from(last - first) + 1;
        let lengths = (count(host), count(container));
        if lengths.0 != lengths.1 {
            return Err(InvalidPorts::Lengths { host: lengths.0, container: lengths.1 });
        }
        let host_ip = host_ip.map(parse_address).transpose()?;
        PortMapping::new(protocol, host_ip, host, container.0)
    }
}

/// Splits off the address, if there is one.
fn address(text: &str) -> Option<(Option<&str>, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        return Some((Some(address), rest.strip_prefix(':')?));
    }
    match text.split(':').count() {
        2 => Some((None, text)),
        3 => text.split_once(':').map(|(address, rest)| (Some(address), rest)),
        _ => None,
    }
}

fn parse_address(text: &str) -> Result<IpAddr, InvalidPorts> {
    text.parse().map_err(|_| InvalidPorts::Address(shown(text)))
}

fn range(text: &str) -> Result<(u16, u16), InvalidPorts> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if last < first { Err(InvalidPorts::Reversed(first, last)) } else { Ok((first, last)) }
}

fn port(text: &str) -> Result<u16, InvalidPorts> {
    // `+80` is a number to Rust, and a port to nobody.
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number.filter(|n| *n != 0).ok_or_else(|| InvalidPorts::Port(shown(text)))
}

/// Foreign text as it may stand in a message: one line, and not a long one.
fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

/// The address of its family at which a port that is published at all addresses answers to the host itself.
#[must_use]
pub fn loopback(ipv4: bool) -> IpAddr {
    if ipv4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
}

#[cfg(test)]
mod tests;
