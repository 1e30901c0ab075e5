//! What the keys of the shared store say.
//!
//! Never believes a value that makes no sense, and never falls over one: it is listed by its key, and what
//! it was before counts no longer.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use weft_model::{AttachmentId, NetworkName, Node, NodeName};

use super::record::{Alive, BlockRecord, NetworkHistory, NetworkRecord, Summary};
use super::{Key, Snapshot};

/// What the keys say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// Hosts, also those that do not run. Their `blocks` are empty here: see [`View::nodes_with_blocks`].
    pub nodes: BTreeMap<NodeName, Node>,
    /// Which of them run.
    pub alive: BTreeMap<NodeName, Alive>,
    /// Networks.
    pub networks: BTreeMap<NetworkName, NetworkRecord>,
    /// Which network numbers were given.
    pub history: NetworkHistory,
    /// Whose the blocks of addresses are.
    pub blocks: BTreeMap<NetworkName, BTreeMap<IpNet, BlockRecord>>,
    /// Workloads of all hosts.
    pub workloads: BTreeMap<NodeName, BTreeMap<AttachmentId, Summary>>,
    /// The certificates of the authorities that are trusted, in PEM; empty if that is nobody's business here.
    pub trust: String,
    /// Keys that make no sense, with what is wrong.
    pub unreadable: BTreeMap<String, String>,
}

impl View {
    /// What a snapshot says.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> View {
        let mut view = View::default();
        for (key, entry) in &snapshot.entries {
            view.apply(key, Some(&entry.value));
        }
        view
    }

    /// Takes a change of one key in; `None` is its deletion.
    pub fn apply(&mut self, key: &str, value: Option<&[u8]>) {
        self.unreadable.remove(key);
        let Some(parsed) = Key::parse(key) else {
            if value.is_some() {
                self.unreadable.insert(key.to_owned(), "no key of this version of weft looks so".to_owned());
            }
            return;
        };
        if let Err(why) = self.set(parsed, value) {
            self.unreadable.insert(key.to_owned(), why);
        }
    }

    fn set(&mut self, key: Key, value: Option<&[u8]>) -> Result<(), String> {
        match key {
            Key::Node(name) => keep(&mut self.nodes, name, value, |_, _| Ok(())),
            Key::Alive(name) => keep(&mut self.alive, name, value, |_, _| Ok(())),
            Key::Network(name) => keep(&mut self.networks, name, value, check_network),
            Key::History => {
                self.history = NetworkHistory::default();
                if let Some(value) = value {
                    self.history = decode(value)?;
                }
                Ok(())
            }
            Key::Block(network, block) => {
                let of_network = self.blocks.entry(network.clone()).or_default();
                let kept = keep(of_network, block, value, |_, _| Ok(()));
                if of_network.is_empty() {
                    self.blocks.remove(&network);
                }
                kept
            }
            Key::Workload(node, id) => {
                let of_node = self.workloads.entry(node.clone()).or_default();
                let kept = keep(of_node, id, value, |_, _| Ok(()));
                if of_node.is_empty() {
                    self.workloads.remove(&node);
                }
                kept
            }
            // Secrets of their own: nobody but the one who serves joining hosts reads them.
            Key::Token(_) => Ok(()),
            Key::Trust => {
                self.trust = String::new();
                if let Some(value) = value {
                    self.trust = decode(value)?;
                }
                Ok(())
            }
        }
    }

    /// A node's blocks of each network, in the order in which it claimed them.
    #[must_use]
    pub fn blocks_of(&self, node: &NodeName) -> BTreeMap<NetworkName, Vec<IpNet>> {
        let mut blocks = BTreeMap::new();
        for (network, of_network) in &self.blocks {
            let mut own: Vec<(u32, IpNet)> = of_network
                .iter()
                .filter(|(_, record)| record.node.as_ref() == Some(node))
                .map(|(block, record)| (record.order, *block))
                .collect();
            own.sort_unstable();
            if !own.is_empty() {
                blocks.insert(network.clone(), own.into_iter().map(|(_, block)| block).collect());
            }
        }
        blocks
    }

    /// The hosts that run, with their blocks.
    #[must_use]
    pub fn nodes_with_blocks(&self) -> BTreeMap<NodeName, Node> {
        type Ordered = BTreeMap<NetworkName, Vec<(u32, IpNet)>>;
        let mut blocks: BTreeMap<&NodeName, Ordered> = BTreeMap::new();
        for (network, of_network) in &self.blocks {
            for (block, record) in of_network {
                if let Some(node) = &record.node {
                    let of_node = blocks.entry(node).or_default();
                    of_node.entry(network.clone()).or_default().push((record.order, *block));
                }
            }
        }
        let alive = self.nodes.iter().filter(|(name, _)| self.alive.contains_key(*name));
        alive
            .map(|(name, node)| {
                let mut node = node.clone();
                for (network, mut own) in blocks.remove(name).unwrap_or_default() {
                    own.sort_unstable();
                    node.blocks.insert(network, own.into_iter().map(|(_, block)| block).collect());
                }
                (name.clone(), node)
            })
            .collect()
    }
}

/// The name inside must be the key's, and only whole blocks can be given out: a record is believed as a
/// whole or not at all.
fn check_network(name: &NetworkName, record: &NetworkRecord) -> Result<(), String> {
    let network = &record.network;
    if network.name != *name {
        return Err(format!("it calls itself '{}'", network.name));
    }
    if network.vni.is_none() {
        return Err("it has no number (vni)".to_owned());
    }
    if network.subnets().next().is_none() {
        return Err("it has no subnet".to_owned());
    }
    for subnet in network.subnets() {
        if subnet.trunc() != subnet {
            return Err(format!("{subnet} has host bits set"));
        }
        let length = record.block_length(subnet);
        if length < subnet.prefix_len() || length > subnet.max_prefix_len() - 2 {
            return Err(format!("blocks of /{length} do not fit {subnet}"));
        }
    }
    Ok(())
}

fn keep<K: Ord, V: DeserializeOwned>(
    map: &mut BTreeMap<K, V>,
    key: K,
    value: Option<&[u8]>,
    check: impl Fn(&K, &V) -> Result<(), String>,
) -> Result<(), String> {
    map.remove(&key);
    if let Some(value) = value {
        let value = decode(value)?;
        check(&key, &value)?;
        map.insert(key, value);
    }
    Ok(())
}

fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    serde_json::from_slice(value).map_err(|e| e.to_string())
}
