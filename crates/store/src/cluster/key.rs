//! The keys of the shared store, below its prefix.
//!
//! Never trusts what it parses: every part of a key is a checked name, address or nothing at all.
//!
//! ```text
//!   nodes/NAME                              what a host is; stays when the host goes
//!   alive/NAME                              that it runs now; bound to its lease
//!   networks/NAME                           a network
//!   history                                 which network numbers (VNI) were ever given
//!   blocks/NETWORK/10.119.3.0-24            whose the addresses are
//!   workloads/NODE/NETWORK/CONTAINER/IF     a workload, for the other hosts' sake
//!   tokens/ID                               an invitation to join; bound to a lease
//!   trust                                   the certificates of the authorities that are trusted
//! ```

use std::fmt;

use ipnet::IpNet;
use weft_model::{AttachmentId, NetworkName, NodeName};

/// A key, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// What a host is.
    Node(NodeName),
    /// That a host runs.
    Alive(NodeName),
    /// A network.
    Network(NetworkName),
    /// Which network numbers were given.
    History,
    /// Whose a block of a network's addresses is.
    Block(NetworkName, IpNet),
    /// A workload of a host.
    Workload(NodeName, AttachmentId),
    /// An invitation to join.
    Token(String),
    /// The certificates of the authorities that are trusted.
    Trust,
}

impl Key {
    /// The beginning of the keys of all workloads of a host.
    #[must_use]
    pub fn workloads_of(node: &NodeName) -> String {
        format!("workloads/{node}/")
    }

    /// Takes a key apart; `None` for one that no weft of this version writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Key> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            ["nodes", name] => Some(Key::Node(name.parse().ok()?)),
            ["alive", name] => Some(Key::Alive(name.parse().ok()?)),
            ["networks", name] => Some(Key::Network(name.parse().ok()?)),
            ["history"] => Some(Key::History),
            ["blocks", network, block] => Some(Key::Block(network.parse().ok()?, parse_block(block)?)),
            ["workloads", node, network, container, ifname] => {
                let id = AttachmentId {
                    network: network.parse().ok()?,
                    container: container.parse().ok()?,
                    ifname: ifname.parse().ok()?,
                };
                Some(Key::Workload(node.parse().ok()?, id))
            }
            ["tokens", id] if is_token_id(id) => Some(Key::Token((*id).to_owned())),
            ["trust"] => Some(Key::Trust),
            _ => None,
        }
    }
}

/// Only the one way of writing a block is its key: two keys must not name the same addresses.
fn parse_block(text: &str) -> Option<IpNet> {
    let (address, length) = text.rsplit_once('-')?;
    let block = IpNet::new(address.parse().ok()?, length.parse().ok()?).ok()?;
    (block.trunc() == block && block_text(&block) == text).then_some(block)
}

fn block_text(block: &IpNet) -> String {
    format!("{}-{}", block.addr(), block.prefix_len())
}

fn is_token_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric())
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Node(name) => write!(f, "nodes/{name}"),
            Key::Alive(name) => write!(f, "alive/{name}"),
            Key::Network(name) => write!(f, "networks/{name}"),
            Key::History => f.write_str("history"),
            Key::Block(network, block) => write!(f, "blocks/{network}/{}", block_text(block)),
            Key::Workload(node, id) => write!(f, "workloads/{node}/{id}"),
            Key::Token(id) => write!(f, "tokens/{id}"),
            Key::Trust => f.write_str("trust"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_and_read_alike() {
        for text in [
            "nodes/host1",
            "alive/host1",
            "networks/default",
            "history",
            "blocks/default/10.119.3.0-24",
            "blocks/default/fd00:0:0:1::-64",
            "workloads/host1/default/c1/eth0",
            "tokens/abc123",
            "trust",
        ] {
            assert_eq!(Key::parse(text).map(|k| k.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_makes_no_sense_is_no_key() {
        for text in [
            "",
            "nodes/",
            "nodes/../x",
            "nodes/a/b",
            "blocks/default/10.119.3.1-24",
            "blocks/default/10.119.3.0-024",
            "blocks/default/10.119.3.0",
            "blocks/default/fd00:0:0:1:0::-64",
            "workloads/host1/default/c1",
            "tokens/a-b",
            "history/1",
        ] {
            assert_eq!(Key::parse(text), None, "{text}");
        }
    }
}
