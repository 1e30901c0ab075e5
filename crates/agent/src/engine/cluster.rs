//! Adopting what all hosts share: the other hosts with their blocks, and the networks that they have in common.
//!
//! The one entrance for every source of it. What does not change costs nothing: a change of one host is
//! planned, compared and made for that host alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use weft_kernel::Kernel;
use weft_model::{Cluster, Network, NetworkName, Node, NodeName};
use weft_plan::address::{Addresses, Pool, overlaps};
use weft_store::Write;

use super::Engine;
use crate::{chain, host};

/// How long a look at this host itself is good for, where only others change.
const MOMENT: Duration = Duration::from_secs(1);

/// What a look at this host was for.
pub(super) struct Followed {
    at: Instant,
    own: Option<Node>,
    networks: BTreeMap<NetworkName, Network>,
    /// Whether other hosts have IPv6 only.
    others6: bool,
}

impl Engine {
    /// Takes over what all hosts share. Returns whether the kernel agrees with it now.
    pub(crate) fn cluster(&mut self, cluster: Cluster) -> bool {
        let first = std::mem::take(&mut self.unheard);
        if !self.is_followed(&cluster) && self.follow(&cluster) {
            tracing::info!(
                hosts = cluster.nodes.len(),
                networks = cluster.networks.len(),
                "the cluster changed"
            );
            self.replan();
            self.unwritten_cluster = Some(cluster);
            // At once: whatever ends this agent, the next one gives addresses from these blocks without asking the store.
            self.keep_cluster();
            return self.sync();
        }
        let changed = self.changed_peers(&cluster.nodes);
        if !changed.is_empty() {
            let well = self.change_peers(&cluster.nodes, &changed);
            self.unwritten_cluster = Some(cluster);
            return if first { self.sync() } else { well };
        }
        if first { self.sync() } else { self.health.is_empty() }
    }

    /// At start: the cluster as the last agent heard of it, so that nothing of it is taken away before
    /// somebody says that it is gone (DESIGN.md, invariant 2).
    pub(super) fn recall_cluster(&mut self) {
        let Ok(text) = std::fs::read(&self.cluster_record) else { return };
        match serde_json::from_slice::<Cluster>(&text) {
            Ok(cluster) => {
                self.follow(&cluster);
                self.replan();
            }
            Err(error) => {
                tracing::warn!(%error, "the record of the cluster makes no sense and is left alone");
            }
        }
    }

    /// Writes down the cluster as it was last heard of, if that is new.
    pub(crate) fn keep_cluster(&mut self) {
        let Some(cluster) = self.unwritten_cluster.take() else { return };
        let path = &self.cluster_record;
        let aside = path.with_extension("new");
        let text = serde_json::to_vec(&cluster).map_err(std::io::Error::other);
        let written =
            text.and_then(|text| write_durably(&aside, &text)).and_then(|()| std::fs::rename(&aside, path));
        if let Err(error) = written {
            tracing::warn!(%error, "failed to record the cluster; it is tried again");
            self.unwritten_cluster = Some(cluster);
        }
    }

    /// Whether nothing but other hosts can have changed since a moment ago: of a thousand hosts some come or go all the
    /// time, and to look at this one costs as much as its routes are many.
    fn is_followed(&self, cluster: &Cluster) -> bool {
        self.followed.as_ref().is_some_and(|followed| {
            followed.at.elapsed() < MOMENT
                && followed.own.as_ref() == cluster.nodes.get(&self.here.name)
                && followed.networks == cluster.networks
                && followed.others6 == self.others6(cluster)
        })
    }

    /// Whether other hosts can be reached over IPv6 only.
    fn others6(&self, cluster: &Cluster) -> bool {
        weft_plan::others6(&cluster.nodes, &self.here.name)
    }

    /// Takes over networks and this host's own record; returns whether anything but other hosts changed.
    fn follow(&mut self, cluster: &Cluster) -> bool {
        self.followed = Some(Followed {
            at: Instant::now(),
            own: cluster.nodes.get(&self.here.name).cloned(),
            networks: cluster.networks.clone(),
            others6: self.others6(cluster),
        });
        let facts = match host::facts() {
            Ok(facts) => facts,
            Err(error) => {
                tracing::warn!(error = chain(&error), "failed to look at the host; the cluster waits");
                return false;
            }
        };
        let known = self.world.nodes.get(&self.here.name).cloned();
        let mut own = cluster.nodes.get(&self.here.name).cloned().unwrap_or_else(|| Node::alone(facts.mtu));
        let holder =
            own.addresses.iter().find_map(|a| facts.addresses.iter().find(|(.., ip)| *ip == a.addr()));
        let uplink = holder.map(|(name, ..)| name.clone());
        // What the interface carries now counts, whatever was written down when it carried more.
        own.mtu = holder.map_or(own.mtu.min(facts.mtu), |(_, mtu, _)| *mtu);
        self.strange.clear();
        if let Some(address) =
            own.addresses.iter().find(|a| !facts.addresses.iter().any(|(.., ip)| *ip == a.addr()))
        {
            self.strange.push(format!(
                "the cluster knows this host under {address}, which none of its interfaces has: give it that address, or join again"
            ));
        }
        let networks = self.shared_networks(cluster, &facts.taken);
        let others6 = weft_plan::others6(&self.world.nodes, &self.here.name);
        let mut changed = known.as_ref() != Some(&own) || self.here.uplink != uplink;
        self.here.uplink = uplink;
        let blocks_changed = known.is_none_or(|k| k.blocks != own.blocks);
        changed |= self.adopt_shared(networks, blocks_changed, own);
        if changed {
            let own = self.world.nodes.remove(&self.here.name);
            self.world.nodes = cluster.nodes.clone();
            self.world.nodes.extend(own.map(|own| (self.here.name.clone(), own)));
        } else {
            if self.others6(cluster) != others6 {
                self.follow_others(cluster);
                return true;
            }
        }
        changed
    }

    /// Takes note of what the uplink carries now: it may have changed under running workloads.
    pub(crate) fn measure(&mut self) {
        let Some(uplink) = self.here.uplink.clone() else { return };
        let Ok(Some(link)) = self.kernel.link(&uplink) else { return };
        let own = self.world.nodes.get_mut(&self.here.name).filter(|own| own.mtu != link.mtu);
        if let Some(own) = own {
            tracing::info!(link = %uplink, mtu = link.mtu, before = own.mtu, "the uplink carries another size now");
            own.mtu = link.mtu;
            self.replan();
        }
    }

    fn follow_others(&mut self, cluster: &Cluster) {
        let own = self.world.nodes.remove(&self.here.name);
        self.world.nodes = cluster.nodes.clone();
        self.world.nodes.extend(own.map(|own| (self.here.name.clone(), own)));
    }

    /// The networks of a cluster that can be here, numbered for this host.
    fn shared_networks(
        &mut self,
        cluster: &Cluster,
        taken: &[ipnet::IpNet],
    ) -> BTreeMap<NetworkName, Network> {
        let mut accepted: BTreeMap<NetworkName, Network> = BTreeMap::new();
        let mut strange = Vec::new();
        for (name, network) in &cluster.networks {
            let known = self.world.networks.get(name);
            // What is here already stays, whatever somebody has put in its way since.
            let same = known.is_some_and(|k| Network { id: k.id, ..network.clone() } == *k);
            let problem = if same {
                None
            } else if network.vni.is_none() || network.name != *name {
                Some("its record has no number for the cluster, or another name".to_owned())
            } else if known.is_some_and(|k| k.vni.is_none()) {
                Some("this host has a network of that name for itself: remove one of the two".to_owned())
            } else if let Some(other) =
                accepted.values().find(|o| o.vni == network.vni || overlap(o, network))
            {
                Some(format!("it has the number or addresses of network '{}'", other.name))
            } else if let Some(own) =
                self.world.networks.values().filter(|o| o.vni.is_none()).find(|o| overlap(o, network))
            {
                Some(format!("its addresses overlap those of this host's network '{}'", own.name))
            } else {
                let overlapped = |t: &&ipnet::IpNet| network.subnets().any(|s| overlaps(s, **t));
                taken
                    .iter()
                    .find(overlapped)
                    .map(|t| format!("its addresses overlap {t}, which this host reaches already"))
            };
            match (problem, known) {
                (Some(problem), _) => {
                    strange.push(format!("network '{name}' of the cluster cannot be here: {problem}"));
                }
                (None, known) => {
                    let id = known.map(|k| k.id);
                    let id = id.map_or_else(|| self.free_id_beside(&accepted), Ok);
                    match id {
                        Ok(id) => {
                            accepted.insert(name.clone(), Network { id, ..network.clone() });
                        }
                        Err(error) => strange.push(error.to_string()),
                    }
                }
            }
        }
        self.strange.extend(strange);
        accepted
    }

    fn free_id_beside(
        &mut self,
        accepted: &BTreeMap<NetworkName, Network>,
    ) -> Result<weft_model::NetworkId, weft_model::api::Error> {
        let before = self.world.networks.clone();
        self.world.networks.extend(accepted.clone());
        let id = self.free_id();
        self.world.networks = before;
        id
    }

    /// Makes this host's networks the accepted ones; returns whether any changed.
    fn adopt_shared(
        &mut self,
        accepted: BTreeMap<NetworkName, Network>,
        blocks_changed: bool,
        own: Node,
    ) -> bool {
        let (mut writes, mut touched) = (Vec::new(), BTreeSet::new());
        let gone: Vec<NetworkName> = self
            .world
            .networks
            .values()
            .filter(|n| n.vni.is_some() && !accepted.contains_key(&n.name))
            .map(|n| n.name.clone())
            .collect();
        for name in gone {
            if self.world.workloads.keys().any(|id| id.network == name) {
                self.strange.push(format!(
                    "network '{name}' is no network of the cluster any more, and workloads here use it: detach them"
                ));
                continue;
            }
            self.world.networks.remove(&name);
            self.addresses.remove(&name);
            touched.insert(name.clone());
            writes.push(Write::RemoveNetwork(name));
        }
        for (name, network) in accepted {
            if self.world.networks.get(&name) != Some(&network) {
                touched.insert(name.clone());
                writes.push(Write::PutNetwork(network.clone()));
                self.world.networks.insert(name, network);
            }
        }
        self.world.nodes.insert(self.here.name.clone(), own);
        let shared: Vec<Network> =
            self.world.networks.values().filter(|n| n.vni.is_some()).cloned().collect();
        for network in shared {
            if blocks_changed || touched.contains(&network.name) {
                let kept = self
                    .addresses
                    .get_mut(&network.name)
                    .filter(|a| a.pools().iter().map(Pool::subnet).eq(network.subnets()));
                // What rests goes on resting, unless the network is another.
                if let Some(kept) = kept {
                    let own = self.world.nodes.get(&self.here.name);
                    kept.set_blocks(own.map(|own| own.blocks(&network.name)).unwrap_or_default());
                } else {
                    let pools = self.pools(&network);
                    self.addresses.insert(network.name.clone(), pools);
                }
            }
        }
        if !writes.is_empty()
            && let Err(error) = self.record(writes)
        {
            tracing::warn!(%error, "failed to record the cluster's networks");
        }
        !touched.is_empty()
    }

    /// The pools of a network on this host, with what its workloads hold.
    pub(super) fn pools(&self, network: &Network) -> Addresses {
        let own = self.world.nodes.get(&self.here.name);
        let blocks = |subnet: ipnet::IpNet| match (network.vni, own) {
            (None, _) => Pool::new(subnet),
            (Some(_), own) => {
                let blocks = own.map(|own| own.blocks(&network.name).to_vec()).unwrap_or_default();
                let same = |b: &ipnet::IpNet| b.addr().is_ipv4() == subnet.addr().is_ipv4();
                Pool::with_blocks(subnet, blocks.into_iter().filter(same).collect())
            }
        };
        let mut addresses =
            Addresses::with_pools(network.name.clone(), network.subnets().map(blocks).collect());
        for workload in self.world.workloads.values().filter(|w| w.id.network == network.name) {
            let held = addresses.own(&workload.addresses);
            if let Err(error) = addresses.restore(&workload.id, &held) {
                tracing::warn!(%error, id = %workload.id, "an attachment's addresses are in no block of this host");
            }
        }
        addresses
    }

    /// Other hosts that came, went or changed.
    fn changed_peers(&self, nodes: &BTreeMap<NodeName, Node>) -> BTreeSet<NodeName> {
        let others = |name: &&NodeName| **name != self.here.name;
        let differs = |name: &&NodeName| self.world.nodes.get(*name) != nodes.get(*name);
        nodes.keys().chain(self.world.nodes.keys()).filter(others).filter(differs).cloned().collect()
    }

    /// Makes the ways to these hosts what they are now, and touches nothing else.
    fn change_peers(&mut self, nodes: &BTreeMap<NodeName, Node>, changed: &BTreeSet<NodeName>) -> bool {
        let mut shared = false;
        for peer in changed.iter().filter_map(|name| self.plan.peers.get(name)) {
            shared |= self.claims.remove(peer);
        }
        let was = weft_dataplane::render_peers(&self.plan, changed);
        let own = self.world.nodes.get(&self.here.name).cloned().unwrap_or_else(|| Node::alone(0));
        for name in changed {
            match nodes.get(name) {
                Some(node) => self.world.nodes.insert(name.clone(), node.clone()),
                None => self.world.nodes.remove(name),
            };
            weft_plan::replan_peer(&mut self.plan, &self.here, &own, name, nodes.get(name));
        }
        for peer in changed.iter().filter_map(|name| self.plan.peers.get(name)) {
            shared |= self.claims.add(peer);
        }
        if shared {
            return self.sync();
        }
        let steps = weft_dataplane::steps(&weft_dataplane::render_peers(&self.plan, changed), &was.state);
        tracing::info!(hosts = changed.len(), changes = steps.len(), "other hosts changed");
        let refused = self.kernel.apply(&steps).into_iter().filter_map(Result::err).count();
        // What could not be changed piece by piece is compared as a whole.
        if refused == 0 { true } else { self.sync() }
    }
}

/// Writes so that it is there after a power loss: of a block that is given back nothing may be left here.
fn write_durably(path: &std::path::Path, text: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path)?;
    file.write_all(text)?;
    file.sync_all()
}

fn overlap(a: &Network, b: &Network) -> bool {
    a.subnets().any(|a| b.subnets().any(|b| overlaps(a, b)))
}
