//! Arbitrary worlds.
//!
//! A universe fixes what each network and each attempt at an attachment is, because neither ever changes
//! while it lives; a world is a choice from it. Two worlds of one universe are what a host may hold before
//! and after anything: a restart, a crash, a lost record.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use weft_dataplane::{Wanted, render, render_workload};
use weft_kernel::FakeKernel;
use weft_model::{
    AttachmentId, Bandwidth, Here, IfName, Limit, Mac, Mode, Netns, Network, NetworkId, Node, Owner, Phase,
    Workload, World,
};
use weft_plan::Plan;

/// Everything that can be chosen from.
#[derive(Clone, Debug)]
pub(crate) struct Universe {
    pub(crate) networks: Vec<Network>,
    pub(crate) attempts: Vec<Workload>,
}

/// Which of it exists, and what the host is like.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    networks: u8,
    attempts: u32,
    mtu: u32,
    learning: bool,
    block_metadata: bool,
}

pub(crate) fn here() -> Here {
    Here::new("here".parse().unwrap())
}

prop_compose! {
    fn network(at: u16)(
        bridge in any::<bool>(), families in 0..3, mtu in prop_oneof![Just(None), Just(Some(1280)), Just(Some(9000))],
        masquerade in any::<bool>(),
    ) -> Network {
        let low = u8::try_from(at).unwrap();
        Network {
            name: format!("net{at}").parse().unwrap(),
            id: NetworkId(at + 1),
            mode: if bridge { Mode::Bridge } else { Mode::Routed },
            ipv4: (families != 1).then(|| Ipv4Net::new(Ipv4Addr::new(10, low, 0, 0), 16).unwrap()),
            ipv6: (families != 0).then(|| Ipv6Net::new(Ipv6Addr::new(0xfd00, at, 0, 0, 0, 0, 0, 0), 64).unwrap()),
            mtu,
            masquerade,
            vni: None,
            encapsulation: weft_model::Encapsulation::Auto,
        }
    }
}

fn addresses(network: &Network, number: u8) -> Vec<IpNet> {
    let of = |subnet: IpNet| match subnet.network() {
        IpAddr::V4(a) => {
            IpNet::new(Ipv4Addr::from(u32::from(a) + 2 + u32::from(number)).into(), subnet.prefix_len())
        }
        IpAddr::V6(a) => {
            IpNet::new(Ipv6Addr::from(u128::from(a) + 2 + u128::from(number)).into(), subnet.prefix_len())
        }
    };
    network.subnets().map(|s| of(s).unwrap()).collect()
}

/// Every combination of limits, with and without a burst.
fn bandwidth(number: u8) -> Bandwidth {
    let limit = |rate: u64, burst| Some(Limit::new(rate * 1_000_000, burst).unwrap());
    match number % 4 {
        0 => Bandwidth::default(),
        1 => Bandwidth { ingress: limit(100, None), egress: None },
        2 => Bandwidth { ingress: None, egress: limit(50_000, None) },
        _ => Bandwidth { ingress: limit(1, Some(100_000)), egress: limit(2, Some(50_000)) },
    }
}

fn attempt(
    networks: &[Network],
    number: u8,
    (network, netns, ifname, default_route): (usize, u8, u8, bool),
) -> Workload {
    let network = &networks[network % networks.len()];
    Workload {
        id: AttachmentId {
            network: network.name.clone(),
            container: format!("c{netns}").parse().unwrap(),
            ifname: format!("eth{ifname}").parse().unwrap(),
        },
        owner: Owner::default(),
        phase: Phase::Ready,
        netns: Netns { path: format!("/run/netns/n{netns}").into(), inode: u64::from(netns) + 1 },
        host_end: format!("weft{number:010x}").parse().unwrap(),
        mac: Mac::from_seed(u64::from(number) + 1),
        mtu: network.mtu.unwrap_or(1500),
        addresses: addresses(network, number),
        default_route,
        pod: None,
        profile: weft_model::Profile {
            bandwidth: bandwidth(number),
            ports: ports(number),
            ..Default::default()
        },
    }
}

/// Each attempt its own: two workloads with one port are refused before they become part of a world.
fn ports(number: u8) -> Vec<weft_model::PortMapping> {
    let all = match number % 4 {
        0 => vec![],
        1 => vec![format!("80{number:02}:80")],
        2 => vec![format!("0.0.0.0:53{number:02}:53/udp"), format!("127.0.0.1:90{number:02}:90")],
        _ => {
            vec![format!("{0}000-{0}003:70-73", 10 + number), format!("[2001:db8::1]:81{number:02}:81/sctp")]
        }
    };
    all.iter().map(|port| port.parse().unwrap()).collect()
}

/// Four networks at most, twelve attempts; several attempts at one interface name of one namespace are likely.
pub(crate) fn universe() -> impl Strategy<Value = Universe> {
    let networks = (1_u16..=4).prop_flat_map(|count| (0..count).map(network).collect::<Vec<_>>());
    let attempts = prop::collection::vec((0_usize..4, 0_u8..5, 0_u8..2, any::<bool>()), 1..12);
    (networks, attempts).prop_map(|(networks, attempts)| {
        let numbered = (0_u8..).zip(attempts);
        let attempts = numbered.map(|(number, a)| attempt(&networks, number, a)).collect();
        Universe { networks, attempts }
    })
}

prop_compose! {
    pub(crate) fn choice()(
        networks: u8, attempts: u32, mtu in prop_oneof![Just(1500), Just(1400), Just(9000)], learning: bool,
        block_metadata: bool,
    ) -> Choice {
        Choice { networks, attempts, mtu, learning, block_metadata }
    }
}

pub(crate) fn uplink() -> IfName {
    "eth0".parse().unwrap()
}

impl Universe {
    /// The chosen world; of two attempts at one interface the later counts.
    pub(crate) fn world(&self, choice: &Choice) -> World {
        let node = Node::alone(choice.mtu);
        let chosen = |bits: u32, at: usize| bits >> at & 1 == 1;
        let networks = self.networks.iter().enumerate().filter(|(at, _)| chosen(choice.networks.into(), *at));
        let networks: BTreeMap<_, _> = networks.map(|(_, n)| (n.name.clone(), n.clone())).collect();
        let mut interfaces = BTreeMap::new();
        for (at, attempt) in self.attempts.iter().enumerate() {
            if chosen(choice.attempts, at) && networks.contains_key(&attempt.id.network) {
                interfaces.insert((attempt.netns.clone(), attempt.id.ifname.clone()), attempt.clone());
            }
        }
        let workloads = interfaces.into_values().map(|w| (w.id.clone(), w)).collect();
        World { nodes: [(here().name, node)].into(), networks, workloads, ..World::default() }
    }

    /// What the host itself knows.
    pub(crate) fn here(&self, choice: &Choice) -> Here {
        let learning_links = choice.learning.then(uplink).into_iter().collect();
        Here { learning_links, block_metadata: choice.block_metadata, ..here() }
    }

    pub(crate) fn plan(&self, choice: &Choice) -> Plan {
        weft_plan::plan(&self.world(choice), &self.here(choice))
    }

    pub(crate) fn wanted(&self, choice: &Choice) -> Wanted {
        render(&self.plan(choice))
    }

    /// What each attempt's wire needs before it may carry packets, by the name of its host end.
    pub(crate) fn wires(&self) -> BTreeMap<IfName, Wanted> {
        let all = Choice { networks: !0, attempts: !0, mtu: 1500, learning: false, block_metadata: true };
        let plan = weft_plan::plan(&self.world(&all), &self.here(&all));
        let render = |w: &Workload| {
            let planned = weft_plan::attach::plan(w, &plan.networks[&w.id.network]);
            (w.host_end.clone(), render_workload(&planned))
        };
        self.attempts.iter().map(render).collect()
    }

    /// A host with the namespaces of all attempts, and with objects of other people's.
    pub(crate) fn kernel(&self) -> FakeKernel {
        let mut kernel = FakeKernel::default();
        crate::foreign::seed(&mut kernel);
        let paths: BTreeSet<_> = self.attempts.iter().map(|w| w.netns.path.clone()).collect();
        paths.into_iter().for_each(|path| kernel.add_namespace(path));
        kernel
    }
}
