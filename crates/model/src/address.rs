//! Ranges of addresses, as CNI's `ipRanges` capability gives them.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A run of addresses inside a subnet from which a workload may be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressRange {
    /// The subnet the range lies in.
    pub subnet: IpNet,
    /// First address, inclusive. Default: the subnet's first usable one.
    #[serde(default, rename = "rangeStart", skip_serializing_if = "Option::is_none")]
    pub start: Option<IpAddr>,
    /// Last address, inclusive. Default: the subnet's last usable one.
    #[serde(default, rename = "rangeEnd", skip_serializing_if = "Option::is_none")]
    pub end: Option<IpAddr>,
    /// Accepted for compatibility with host-local; weft's gateway is the network's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}
