//! What this host says of itself to the others, and what it needs of the addresses that they share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};
use weft_model::api::{Error, ErrorKind, NetworkSpec, StoreState};
use weft_model::{AttachmentId, Cluster, Mode, Network, NetworkName, Node, NodeName, Remote, RemoteName};
use weft_plan::address::block;
use weft_store::Write;
use weft_store::cluster::Summary;

use super::Engine;
use super::policy::Enforced;
use crate::cluster::{Elsewhere, Need, Unreadable};
use crate::{chain, host};

impl Engine {
    /// What this host is, for the others; without blocks.
    pub(crate) fn own_record(&mut self) -> Node {
        let found = host::underlay(&self.underlay);
        let known = self.world.nodes.get(&self.here.name);
        let (addresses, mtu) = match found {
            Ok(found) => {
                self.own_problem = found.doubt;
                (found.addresses, found.mtu)
            }
            Err(error) => {
                self.own_problem =
                    Some(format!("failed to look at this host's addresses: {}", chain(&error)));
                let last = known.map(|n| (n.addresses.clone(), n.mtu));
                last.unwrap_or((Vec::new(), 1500))
            }
        };
        let (mac, blocks) = (self.tunnel_mac, BTreeMap::new());
        Node { addresses, mtu, blocks, mac, incarnation: 0, zone: self.zone.clone() }
    }

    /// What the networks of the cluster need of blocks here.
    pub(crate) fn block_needs(&mut self, now: u64) -> Vec<Need> {
        let mut needs = Vec::new();
        self.addresses.values_mut().for_each(|addresses| addresses.wake(now));
        for network in self.world.networks.values().filter(|n| n.vni.is_some()) {
            let Some(addresses) = self.addresses.get(&network.name) else { continue };
            let held: Vec<IpAddr> = self
                .world
                .workloads
                .values()
                .filter(|w| w.id.network == network.name)
                .flat_map(|w| w.addresses.iter().map(IpNet::addr))
                .collect();
            let asked = self.asked.get(&network.name);
            for pool in addresses.pools() {
                let (subnet, blocks) = (pool.subnet(), pool.blocks());
                let foreign = |a: &&IpAddr| subnet.contains(*a) && !blocks.iter().any(|b| b.contains(*a));
                needs.push(Need {
                    network: network.name.clone(),
                    subnet,
                    demand: block::demand(pool),
                    homeless: held.iter().filter(foreign).copied().collect(),
                    asked: asked.into_iter().flatten().filter(foreign).copied().collect(),
                });
            }
        }
        self.asked.clear();
        needs
    }

    /// Takes over what workloads of other hosts are now.
    pub(crate) fn adopt_remote(&mut self, changes: Vec<Elsewhere>) {
        let mut touched = BTreeSet::new();
        for (name, now) in changes {
            let was = match now {
                Some(remote) => self.world.remote.insert(name.clone(), remote),
                None => self.world.remote.remove(&name),
            };
            touched.extend(self.serve_remote(&name, was.as_ref()));
            self.touched.remote(name, was);
        }
        self.serve(touched, "peers");
        self.judge_anew();
    }

    /// Takes over all workloads of other hosts.
    pub(crate) fn replace_remote(&mut self, all: BTreeMap<RemoteName, Remote>) {
        let unknown = std::mem::take(&mut self.remote_unknown);
        let former = std::mem::replace(&mut self.world.remote, all);
        let gone = former.keys().filter(|name| !self.world.remote.contains_key(*name));
        let there = self.world.remote.iter().filter(|(name, now)| former.get(*name) != Some(*now));
        let names: Vec<RemoteName> = gone.chain(there.map(|(name, _)| name)).cloned().collect();
        if names.is_empty() && !unknown {
            return;
        }
        for name in names {
            let was = former.get(&name).cloned();
            self.touched.remote(name, was);
        }
        self.serve_anew();
        self.judge_anew();
    }

    /// Only what people declared looks at workloads of other hosts.
    fn judge_anew(&mut self) {
        if self.world.declared == weft_model::Declared::default() {
            // Whoever declares the first policy looks at all of them.
            self.touched = weft_plan::policy::Touched::default();
            return;
        }
        let enforced = self.enforce("peers");
        if enforced == Enforced::Refused {
            self.sync();
        }
        if enforced != Enforced::Nothing {
            self.end_denied_flows();
        }
    }

    /// The hosts that are known of now.
    pub(crate) fn known_hosts(&self) -> BTreeSet<NodeName> {
        self.world.nodes.keys().cloned().collect()
    }

    /// Remembers addresses that somebody asked for by name, until the next claims.
    pub(crate) fn ask_for(&mut self, network: &NetworkName, addresses: &[IpAddr]) {
        self.asked.entry(network.clone()).or_default().extend(addresses);
    }

    /// Takes over what all share. What is there and makes no sense stays as it was.
    pub(crate) fn adopt_cluster(&mut self, mut cluster: Cluster, unreadable: &Unreadable) {
        for name in &unreadable.networks {
            if let Some(known) = self.world.networks.get(name).filter(|n| n.vni.is_some()) {
                cluster.networks.entry(name.clone()).or_insert_with(|| known.clone());
            }
        }
        for name in &unreadable.nodes {
            if let Some(known) = self.world.nodes.get(name) {
                cluster.nodes.entry(name.clone()).or_insert_with(|| known.clone());
            }
        }
        self.make_way(&cluster);
        self.cluster(cluster);
    }

    /// Lets this host's own networks become those of the cluster that bear their names: the same one as it
    /// is, another one if nobody uses this host's.
    fn make_way(&mut self, cluster: &Cluster) {
        let mut writes = Vec::new();
        for (name, shared) in &cluster.networks {
            let Some(own) = self.world.networks.get_mut(name).filter(|n| n.vni.is_none()) else { continue };
            let same = (own.ipv4, own.ipv6, own.mode) == (shared.ipv4, shared.ipv6, shared.mode);
            if same && shared.vni.is_some() {
                own.vni = shared.vni;
                writes.push(Write::PutNetwork(own.clone()));
            } else if !self.world.workloads.keys().any(|id| id.network == *name) {
                tracing::info!(network = %name, "this host's own network gives way to the cluster's");
                self.world.networks.remove(name);
                self.addresses.remove(name);
                writes.push(Write::RemoveNetwork(name.clone()));
            }
        }
        if writes.is_empty() {
            return;
        }
        if let Err(error) = self.record(writes) {
            tracing::warn!(%error, "failed to record that a network is the cluster's now");
        }
        self.replan();
        self.sync();
    }

    /// Gives no address from a block any more, also not after a crash.
    pub(crate) fn leave_block(&mut self, network: &NetworkName, block: IpNet) -> bool {
        let mut nodes = self.world.nodes.clone();
        let Some(own) = nodes.get_mut(&self.here.name) else { return false };
        let Some(blocks) = own.blocks.get_mut(network) else { return false };
        blocks.retain(|b| *b != block);
        let shared = self.world.networks.iter().filter(|(_, n)| n.vni.is_some());
        let networks = shared.map(|(name, n)| (name.clone(), n.clone())).collect();
        self.cluster(Cluster { nodes, networks });
        self.keep_cluster();
        self.unwritten_cluster.is_none()
    }

    /// This host's workloads, as others need to know them.
    pub(crate) fn summaries(&self) -> BTreeMap<AttachmentId, Summary> {
        let shared =
            |network: &NetworkName| self.world.networks.get(network).is_some_and(|n| n.vni.is_some());
        let of_cluster = self.world.workloads.values().filter(|w| shared(&w.id.network));
        of_cluster.map(|w| (w.id.clone(), Summary::of(w))).collect()
    }

    /// The networks that this host brings along into a cluster that has none: its own, or the usual one.
    pub(crate) fn founding_networks(&mut self) -> Vec<Network> {
        let used: BTreeSet<NetworkName> = self.world.workloads.keys().map(|id| id.network.clone()).collect();
        let mut networks: Vec<Network> =
            self.world.networks.values().filter(|n| n.vni.is_none()).cloned().collect();
        if networks.is_empty() && self.default_wanted {
            let name = "default".parse().expect("default is a valid name");
            let (subnets, mode, mtu) = (Vec::new(), Mode::Routed, None);
            let spec = NetworkSpec {
                name,
                subnets,
                mode,
                mtu,
                masquerade: true,
                encapsulation: weft_model::Encapsulation::Auto,
                explain: false,
            };
            match self.declare(&spec) {
                Ok(network) => networks.push(network),
                Err(error) => tracing::warn!(error = chain(&error), "failed to choose the cluster's network"),
            }
        }
        for network in &mut networks {
            // One host's /64 becomes the site's /48 that it was chosen from (RFC 4193, 3.1): a /64 for each host.
            if !used.contains(&network.name) {
                network.ipv6 = network.ipv6.map(widened);
            }
        }
        networks
    }

    /// Holds nothing of the cluster any more, also not after a crash: other hosts, its networks, its addresses.
    ///
    /// # Errors
    /// If workloads here use them.
    pub(crate) fn stand_alone(&mut self) -> Result<(), Error> {
        let shared = |id: &&AttachmentId| self.is_shared(&id.network);
        let users: Vec<String> =
            self.world.workloads.keys().filter(shared).map(ToString::to_string).collect();
        if let Some(first) = users.first() {
            let more = if users.len() > 1 { format!(" and {} more", users.len() - 1) } else { String::new() };
            return Err(Error::new(
                ErrorKind::Exists,
                format!("networks of the cluster are used by {first}{more}"),
            )
            .hint("end those containers or detach them first; `weft status` shows them"));
        }
        self.cluster(Cluster::default());
        self.replace_remote(BTreeMap::new());
        self.keep_cluster();
        if self.unwritten_cluster.is_some() {
            return Err(Error::new(
                ErrorKind::TryAgain,
                "that this host stands alone could not be written down",
            )
            .hint("`weft status` says what is wrong with the disk"));
        }
        if self.default_wanted { self.default_network() } else { Ok(()) }
    }

    /// Whether a network is the cluster's.
    pub(crate) fn is_shared(&self, name: &NetworkName) -> bool {
        self.world.networks.get(name).is_some_and(|n| n.vni.is_some())
    }

    /// A network, by its name.
    pub(crate) fn network(&self, name: &NetworkName) -> Option<&Network> {
        self.world.networks.get(name)
    }

    /// What is known of the store, for `weft status`.
    pub(crate) fn set_store(&mut self, state: Option<StoreState>, problems: Vec<String>) {
        self.store_state = state;
        self.store_problems = problems;
    }
}

fn widened(subnet: Ipv6Net) -> Ipv6Net {
    let unique_local = subnet.addr().octets()[0] == 0xfd;
    let wide = Ipv6Net::new(subnet.addr(), 48).map(|net| net.trunc());
    if unique_local && subnet.prefix_len() == 64 { wide.unwrap_or(subnet) } else { subnet }
}
