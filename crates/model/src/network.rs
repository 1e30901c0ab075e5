//! Networks: address ranges with a way to join workloads.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

use crate::name::NetworkName;

/// A network's number on this host: 1 to 0x7fff, never reused while anything of the network is left.
/// It goes into interface groups (see `weft_kernel::ours`), so that one rule serves a whole network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetworkId(pub u16);

/// How a workload's wire joins its network (DESIGN.md §6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One host route per workload, no shared segment. The default.
    #[default]
    Routed,
    /// The host end is a port of a Linux bridge: the network's workloads share an Ethernet segment.
    Bridge,
}

impl Mode {
    /// The word people type.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Routed => "routed",
            Mode::Bridge => "bridge",
        }
    }
}

/// A network's number in the whole cluster, which tunnels between hosts bear (RFC 7348: 24 bits, 0 unused here).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

/// A number is none that a tunnel can bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no network number: 1 to 16777215 are")]
pub struct InvalidVni(pub u32);

impl Vni {
    /// The number itself.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Vni {
    type Error = InvalidVni;
    fn try_from(number: u32) -> Result<Vni, InvalidVni> {
        if (1..1 << 24).contains(&number) { Ok(Vni(number)) } else { Err(InvalidVni(number)) }
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> u32 {
        vni.0
    }
}

impl std::fmt::Display for Vni {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// How a network's packets travel between hosts (DESIGN.md §7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encapsulation {
    /// As they are to a host on the same segment, in VXLAN to others. The default.
    #[default]
    Auto,
    /// In VXLAN to every host.
    Vxlan,
    /// As they are to every host; routers in between must know the blocks, or there are none.
    Direct,
}

impl Encapsulation {
    /// All of them.
    pub const ALL: [Encapsulation; 3] = [Encapsulation::Auto, Encapsulation::Vxlan, Encapsulation::Direct];

    /// The word people type.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Encapsulation::Auto => "auto",
            Encapsulation::Vxlan => "vxlan",
            Encapsulation::Direct => "direct",
        }
    }
}

/// A network as its owner declared it. Workloads of one network reach each other; those of
/// different networks do not, unless policy says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Its name.
    pub name: NetworkName,
    /// Its number on this host.
    pub id: NetworkId,
    /// How wires join it.
    #[serde(default)]
    pub mode: Mode,
    /// Its IPv4 addresses; at least one family is present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Net>,
    /// Its IPv6 addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Net>,
    /// Largest packet in bytes; `None` takes the underlay's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether the host's address replaces the workload's on packets that leave for the outside.
    #[serde(default = "yes")]
    pub masquerade: bool,
    /// Its number in the cluster; `None` for a network that lives on this host alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    /// How its packets travel between hosts.
    #[serde(default, skip_serializing_if = "is_auto")]
    pub encapsulation: Encapsulation,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_auto(encapsulation: &Encapsulation) -> bool {
    *encapsulation == Encapsulation::Auto
}

fn yes() -> bool {
    true
}

impl Network {
    /// The subnets of both families, IPv4 first.
    pub fn subnets(&self) -> impl Iterator<Item = IpNet> {
        self.ipv4.map(IpNet::V4).into_iter().chain(self.ipv6.map(IpNet::V6))
    }

    /// The host's own address in each subnet, with the subnet's prefix length: the first one after the network address.
    pub fn gateways(&self) -> impl Iterator<Item = IpNet> {
        self.subnets().map(gateway)
    }
}

/// The host's own address in `subnet`: the first after the network address.
#[must_use]
pub fn gateway(subnet: IpNet) -> IpNet {
    let first = match subnet.network() {
        IpAddr::V4(a) => IpAddr::V4((u32::from(a).saturating_add(1)).into()),
        IpAddr::V6(a) => IpAddr::V6((u128::from(a).saturating_add(1)).into()),
    };
    IpNet::new(first, subnet.prefix_len()).expect("the prefix length comes from a valid subnet")
}
