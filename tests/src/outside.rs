//! A neighbour of a sandbox's host: on one segment with it, the way out of it, and with routes to all its networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use weft_kernel::netns::Netns;

use crate::Sandbox;

/// The host's addresses on the segment.
pub const HOST: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1))];
/// The neighbour's.
pub const NEIGHBOUR: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2))];
/// The name of its namespace.
pub const NAME: &str = "outside";

const SCRIPT: &str = "
    ip netns add outside
    ip link add uplink0 type veth peer name eth0 netns outside
    sysctl -qw net.ipv6.conf.uplink0.accept_dad=0; ip netns exec outside sysctl -qw net.ipv6.conf.eth0.accept_dad=0
    ip addr add 192.0.2.1/24 dev uplink0; ip addr add 2001:db8:1::1/64 dev uplink0 nodad
    ip -n outside addr add 192.0.2.2/24 dev eth0; ip -n outside addr add 2001:db8:1::2/64 dev eth0 nodad
    ip link set uplink0 up; ip -n outside link set eth0 up; ip -n outside link set lo up
    ip -n outside route add 10.64.0.0/10 via 192.0.2.1; ip -n outside route add fd00::/8 via 2001:db8:1::1
    ip route add default via 192.0.2.2; ip route add default via 2001:db8:1::2";

/// Makes it, and gives its namespace. Before the agent starts, which looks for the host's addresses.
///
/// # Errors
/// `ip`'s.
pub fn put(host: &Sandbox) -> Result<Netns> {
    host.sh(SCRIPT)?;
    Ok(Netns::open(&host.path(format!("/run/netns/{NAME}")))?)
}
