//! Words about denials as they happen: `weft flows`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::policy::Direction;

/// Which denials are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flows {
    /// Only those with a higher number than this.
    pub after: u64,
}

/// A packet that policy denied, or would have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// Its number; grows.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// From.
    pub source: IpAddr,
    /// Whose address that is: `namespace/container`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_name: Option<String>,
    /// To.
    pub destination: IpAddr,
    /// Whose address that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_name: Option<String>,
    /// The protocol's number.
    pub protocol: u8,
    /// The port it was sent to, where the protocol has ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Which direction was denied.
    pub direction: Direction,
    /// The workload whose policies denied it.
    pub workload: String,
    /// What denied it: a policy's rule, or the policies that isolate the workload.
    pub by: String,
    /// Whether it passed all the same, because the policy is under audit.
    pub audit: bool,
}

/// A connection that policy is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judge {
    /// Who begins it: `namespace/container`, or an address.
    pub from: String,
    /// To whom, likewise.
    pub to: String,
    /// The protocol's number; 1 means ICMP of either family.
    pub protocol: u8,
    /// The port; 0 where the protocol has none.
    pub port: u16,
}
