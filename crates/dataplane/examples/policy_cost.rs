//! What policy costs: `cargo run --release -p weft-dataplane --example policy_cost` (root). From 1 to 10,000 policies over 1,000
//! workloads, of which 100 are here: computing all of it, loading it, and changing one policy or one label, in a namespace of its own.

#![expect(clippy::print_stdout, reason = "an example prints what it measured")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_dataplane::nft::{policy, ruleset};
use weft_kernel::netlink::{Family, Socket};
use weft_kernel::netns::Netns;
use weft_kernel::nft::{self, Diff, Tables};
use weft_model::object::Metadata;
use weft_model::policy::{
    IngressRule, IpBlock, NetworkPolicy, NetworkPolicySpec, Peer, PolicyPort, PortRef, Protocol,
};
use weft_model::world::{Remote, RemoteName};
use weft_model::{
    AttachmentId, Labels, Mac, Mode, Netns as Place, Object, Owner, Phase, Profile, Selector, Workload, World,
};
use weft_plan::policy::Numbering;
use weft_plan::policy::cases;

const WORKLOADS: usize = 1000;
const LOCAL: usize = 100;
const APPS: usize = 100;
const ROUNDS: usize = 21;

fn labels(app: usize) -> Labels {
    [("app".parse().expect("a key"), format!("a{}", app % APPS).parse().expect("a value"))].into()
}

fn world() -> World {
    let network = cases::network(Mode::Routed);
    let mut world = World::default();
    world.nodes.insert(cases::here().name, weft_model::Node::alone(1500));
    for n in 0..WORKLOADS {
        let id = AttachmentId {
            network: network.name.clone(),
            container: format!("c{n}").parse().expect("a name"),
            ifname: "eth0".parse().expect("a name"),
        };
        let host = u16::try_from(n).expect("fits") + 16;
        let [high, low] = host.to_be_bytes();
        let addresses = [format!("10.77.{high}.{low}/16"), format!("fd77::{host:x}/64")];
        let addresses: Vec<ipnet::IpNet> = addresses.iter().map(|a| a.parse().expect("an address")).collect();
        let namespace = format!("n{}", n % 10).parse().expect("a name");
        if n >= LOCAL {
            let (labels, addresses) =
                (Arc::new(labels(n / 10)), addresses.iter().map(ipnet::IpNet::addr).collect());
            let remote = Remote { namespace, labels, ports: Default::default(), addresses };
            world.remote.insert(RemoteName { node: "there".parse().expect("a name"), id }, remote);
            continue;
        }
        let profile = Profile { namespace: Some(namespace), labels: labels(n / 10), ..Profile::default() };
        let workload = Workload {
            id: id.clone(),
            owner: Owner::default(),
            phase: Phase::Ready,
            netns: Place { path: Default::default(), inode: 0 },
            host_end: format!("weft{n}").parse().expect("a name"),
            mac: Mac([2, 0, 0, 0, high, low]),
            mtu: 1500,
            addresses,
            default_route: true,
            pod: None,
            profile,
        };
        world.workloads.insert(id, workload);
    }
    world.networks.insert(network.name.clone(), network);
    world
}

/// Policy `n`: an app of a namespace lets in two other apps, at a port; every tenth also a block, at a range of ports.
fn policy(n: usize, extra: u16) -> Object {
    let app = |app: usize| Selector { match_labels: labels(app), ..Selector::default() };
    let peer = |n: usize| Peer { pod_selector: Some(app(n)), ..Peer::default() };
    let mut from = vec![peer(n * 7 + 1), peer(n * 13 + 2)];
    let number = 1024 + u16::try_from(n % 100).expect("fits") + extra;
    let mut port =
        PolicyPort { protocol: Protocol::Tcp, port: Some(PortRef::Number(number)), end_port: None };
    if n.is_multiple_of(10) {
        let cidr = format!("10.{}.{}.0/24", 100 + n / 10 % 50, n / 500 % 200).parse().expect("a range");
        from.push(Peer { ip_block: Some(IpBlock { cidr, except: Vec::new() }), ..Peer::default() });
        port.end_port = Some(number + 1000);
    }
    let namespace = format!("n{}", n % 10).parse().expect("a name");
    Object::NetworkPolicy(NetworkPolicy {
        api_version: "networking.k8s.io/v1".into(),
        metadata: Metadata::named(format!("p{n}").parse().expect("a name"), Some(namespace)),
        spec: NetworkPolicySpec {
            pod_selector: app(n / 10),
            policy_types: Vec::new(),
            ingress: vec![IngressRule { from, ports: vec![port] }],
            egress: Vec::new(),
        },
    })
}

fn apply(socket: &mut Socket, diff: &Diff) {
    for batch in [&diff.install, &diff.remove] {
        nft::apply(socket, batch).expect("the kernel takes it");
    }
}

fn median(mut all: Vec<Duration>) -> f64 {
    all.sort();
    all[all.len() / 2].as_secs_f64() * 1e3
}

fn main() {
    let netns = Netns::anonymous().expect("root makes namespaces");
    netns.run(measure).expect("the namespace can be entered");
}

fn measure() {
    println!(
        "policies  compute ms  load ms  elements  policy change ms  label change ms  of it in the kernel  resident MiB"
    );
    for count in [1, 100, 1_000, 10_000] {
        let mut socket = Socket::open(Family::Netfilter).expect("netlink");
        let names = weft_kernel::ours::tables();
        let mut world = world();
        (0..count).for_each(|n| drop(world.declared.insert(policy(n, 0))));
        let begin = Instant::now();
        let mut plan = weft_plan::plan(&world, &cases::here());
        let mut numbering = Numbering::default();
        numbering.assign(&mut plan.policy);
        let computed = begin.elapsed();
        let tables = ruleset(&plan);
        let elements: usize = tables.values().flat_map(|t| t.sets.values()).map(|s| s.elements.len()).sum();
        let found = nft::read(&mut socket, &names).expect("read");
        let begin = Instant::now();
        apply(&mut socket, &nft::diff(&tables, &found));
        let loaded = begin.elapsed();
        let (mut policies, mut relabelled, mut kernel) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            for label in [false, true] {
                let begin = Instant::now();
                if label {
                    let remote = world.remote.values_mut().nth(round * 7).expect("there are 900");
                    remote.labels = Arc::new(labels(round * 31 + 5));
                } else {
                    let extra = u16::try_from(round % 2 + 1).expect("fits");
                    world.declared.insert(policy(0, extra));
                }
                let mut after = weft_plan::policy::compile::compile(&world);
                numbering.assign(&mut after);
                let diff = policy::change(&plan.policy, &after);
                let computed = begin.elapsed();
                apply(&mut socket, &diff);
                let all = begin.elapsed();
                plan.policy = after;
                if label {
                    relabelled.push(all);
                } else {
                    policies.push(all);
                }
                kernel.push(all - computed);
            }
        }
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages: f64 = statm.split(' ').nth(1).and_then(|p| p.parse().ok()).unwrap_or(0.0);
        println!(
            "{count:>8}  {:>10.1}  {:>7.1}  {elements:>8}  {:>16.2}  {:>15.2}  {:>19.2}  {:>12.1}",
            computed.as_secs_f64() * 1e3,
            loaded.as_secs_f64() * 1e3,
            median(policies),
            median(relabelled),
            median(kernel),
            pages * 4096.0 / 1_048_576.0,
        );
        let found = nft::read(&mut socket, &names).expect("read");
        apply(&mut socket, &nft::diff(&Tables::default(), &found));
    }
}
