//! Simulated hosts: made of the same parts as real ones, but for kernel and clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use weft_model::{
    AttachmentId, Cluster, Encapsulation, Mac, Mode, Network, NetworkId, NetworkName, Node, NodeName,
};
use weft_plan::address::{Addresses, Pool, Wish, block};
use weft_store::cluster::{ClusterStore, InMemory, Incarnation, Summary, View, Watch};

use super::super::claims::Need;
use super::super::member::{Host, Member, Times, Unreadable};
use super::super::networks::Done;

pub(super) const TIMES: Times =
    Times { lease: Duration::from_secs(15), idle: 60, quarantine: Duration::from_secs(60) };

pub(super) fn network(subnet: &str) -> Network {
    Network {
        name: "app".parse().unwrap(),
        id: NetworkId(1),
        mode: Mode::Routed,
        ipv4: Some(subnet.parse().unwrap()),
        ipv6: None,
        mtu: None,
        masquerade: true,
        vni: None,
        encapsulation: Encapsulation::Auto,
    }
}

/// What survives the agent's end: records of attachments, and the cluster as it was written down.
#[derive(Clone, Default)]
pub(super) struct Disk {
    pub(super) workloads: BTreeMap<AttachmentId, Vec<IpNet>>,
    pub(super) networks: BTreeMap<NetworkName, Network>,
    pub(super) blocks: BTreeMap<NetworkName, Vec<IpNet>>,
}

/// The engine's side of a simulated host.
pub(super) struct Sim {
    pub(super) name: NodeName,
    pub(super) founding: Vec<Network>,
    pub(super) now: Disk,
    pub(super) disk: Disk,
    pub(super) addresses: BTreeMap<NetworkName, Addresses>,
    pub(super) nodes: BTreeSet<NodeName>,
    pub(super) can_write: bool,
}

impl Sim {
    pub(super) fn new(name: &str, founding: Vec<Network>) -> Sim {
        let (now, disk) = (Disk::default(), Disk::default());
        let (addresses, nodes) = (BTreeMap::new(), BTreeSet::new());
        Sim { name: name.parse().unwrap(), founding, now, disk, addresses, nodes, can_write: true }
    }

    /// The next agent: what it reads is what it knows.
    pub(super) fn restart(&mut self) {
        self.disk.workloads = self.now.workloads.clone();
        self.now = self.disk.clone();
        self.addresses.clear();
        let networks: Vec<Network> = self.now.networks.values().cloned().collect();
        networks.iter().for_each(|n| self.pools(n));
    }

    pub(super) fn pools(&mut self, network: &Network) {
        let blocks = self.now.blocks.get(&network.name).cloned().unwrap_or_default();
        let pools = network.subnets().map(|s| Pool::with_blocks(s, blocks.clone())).collect();
        let mut addresses = Addresses::with_pools(network.name.clone(), pools);
        for (id, held) in self.now.workloads.iter().filter(|(id, _)| id.network == network.name) {
            addresses.restore(id, held).unwrap();
        }
        self.addresses.insert(network.name.clone(), addresses);
    }

    pub(super) fn id(network: &str, n: usize) -> AttachmentId {
        AttachmentId {
            network: network.parse().unwrap(),
            container: format!("c{n}").parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        }
    }

    pub(super) fn attach(&mut self, n: usize, now: u64) -> bool {
        let id = Sim::id("app", n);
        let Some(addresses) = self.addresses.get_mut(&id.network) else { return false };
        match addresses.allocate(&Wish { id: &id, ips: &[], ranges: &[] }, now) {
            Ok(given) => drop(self.now.workloads.insert(id, given)),
            Err(_) => return false,
        }
        true
    }

    pub(super) fn detach(&mut self, n: usize, now: u64) {
        let id = Sim::id("app", n);
        self.now.workloads.remove(&id);
        if let Some(addresses) = self.addresses.get_mut(&id.network) {
            addresses.free(&id, now);
        }
    }
}

impl Host for Sim {
    fn node(&mut self) -> Node {
        Node { mac: Mac::from_seed(3), ..Node::alone(1500) }
    }

    fn known(&mut self) -> BTreeSet<NodeName> {
        self.nodes.clone()
    }

    fn needs(&mut self, now: u64) -> Vec<Need> {
        let mut needs = Vec::new();
        for (network, addresses) in &mut self.addresses {
            addresses.wake(now);
            for pool in addresses.pools() {
                let of_network = self.now.workloads.iter().filter(|(id, _)| id.network == *network);
                let held = of_network.flat_map(|(_, held)| held).map(IpNet::addr);
                let foreign = |a: &IpAddr| !pool.blocks().iter().any(|b| b.contains(a));
                needs.push(Need {
                    network: network.clone(),
                    subnet: pool.subnet(),
                    demand: block::demand(pool),
                    homeless: held.filter(foreign).collect(),
                    asked: BTreeSet::new(),
                });
            }
        }
        needs
    }

    fn adopt(&mut self, cluster: Cluster, _: &Unreadable) {
        self.now.blocks = cluster.nodes.get(&self.name).map(|n| n.blocks.clone()).unwrap_or_default();
        self.nodes = cluster.nodes.keys().cloned().collect();
        self.now.networks = cluster.networks;
        for network in self.now.networks.clone().values() {
            if !self.addresses.contains_key(&network.name) {
                self.pools(network);
            }
            let blocks = self.now.blocks.get(&network.name).cloned().unwrap_or_default();
            if let Some(addresses) = self.addresses.get_mut(&network.name) {
                addresses.set_blocks(&blocks);
            }
        }
    }

    fn leave(&mut self, network: &NetworkName, block: IpNet) -> bool {
        if !self.can_write {
            return false;
        }
        if let Some(blocks) = self.now.blocks.get_mut(network) {
            blocks.retain(|b| *b != block);
            self.addresses.get_mut(network).unwrap().set_blocks(blocks);
        }
        self.disk = self.now.clone();
        true
    }

    fn summaries(&mut self) -> BTreeMap<AttachmentId, Summary> {
        let of = |held: &Vec<IpNet>| Summary {
            addresses: held.iter().map(IpNet::addr).collect(),
            namespace: None,
            labels: BTreeMap::new(),
            named_ports: BTreeMap::new(),
            pod: None,
        };
        self.now.workloads.iter().map(|(id, held)| (id.clone(), of(held))).collect()
    }

    fn founding_networks(&mut self) -> Vec<Network> {
        self.founding.clone()
    }

    fn stand_alone(&mut self) -> Result<(), weft_model::api::Error> {
        if !self.can_write || !self.now.workloads.is_empty() {
            return Err(weft_model::api::Error::new(
                weft_model::api::ErrorKind::Exists,
                "workloads are here",
            ));
        }
        self.adopt(Cluster::default(), &Unreadable::default());
        self.addresses.clear();
        self.disk = self.now.clone();
        Ok(())
    }
}

/// A simulated host: its engine's side, its part in the store, its connection.
pub(super) struct Machine {
    pub(super) sim: Sim,
    pub(super) member: Member,
    pub(super) watch: Option<Box<dyn Watch>>,
}

pub(super) struct Ground {
    pub(super) store: InMemory,
    pub(super) machines: Vec<Machine>,
    pub(super) seconds: u64,
    pub(super) lives: u64,
}

impl Ground {
    pub(super) fn new(subnet: &str, hosts: usize) -> Ground {
        let mut ground = Ground { store: InMemory::default(), machines: Vec::new(), seconds: 0, lives: 0 };
        for n in 0..hosts {
            ground.add(&format!("host{n}"), subnet);
        }
        ground
    }

    pub(super) fn add(&mut self, name: &str, subnet: &str) {
        let sim = Sim::new(name, vec![network(subnet)]);
        let member = self.member(name, None);
        self.machines.push(Machine { sim, member, watch: None });
    }

    /// An agent's part, of this life of the host or of a new one.
    pub(super) fn member(&mut self, name: &str, life: Option<u64>) -> Member {
        self.lives += 1;
        let life = Incarnation(life.unwrap_or(self.lives));
        Member::new(Arc::new(self.store.clone()), name.parse().unwrap(), life, TIMES)
    }

    /// Lets a machine hear what there is to hear, or only some part of it.
    pub(super) fn hear(&mut self, n: usize) {
        let machine = &mut self.machines[n];
        let facts = machine.watch.as_mut().map(|w| w.next(Duration::ZERO));
        match facts {
            Some(Ok(facts)) => drop(machine.member.mirror.apply(facts)),
            _ => {
                let Ok(snapshot) = self.store.snapshot() else { return };
                machine.member.mirror.replace(snapshot).unwrap();
                machine.member.begin(&mut machine.sim, self.seconds);
                machine.watch = self.store.watch(machine.member.mirror.revision()).ok();
            }
        }
        machine.member.tell(&mut machine.sim);
    }

    pub(super) fn step(&mut self, n: usize) {
        let (machine, now) = (&mut self.machines[n], self.seconds);
        if machine.watch.is_some() && machine.member.step(&mut machine.sim, now).is_err() {
            machine.watch = None;
        }
    }

    /// The agent is killed and started again; of the cluster it knows what was written down last.
    pub(super) fn crash(&mut self, n: usize, written: bool) {
        if written {
            self.machines[n].sim.disk = self.machines[n].sim.now.clone();
        }
        let name = self.machines[n].sim.name.to_string();
        let life = 1_000 + n as u64;
        let member = self.member(&name, Some(life));
        let machine = &mut self.machines[n];
        (machine.member, machine.watch) = (member, None);
        machine.sim.restart();
    }

    /// The host leaves the cluster, if it can, and joins again at once.
    pub(super) fn leave(&mut self, n: usize) {
        if self.machines[n].watch.is_none() || self.machines[n].sim.stand_alone().is_err() {
            return;
        }
        for _ in 0..5 {
            match self.machines[n].member.leave() {
                Ok(Done::Yes) => {
                    let name = self.machines[n].sim.name.clone();
                    let view = View::of(&self.store.snapshot().unwrap());
                    assert!(view.blocks_of(&name).is_empty() && !view.nodes.contains_key(&name));
                    return self.crash(n, true);
                }
                _ => self.hear(n),
            }
        }
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.seconds += seconds;
        self.store.pass(Duration::from_secs(seconds));
    }

    /// Everybody hears and does everything, until nothing happens any more.
    pub(super) fn settle(&mut self) {
        for _ in 0..40 {
            for n in 0..self.machines.len() {
                self.hear(n);
                self.step(n);
            }
            self.pass(5);
        }
    }

    pub(super) fn no_address_twice(&self) {
        let mut seen: BTreeMap<IpAddr, &NodeName> = BTreeMap::new();
        for machine in &self.machines {
            for address in machine.sim.now.workloads.values().flatten().map(IpNet::addr) {
                if let Some(other) = seen.insert(address, &machine.sim.name) {
                    panic!("{address} is on {other} and on {}", machine.sim.name);
                }
            }
        }
    }
}

/// A small deterministic generator (splitmix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }
}
