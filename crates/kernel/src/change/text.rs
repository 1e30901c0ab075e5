//! The commands a person would type for a change: what `--explain` and `weft diff` print.
//!
//! A test runs what is printed here in a fresh namespace and gets the same network, so it is
//! kept exact. Nothing of this is ever executed by weft.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use weft_model::{IfName, Netns};

use super::{Change, Service, Stale};
use crate::ours::{DETOUR_PREFERENCE, ROUTE_PROTOCOL, SHAPE_HANDLE};
use crate::state::{Inside, Kind, Link, Route};

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.commands().join("\n"))
    }
}

impl Change {
    /// The equivalent commands, one per line of a shell script.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        match self {
            Change::SetSysctl(key, value) | Change::SetLinkSysctl(key, value) => {
                vec![format!("sysctl -qw {}={value}", key.path())]
            }
            Change::InstallRules(ops) | Change::RemoveRules(ops) => {
                ops.iter().map(ToString::to_string).collect()
            }
            Change::CreateBridge(name, link) => vec![format!(
                "ip link add {name} address {} mtu {} group {} type bridge mcast_snooping 0 nf_call_iptables 1 \
                 nf_call_ip6tables 1",
                link.mac, link.mtu, link.group
            )],
            Change::CreateIfb(name, link) => {
                vec![format!(
                    "ip link add {name} address {} mtu {} group {} type ifb",
                    link.mac, link.mtu, link.group
                )]
            }
            Change::CreateTunnel(name, link) => create_tunnel(name, link),
            Change::CreateWire(name, link, inside) => vec![create_wire(name, link, inside)],
            Change::Release(name) => vec![format!("ip link set {name} nomaster")],
            Change::Refit(_, inside, mtu) => {
                let (ip, _) = within(&inside.netns);
                vec![format!("{ip} link set {} mtu {mtu}", inside.ifname)]
            }
            Change::SetLink(name, link) => vec![set_link(name, link)],
            Change::SetHairpin(name, on) => {
                let state = if *on { "on" } else { "off" };
                vec![format!("ip link set {name} type bridge_slave hairpin {state}")]
            }
            Change::AddAddress(name, address) => {
                vec![format!(
                    "ip addr replace {address}{} dev {name}{}",
                    broadcast(*address),
                    nodad(address.addr())
                )]
            }
            Change::SetNeighbour(name, address, mac) => {
                vec![format!("ip neigh replace {address} lladdr {mac} dev {name} nud permanent")]
            }
            Change::SetRoute(destination, route) => {
                let source = route.source.map(|s| format!(" src {s}")).unwrap_or_default();
                let via = via(route);
                let onlink = if route.gateway.is_some_and(|g| g.is_ipv4()) { " onlink" } else { "" };
                let mtu = route.mtu.map(|m| format!(" mtu {m}")).unwrap_or_default();
                vec![format!(
                    "ip route replace {destination}{via} dev {}{onlink}{source} proto {ROUTE_PROTOCOL}{mtu}",
                    route.device
                )]
            }
            Change::SetShape(name, shape) => {
                let root = format!("dev {name} root handle {}:", shape_handle());
                let (rate, burst, limit) = (shape.rate, shape.burst_bytes(), shape.limit);
                vec![
                    format!("tc qdisc del {root} 2>/dev/null || true"),
                    format!("tc qdisc replace {root} tbf rate {rate}bps burst {burst} limit {limit}"),
                ]
            }
            Change::SetDetour(name, by) => vec![
                format!("tc qdisc add dev {name} clsact 2>/dev/null || true"),
                format!("tc filter del dev {name} ingress pref {DETOUR_PREFERENCE} 2>/dev/null || true"),
                format!(
                    "tc filter add dev {name} ingress pref {DETOUR_PREFERENCE} protocol all u32 match u32 0 0 \
                     action mirred egress redirect dev {by}"
                ),
            ],
            Change::DeleteDetour(name, _) => {
                vec![format!("tc filter del dev {name} ingress pref {DETOUR_PREFERENCE}")]
            }
            Change::DeleteShape(name, _) => {
                vec![format!("tc qdisc del dev {name} root handle {}:", shape_handle())]
            }
            Change::SetForwarding(name, mac, to) => {
                vec![format!("bridge fdb replace {mac} dev {name} dst {to} self permanent")]
            }
            Change::DeleteForwarding(name, mac) => vec![format!("bridge fdb del {mac} dev {name} self")],
            Change::Configure(_, inside) => configure(inside),
            Change::InstallLoopback => {
                vec!["# weft's programs at the sockets of the host's processes".to_owned()]
            }
            Change::SetLocalPorts(ports) => {
                ports.iter().map(|(port, to)| format!("# weft's programs lead {port} to {to}")).collect()
            }
            Change::UnsetLocalPorts(ports) => {
                ports.iter().map(|port| format!("# weft's programs leave {port} alone")).collect()
            }
            Change::RemoveLoopback => {
                vec!["# no programs of weft's at the sockets of the host's processes".to_owned()]
            }
            Change::ForgetFlows(stale) => stale.iter().flat_map(forget).collect(),
            Change::Finish(name, alias) => vec![format!("ip link set {name} alias '{alias}'")],
            Change::DeleteRoute(destination, route) => {
                let via = via(route);
                vec![format!("ip route del {destination}{via} dev {} proto {ROUTE_PROTOCOL}", route.device)]
            }
            Change::DeleteNeighbour(name, address) => vec![format!("ip neigh del {address} dev {name}")],
            Change::DeleteAddress(name, address) => vec![format!("ip addr del {address} dev {name}")],
            Change::Retire(name) | Change::DeleteLink(name) => vec![format!("ip link del {name}")],
        }
    }

    /// One of the equivalent commands, or the next of them that may not fail.
    #[must_use]
    pub fn command(&self, at: usize) -> String {
        self.commands().into_iter().skip(at).find(|c| !c.ends_with("|| true")).unwrap_or_default()
    }
}

/// `conntrack -D` fails where there is nothing to delete.
fn forget(stale: &Stale) -> Vec<String> {
    let line = |what: String| format!("conntrack -D {what} >/dev/null 2>&1 || true");
    match stale {
        Stale::Of(address) => {
            let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
            ["--orig-src", "--orig-dst", "--reply-src"]
                .map(|end| line(format!("-f {family} {end} {address}")))
                .into()
        }
        Stale::Unled { ipv4, protocol, at, ports } => {
            let family = if *ipv4 { "ipv4" } else { "ipv6" };
            let at = at.map(|at| format!(" --orig-dst {at}")).unwrap_or_default();
            let one = |port: &u16| line(format!("-f {family} -p {protocol} --orig-port-dst {port}{at}"));
            ports.iter().map(one).collect()
        }
        Stale::Astray(services) => {
            // No command tells those that lead to a backend of now; weft leaves them alone.
            let one = |Service { ipv4, at, protocol, port }: &Service| {
                let family = if *ipv4 { "ipv4" } else { "ipv6" };
                let at = at.map(|at| format!(" --orig-dst {at}")).unwrap_or_default();
                line(format!("-f {family} -p {protocol} --orig-port-dst {port}{at}"))
            };
            services.keys().map(one).collect()
        }
    }
}

/// `tc` writes the upper half of a handle in hexadecimal.
fn shape_handle() -> String {
    format!("{:x}", SHAPE_HANDLE >> 16)
}

fn nodad(address: IpAddr) -> &'static str {
    if address.is_ipv6() { " nodad" } else { "" }
}

fn broadcast(address: ipnet::IpNet) -> &'static str {
    if address.addr().is_ipv4() && address.prefix_len() < 31 { " brd +" } else { "" }
}

fn via(route: &Route) -> String {
    route.gateway.map(|g| format!(" via {g}")).unwrap_or_default()
}

fn create_tunnel(name: &IfName, link: &Link) -> Vec<String> {
    let Kind::Tunnel { vni, local } = link.kind else { return Vec::new() };
    vec![format!(
        "ip link add {name} address {} mtu {} group {} type vxlan id {vni} local {local} dstport {} nolearning",
        link.mac,
        link.mtu,
        link.group,
        crate::rtnl::link::VXLAN_PORT
    )]
}

fn create_wire(name: &IfName, link: &Link, inside: &Inside) -> String {
    let master = link.master.as_ref().map(|m| format!(" master {m}")).unwrap_or_default();
    format!(
        "ip link add {name} address {} mtu {mtu} group {group}{master} type veth peer name {} address {} mtu {mtu} \
         group {group} netns {}",
        link.mac,
        inside.ifname,
        inside.mac,
        quoted(named(&inside.netns.path).unwrap_or(&inside.netns.path)),
        mtu = link.mtu,
        group = link.group,
    )
}

fn set_link(name: &IfName, link: &Link) -> String {
    let master = link.master.as_ref().map(|m| format!(" master {m}")).unwrap_or_default();
    let state = if link.up { "up" } else { "down" };
    // A wire's alias marks its completion and comes last, as a change of its own.
    let alias = link.alias.as_ref().filter(|_| link.kind != Kind::Wire);
    let alias = alias.map(|a| format!(" alias '{a}'")).unwrap_or_default();
    // An ifb's address is the one it was born with.
    let address = if link.kind == Kind::Ifb { String::new() } else { format!(" address {}", link.mac) };
    format!("ip link set {name}{address} mtu {} group {}{master}{alias} {state}", link.mtu, link.group)
}

fn configure(inside: &Inside) -> Vec<String> {
    let (ip, run) = within(&inside.netns);
    let ifname = &inside.ifname;
    let mut lines = Vec::new();
    for (key, value) in &inside.sysctls {
        lines.push(format!("{run} sysctl -qw {}={value}", key.path()));
    }
    lines.push(format!("{ip} link set lo up"));
    lines.push(format!("{ip} link set {ifname} up"));
    for address in &inside.addresses {
        let brd = broadcast(*address);
        lines.push(format!("{ip} addr replace {address}{brd} dev {ifname}{}", nodad(address.addr())));
    }
    for (address, mac) in &inside.neighbours {
        lines.push(format!("{ip} neigh replace {address} lladdr {mac} dev {ifname} nud permanent"));
    }
    for route in &inside.routes {
        let (to, via) = (route.destination, route.gateway);
        let onlink = if via.is_ipv4() { " onlink" } else { "" };
        lines.push(format!("{ip} route add {to} via {via} dev {ifname}{onlink} proto {ROUTE_PROTOCOL}"));
    }
    lines
}

/// How `ip`, and how any command, is run in a namespace.
fn within(netns: &Netns) -> (String, String) {
    match named(&netns.path) {
        Some(name) => (format!("ip -n {}", quoted(name)), format!("ip netns exec {}", quoted(name))),
        None => {
            let enter = format!("nsenter --net={}", quoted(&netns.path));
            (format!("{enter} ip"), enter)
        }
    }
}

/// The name under which `ip netns` knows a namespace, if it does.
fn named(path: &Path) -> Option<&Path> {
    path.strip_prefix("/run/netns").or_else(|_| path.strip_prefix("/var/run/netns")).ok()
}

/// A path for a shell: in single quotes unless it is plain.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    if text.chars().all(plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests;
