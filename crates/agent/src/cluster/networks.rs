//! Networks of the whole cluster, and hosts that are gone for ever.
//!
//! Never changes two networks at once: each change also changes the key `history`, which decides.

use std::collections::BTreeMap;

use ipnet::IpNet;
use weft_model::api::{Error, ErrorKind, Member as Listed};
use weft_model::{Network, NetworkName, NodeName, Vni};
use weft_plan::address::{block, overlaps};
use weft_store::cluster::{
    BlockRecord, ClusterError, Condition, Key, NetworkHistory, NetworkRecord, Op, TRANSACTION_LIMIT,
};

use super::member::{Host, Member, json};

/// What became of an order.
pub(crate) enum Done {
    Yes,
    /// The store has changed meanwhile: try again when that is known.
    Again,
}

fn invalid(message: String, hint: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message).hint(hint)
}

/// The record of a network, with the lengths of its blocks; `wish` is a length somebody chose.
fn record(network: Network, wish: Option<u8>) -> Result<NetworkRecord, Error> {
    let length = |subnet: Option<IpNet>| -> Result<u8, Error> {
        let Some(subnet) = subnet else { return Ok(0) };
        let length =
            wish.filter(|_| subnet.addr().is_ipv4()).unwrap_or_else(|| block::default_length(subnet));
        block::check_length(subnet, length).map_err(Error::from)?;
        Ok(length)
    };
    let (block4, block6) = (length(network.ipv4.map(IpNet::V4))?, length(network.ipv6.map(IpNet::V6))?);
    Ok(NetworkRecord { network, block4, block6 })
}

impl Member {
    fn history(&self) -> Condition {
        let key = Key::History.to_string();
        match self.mirror.revision_of(&key) {
            None => Condition::Absent(key),
            Some(revision) => Condition::Unchanged(key, revision),
        }
    }

    /// In a cluster that has never had a network: this host's become the cluster's.
    pub(super) fn found_networks(&mut self, host: &mut impl Host) -> Result<(), ClusterError> {
        if self.mirror.revision_of(&Key::History.to_string()).is_some() {
            return Ok(());
        }
        let mut changes = Vec::new();
        let mut next_vni = 1;
        for network in host.founding_networks() {
            let vni = Vni::try_from(next_vni).ok();
            let Ok(record) = record(Network { vni, ..network }, None) else { continue };
            changes.push(Op::put(&Key::Network(record.network.name.clone()), json(&record)));
            next_vni += 1;
        }
        if changes.is_empty() {
            return Ok(());
        }
        changes.push(Op::put(&Key::History, json(&NetworkHistory { next_vni })));
        if self.commit(vec![self.history()], changes)?.is_some() {
            tracing::info!(networks = next_vni - 1, "this host's networks are the cluster's now");
            self.tell(host);
        }
        Ok(())
    }

    /// Declares a network for all hosts. `wish` is the length of its IPv4 blocks, if somebody chose it.
    pub(crate) fn create_network(&mut self, network: &Network, wish: Option<u8>) -> Result<Done, Error> {
        let (name, view) = (&network.name, self.mirror.view());
        let unreadable = view.unreadable.contains_key(&Key::Network(name.clone()).to_string());
        if view.networks.contains_key(name) || unreadable {
            return Err(Error::new(
                ErrorKind::Exists,
                format!("network '{name}' exists in the cluster already"),
            )
            .hint(format!("`weft network inspect {name}` shows it")));
        }
        for other in view.networks.values().map(|r| &r.network) {
            for subnet in network.subnets() {
                if let Some(taken) = other.subnets().find(|s| overlaps(*s, subnet)) {
                    let message =
                        format!("{subnet} overlaps {taken}, which belongs to network '{}'", other.name);
                    return Err(invalid(message, "choose another --subnet"));
                }
            }
        }
        let number = view.history.next_vni.max(1);
        let vni = Vni::try_from(number).map_err(|e| {
            Error::new(ErrorKind::Exhausted, format!("all network numbers were given: {e:?}"))
        })?;
        let record = record(Network { vni: Some(vni), ..network.clone() }, wish)?;
        let changes = vec![
            Op::put(&Key::Network(name.clone()), json(&record)),
            Op::put(&Key::History, json(&NetworkHistory { next_vni: number + 1 })),
        ];
        let absent = Condition::Absent(Key::Network(name.clone()).to_string());
        self.order(vec![self.history(), absent], changes)
    }

    /// Removes a network that no workload of any host uses, with its blocks.
    pub(crate) fn remove_network(&mut self, name: &NetworkName) -> Result<Done, Error> {
        let (key, view) = (Key::Network(name.clone()).to_string(), self.mirror.view());
        let Some(revision) = self.mirror.revision_of(&key) else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("there is no network '{name}' in the cluster"),
            )
            .hint("`weft network ls` shows those there are"));
        };
        let mut users = Vec::new();
        for (node, workloads) in &view.workloads {
            users.extend(
                workloads
                    .keys()
                    .filter(|id| id.network == *name)
                    .map(|id| format!("{} on {node}", id.container)),
            );
        }
        if !users.is_empty() {
            let (some, more) = (users[..users.len().min(3)].join(", "), users.len().saturating_sub(3));
            let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
            return Err(Error::new(ErrorKind::Exists, format!("network '{name}' is used by {some}{rest}"))
                .hint("detach them first"));
        }
        let history = NetworkHistory { next_vni: view.history.next_vni };
        let changes = vec![
            Op::Delete(key.clone()),
            Op::DeleteBelow(format!("blocks/{name}/")),
            Op::put(&Key::History, json(&history)),
        ];
        self.order(vec![self.history(), Condition::Unchanged(key, revision)], changes)
    }

    /// Removes a host that is gone for ever: its record, its blocks, its workloads.
    pub(crate) fn remove_node(&mut self, name: &NodeName) -> Result<Done, Error> {
        let view = self.mirror.view();
        let key = Key::Node(name.clone()).to_string();
        let blocks = view.blocks_of(name);
        if self.mirror.revision_of(&key).is_none() && blocks.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no host '{name}' in the cluster"))
                .hint("`weft node ls` shows those there are"));
        }
        let alive = Key::Alive(name.clone()).to_string();
        if self.mirror.revision_of(&alive).is_some() {
            return Err(Error::new(ErrorKind::Exists, format!("host '{name}' runs, or did so a moment ago"))
                .hint(format!(
                    "stop its agent for good, wait {} s, and try again: its addresses go to others",
                    self.times.lease.as_secs()
                )));
        }
        let mut changes = vec![Op::Delete(key), Op::DeleteBelow(Key::workloads_of(name))];
        let held = blocks.iter().flat_map(|(network, blocks)| blocks.iter().map(move |b| (network, b)));
        changes.extend(held.map(|(network, b)| Op::Delete(Key::Block(network.clone(), *b).to_string())));
        // It must not come back in this very moment.
        let gone = Condition::Absent(alive);
        let (first, rest) = changes.split_at(changes.len().min(90));
        for more in rest.chunks(90) {
            self.order(vec![gone.clone()], more.to_vec())?;
        }
        self.order(vec![gone], first.to_vec())
    }

    /// Takes this host out of the cluster. It gives no address of it any more: its blocks rest, then they are free.
    pub(crate) fn leave(&mut self) -> Result<Done, Error> {
        let rest = self.store.grant(self.times.quarantine)?;
        let blocks = self.mirror.view().blocks_of(&self.name);
        let held = blocks.iter().flat_map(|(network, blocks)| blocks.iter().map(move |b| (network, b)));
        let rests = held.map(|(network, b)| Op::Put {
            key: Key::Block(network.clone(), *b).to_string(),
            value: json(&BlockRecord { node: None, order: 0 }),
            lease: Some(rest),
        });
        let mut changes: Vec<Op> = rests.collect();
        changes.push(Op::DeleteBelow(Key::workloads_of(&self.name)));
        changes.push(Op::Delete(Key::Node(self.name.clone()).to_string()));
        for some in changes.chunks(TRANSACTION_LIMIT - 1) {
            if let Done::Again = self.order(Vec::new(), some.to_vec())? {
                return Ok(Done::Again);
            }
        }
        // Last, for all before depended on it.
        if let Some((lease, _)) = self.lease.take() {
            self.store.revoke(lease)?;
        }
        self.fence = None;
        Ok(Done::Yes)
    }

    fn order(&mut self, conditions: Vec<Condition>, changes: Vec<Op>) -> Result<Done, Error> {
        if self.fence.is_none() {
            return Err(Error::new(ErrorKind::TryAgain, "this host does not take part in the cluster yet")
                .hint("`weft status` says why"));
        }
        Ok(if self.commit(conditions, changes)?.is_some() { Done::Yes } else { Done::Again })
    }

    /// All hosts, for people.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let view = self.mirror.view();
        let mut blocks: BTreeMap<&NodeName, Vec<IpNet>> = BTreeMap::new();
        for (block, record) in view.blocks.values().flatten() {
            if let Some(node) = &record.node {
                blocks.entry(node).or_default().push(*block);
            }
        }
        let names =
            view.nodes.keys().chain(blocks.keys().copied()).collect::<std::collections::BTreeSet<_>>();
        names
            .into_iter()
            .map(|name| Listed {
                name: name.clone(),
                addresses: view.nodes.get(name).map(|n| n.addresses.clone()).unwrap_or_default(),
                alive: view.alive.contains_key(name),
                version: view.alive.get(name).map(|a| a.version.clone()).unwrap_or_default(),
                blocks: blocks.get(name).cloned().unwrap_or_default(),
                workloads: view.workloads.get(name).map_or(0, BTreeMap::len),
            })
            .collect()
    }
}
