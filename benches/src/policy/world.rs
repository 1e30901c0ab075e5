//! Worlds with many workloads and policies: ten namespaces of a hundred apps, as `ARGS` of no benchmark change it.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Result;
use ipnet::IpNet;
use weft_model::object::Metadata;
use weft_model::policy::{
    IngressRule, IpBlock, NetworkPolicy, NetworkPolicySpec, Peer, PolicyPort, PortRef, Protocol,
};
use weft_model::world::{Remote, RemoteName};
use weft_model::{
    AttachmentId, Here, Labels, Mac, Mode, NamespaceName, Netns, Network, NetworkId, Node, Object, Owner,
    Phase, Profile, Selector, Workload, World,
};

pub(crate) const NAMESPACES: usize = 10;
pub(crate) const APPS: usize = 100;

pub(crate) fn here() -> Result<Here> {
    Ok(Here::new("here".parse()?))
}

pub(crate) fn labels(app: usize) -> Result<Labels> {
    Ok([("app".parse()?, format!("a{}", app % APPS).parse()?)].into())
}

fn namespace(number: usize) -> Result<NamespaceName> {
    Ok(format!("n{}", number % NAMESPACES).parse()?)
}

/// The addresses of workload `number`.
pub(crate) fn addresses(number: usize) -> Result<Vec<IpNet>> {
    let [_, high, middle, low] = u32::try_from(number + 16)?.to_be_bytes();
    Ok(vec![
        format!("10.{}.{middle}.{low}/8", 64 + high).parse()?,
        format!("fd77::{high:x}:{middle:x}{low:02x}/64").parse()?,
    ])
}

pub(crate) fn id(number: usize) -> Result<AttachmentId> {
    Ok(AttachmentId {
        network: "lan".parse()?,
        container: format!("c{number}").parse()?,
        ifname: "eth0".parse()?,
    })
}

/// Workload `number` is of app `number / 10` in namespace `number % 10`.
pub(crate) fn remote(number: usize) -> Result<(RemoteName, Remote)> {
    let node = format!("node{}", number / 30).parse()?;
    let remote = Remote {
        namespace: namespace(number)?,
        labels: Arc::new(labels(number / NAMESPACES)?),
        ports: Default::default(),
        addresses: addresses(number)?.iter().map(IpNet::addr).collect(),
    };
    Ok((RemoteName { node, id: id(number)? }, remote))
}

/// The same workload on this host, in no namespace that there is.
pub(crate) fn local(number: usize) -> Result<Workload> {
    let [_, high, middle, low] = u32::try_from(number)?.to_be_bytes();
    Ok(Workload {
        id: id(number)?,
        owner: Owner::default(),
        phase: Phase::Ready,
        netns: Netns { path: Default::default(), inode: 0 },
        host_end: format!("weft{number}").parse()?,
        mac: Mac([2, 0, 0, high, middle, low]),
        mtu: 1500,
        addresses: addresses(number)?,
        default_route: true,
        pod: None,
        profile: Profile {
            namespace: Some(namespace(number)?),
            labels: labels(number / NAMESPACES)?,
            ..Profile::default()
        },
    })
}

/// A world of so many workloads, of which `here` are on this host, and policies.
pub(crate) fn world(workloads: usize, here: usize, policies: usize) -> Result<World> {
    let network = Network {
        name: "lan".parse()?,
        id: NetworkId(1),
        mode: Mode::Routed,
        ipv4: Some("10.0.0.0/8".parse()?),
        ipv6: Some("fd77::/64".parse()?),
        mtu: None,
        masquerade: true,
        vni: None,
        encapsulation: Default::default(),
    };
    let mut world = World::default();
    world.nodes.insert(self::here()?.name, Node::alone(1500));
    world.networks.insert(network.name.clone(), network);
    // Other hosts' records share their labels, as what is read from a store does.
    let shared: Vec<Arc<Labels>> = (0..APPS).map(|app| labels(app).map(Arc::new)).collect::<Result<_>>()?;
    for number in 0..workloads {
        if number < here {
            let workload = local(number)?;
            world.workloads.insert(workload.id.clone(), workload);
        } else {
            let (name, mut remote) = remote(number)?;
            remote.labels = Arc::clone(&shared[number / NAMESPACES % APPS]);
            world.remote.insert(name, remote);
        }
    }
    for number in 1..=policies {
        world.declared.insert(policy(number, 0)?);
    }
    Ok(world)
}

/// Whom policy `number` lets in: the apps of its namespace.
pub(crate) fn let_in(number: usize) -> [usize; 2] {
    [(number * 7 + 1) % APPS, (number * 13 + 2) % APPS]
}

/// The port of policy `number`.
pub(crate) fn port(number: usize) -> Result<u16> {
    Ok(1024 + u16::try_from(number % 100)?)
}

/// Policy `number`: app `number / 10` of namespace `number % 10` lets in two apps at a port; every tenth also a block of
/// addresses, all of them at a range of ports. `extra` makes it another one.
pub(crate) fn policy(number: usize, extra: u16) -> Result<Object> {
    let app =
        |app: usize| Ok::<_, anyhow::Error>(Selector { match_labels: labels(app)?, ..Selector::default() });
    let mut from = Vec::new();
    for peer in let_in(number) {
        from.push(Peer { pod_selector: Some(app(peer)?), ..Peer::default() });
    }
    let first = port(number)? + extra;
    let mut port = PolicyPort { protocol: Protocol::Tcp, port: Some(PortRef::Number(first)), end_port: None };
    if number.is_multiple_of(10) {
        let cidr = format!("172.{}.{}.0/24", 16 + number / 10 % 16, number / 160 % 200).parse()?;
        from.push(Peer { ip_block: Some(IpBlock { cidr, except: Vec::new() }), ..Peer::default() });
        port.end_port = Some(first + 1000);
    }
    Ok(Object::NetworkPolicy(NetworkPolicy {
        api_version: "networking.k8s.io/v1".into(),
        metadata: Metadata::named(format!("p{number}").parse()?, Some(namespace(number)?)),
        spec: NetworkPolicySpec {
            pod_selector: app(number / NAMESPACES)?,
            policy_types: Vec::new(),
            ingress: vec![IngressRule { from, ports: vec![port] }],
            egress: Vec::new(),
        },
    }))
}

/// The first address of a workload.
pub(crate) fn ipv4(number: usize) -> Result<IpAddr> {
    Ok(addresses(number)?[0].addr())
}
