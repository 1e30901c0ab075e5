//! Ports: of workloads, by name; and of policies, by number, range or name.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::name::PortName;
use crate::object::Flaw;

/// A transport protocol that has ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// Its number (IANA).
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The protocol with that number, if it has ports.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Protocol> {
        Protocol::ALL.into_iter().find(|p| p.number() == number)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        })
    }
}

impl FromStr for Protocol {
    type Err = String;
    fn from_str(text: &str) -> Result<Protocol, String> {
        let found = Protocol::ALL.into_iter().find(|p| p.to_string().eq_ignore_ascii_case(text));
        found.ok_or_else(|| format!("'{}' is not TCP, UDP or SCTP", text.escape_default()))
    }
}

/// The named ports of a workload.
pub type NamedPorts = BTreeMap<PortName, WorkloadPort>;

/// A port that a workload serves, which policies may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadPort {
    /// By which protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

/// Reads `NAME=PORT` or `NAME=PORT/PROTOCOL`.
///
/// # Errors
/// In words.
pub fn named_port(text: &str) -> Result<(PortName, WorkloadPort), String> {
    let malformed =
        || format!("'{}' is not NAME=PORT[/PROTOCOL], such as web=8080/TCP", text.escape_default());
    let (name, rest) = text.split_once('=').ok_or_else(malformed)?;
    let (port, protocol) = match rest.split_once('/') {
        Some((port, protocol)) => (port, protocol.parse()?),
        None => (rest, Protocol::Tcp),
    };
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(malformed)?;
    Ok((name.parse().map_err(|e: crate::name::InvalidName| e.to_string())?, WorkloadPort { protocol, port }))
}

/// A port as a NetworkPolicy gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PolicyPort {
    /// The protocol; `TCP` if it is absent.
    pub protocol: Protocol,
    /// A number, or the name that the workload gives it; absent means all ports of the protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<PortRef>,
    /// The last port, if `port` is the number of the first one of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_port: Option<u16>,
}

impl PolicyPort {
    pub(super) fn validate(&self, path: &str) -> Result<(), Flaw> {
        match (&self.port, self.end_port) {
            (Some(PortRef::Number(0)), _) => Err(Flaw::new(format!("{path}.port"), "ports are 1 to 65535")),
            (None | Some(PortRef::Name(_)), Some(_)) => {
                Err(Flaw::new(format!("{path}.endPort"), "endPort needs a port that is a number"))
            }
            (Some(PortRef::Number(first)), Some(last)) if last < *first => {
                Err(Flaw::new(format!("{path}.endPort"), format!("{last} is less than port {first}")))
            }
            _ => Ok(()),
        }
    }
}

/// A port by number or by name (Kubernetes' `IntOrString`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortRef {
    /// By number.
    Number(u16),
    /// By the name that the workload gives it.
    Name(PortName),
}

impl Serialize for PortRef {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            PortRef::Number(number) => to.serialize_u16(*number),
            PortRef::Name(name) => to.serialize_str(name.as_str()),
        }
    }
}

impl<'de> Deserialize<'de> for PortRef {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<PortRef, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = PortRef;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port's number from 1 to 65535, or its name")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<PortRef, E> {
                let valid = u16::try_from(number).ok().filter(|n| *n != 0);
                valid
                    .map(PortRef::Number)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<PortRef, E> {
                match u64::try_from(number) {
                    Ok(number) => self.visit_u64(number),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
                }
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<PortRef, E> {
                // Kubernetes reads "80" as a name, and refuses it: a name needs a letter.
                if !text.contains(|c: char| c.is_ascii_lowercase()) {
                    return Err(E::invalid_value(de::Unexpected::Str(text), &self));
                }
                text.parse().map(PortRef::Name).map_err(E::custom)
            }
        }
        from.deserialize_any(Either)
    }
}
