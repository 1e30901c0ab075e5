//! Which blocks of a network's addresses a node takes, when it needs more, and which it can do without.
//!
//! Never says whose a block is: whoever shares the store commits that, by compare-and-swap.
//!
//! ```text
//!   10.119.0.0/16 ── 10.119.0.0/24  host1     each block: .0 none   .1 the host's own   .255 none
//!                 ├─ 10.119.1.0/24  host2     all blocks of a network have one length, so none overlap
//!                 ├─ 10.119.2.0/24  host1     taken when the first had less than a quarter left
//!                 └─ …              free
//! ```

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use weft_model::NetworkName;
use weft_model::api::{self, ErrorKind};

use super::number::{Family, bounds};
use super::pool::Pool;

/// Why a node cannot have a block. One line each; [`BlockError::hint`] says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// All blocks are taken.
    #[error(
        "network {network} has no block of addresses left: {subnet} makes {blocks} of /{length}, and {holders} hosts hold them"
    )]
    NoneLeft {
        /// The network.
        network: NetworkName,
        /// Its subnet.
        subnet: IpNet,
        /// How many blocks it makes.
        blocks: u64,
        /// The prefix length of each, in bits.
        length: u8,
        /// How many hosts hold them.
        holders: usize,
    },
    /// Blocks of this length do not fit the subnet.
    #[error("blocks of /{length} do not fit {subnet}: from /{shortest} to /{longest} do")]
    Length {
        /// The subnet.
        subnet: IpNet,
        /// What was asked for, in bits.
        length: u8,
        /// The largest block that fits, in bits.
        shortest: u8,
        /// The smallest that has room for a host and a workload, in bits.
        longest: u8,
    },
}

impl BlockError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            BlockError::NoneLeft { network, .. } => format!(
                "remove hosts that are gone for ever (`weft node rm NAME` gives their blocks back), or \
                 declare a network with more addresses and move there: `weft network create {network}2 --subnet \
                 CIDR`; `block` in the agent's configuration makes smaller blocks of it"
            ),
            BlockError::Length { .. } => {
                "choose another `block` in the agent's configuration, or a larger --subnet".into()
            }
        }
    }
}

impl From<BlockError> for api::Error {
    fn from(error: BlockError) -> api::Error {
        let kind = match error {
            BlockError::NoneLeft { .. } => ErrorKind::Exhausted,
            BlockError::Length { .. } => ErrorKind::Invalid,
        };
        api::Error::new(kind, error.to_string()).hint(error.hint())
    }
}

/// The length of a subnet's blocks unless somebody chose another, in bits: /24 and /64 where the subnet has
/// room for many of them, otherwise what makes 16 (IPv4) or 65,536 (IPv6) of it.
#[must_use]
pub fn default_length(subnet: IpNet) -> u8 {
    let prefix = subnet.prefix_len();
    let (usual, more, longest) = if subnet.addr().is_ipv4() { (24, 4, 28) } else { (64, 16, 120) };
    usual.max(prefix.saturating_add(more)).min(longest).max(prefix)
}

/// Whether a subnet can be cut into blocks of this length.
///
/// # Errors
/// [`BlockError::Length`].
pub fn check_length(subnet: IpNet, length: u8) -> Result<(), BlockError> {
    let (shortest, longest) = (subnet.prefix_len(), subnet.max_prefix_len() - 2);
    if (shortest..=longest).contains(&length) {
        return Ok(());
    }
    Err(BlockError::Length { subnet, length, shortest, longest })
}

/// The block that an address lies in.
#[must_use]
pub fn containing(address: IpAddr, length: u8) -> Option<IpNet> {
    IpNet::new(address, length).ok().map(|net| net.trunc())
}

/// The first block of a subnet that is not `taken`, after `skip` others: two nodes that race for the same
/// try different ones the next time. `None` when all are taken.
#[must_use]
pub fn choose(subnet: IpNet, length: u8, taken: &BTreeSet<IpNet>, skip: u64) -> Option<IpNet> {
    let count = count(subnet, length);
    let nth = |n: u64| {
        let (first, _) = bounds(subnet);
        let size = 1u128 << (Family::of(subnet.addr()).bits() - length);
        let address = Family::of(subnet.addr()).address(first + u128::from(n) * size);
        IpNet::new(address, length).ok()
    };
    // Among as many as are taken and one more, one is free; past the skipped ones, or else from the start.
    let tries = taken.len() as u64 + 1 + skip;
    let free: Vec<IpNet> = (0..count.min(tries)).filter_map(nth).filter(|b| !taken.contains(b)).collect();
    let last = free.len().checked_sub(1)?;
    free.get(usize::try_from(skip).unwrap_or(last).min(last)).copied()
}

/// How many blocks of this length a subnet makes; saturates.
#[must_use]
pub fn count(subnet: IpNet, length: u8) -> u64 {
    1u64.checked_shl(u32::from(length.saturating_sub(subnet.prefix_len()))).unwrap_or(u64::MAX)
}

/// What a node should do about its blocks of one subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing.
    None,
    /// Take one more: less than a quarter of a block is free.
    More,
    /// This one can be given back: nothing in it is held or rests, and half a block stays free without it.
    Less(IpNet),
}

/// What the state of a pool calls for. Its first block is never given back: the host's own address is in it.
#[must_use]
pub fn demand(pool: &Pool) -> Demand {
    let uses: Vec<(IpNet, (u64, u64, u64))> =
        pool.blocks().iter().map(|block| (*block, pool.use_of(*block))).collect();
    let room = |(used, resting, usable): (u64, u64, u64)| usable.saturating_sub(used + resting);
    let free = uses.iter().fold(0u64, |sum, (_, u)| sum.saturating_add(room(*u)));
    let Some(whole) = uses.first().map(|(_, (_, _, usable))| *usable) else { return Demand::More };
    if free < whole.div_ceil(4) {
        return Demand::More;
    }
    let idle = |(_, (used, resting, usable)): &&(IpNet, (u64, u64, u64))| {
        *used == 0 && *resting == 0 && free.saturating_sub(*usable) >= whole.div_ceil(2)
    };
    uses.iter().skip(1).rev().find(idle).map_or(Demand::None, |(block, _)| Demand::Less(*block))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn usual_lengths_fit_their_subnets() {
        for (subnet, length) in [
            ("10.0.0.0/8", 24),
            ("10.119.0.0/16", 24),
            ("10.0.0.0/22", 26),
            ("10.0.0.0/24", 28),
            ("10.0.0.0/27", 28),
            ("10.0.0.0/29", 29),
            ("fd00::/48", 64),
            ("fd00::/64", 80),
            ("fd00::/112", 120),
            ("fd00::/124", 124),
        ] {
            assert_eq!(default_length(net(subnet)), length, "{subnet}");
            assert_eq!(check_length(net(subnet), length), Ok(()), "{subnet}");
        }
        for (subnet, length) in [("10.0.0.0/16", 15), ("10.0.0.0/16", 31), ("fd00::/64", 127)] {
            assert!(check_length(net(subnet), length).is_err(), "{subnet} /{length}");
        }
    }

    #[test]
    fn too_small_a_range_is_named_with_what_to_do() {
        let error = BlockError::NoneLeft {
            network: "app".parse().unwrap(),
            subnet: net("10.0.0.0/24"),
            blocks: 16,
            length: 28,
            holders: 16,
        };
        let error = api::Error::from(error);
        assert_eq!(error.kind, ErrorKind::Exhausted);
        assert!(error.message.contains("10.0.0.0/24 makes 16 of /28"), "{error}");
        assert!(error.hint.unwrap().contains("weft node rm"));
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_free_and_inside(taken in prop::collection::btree_set(0u64..16, 0..=16), skip in 0u64..20) {
            for (subnet, length) in [(net("10.0.0.0/24"), 28), (net("fd00::/60"), 64)] {
                let block = |n: u64| choose(subnet, length, &BTreeSet::new(), n).unwrap();
                let all: BTreeSet<IpNet> = (0..16).map(block).collect();
                prop_assert_eq!(all.len(), 16, "sixteen blocks that differ");
                let held: BTreeSet<IpNet> = taken.iter().map(|n| block(*n)).collect();
                match choose(subnet, length, &held, skip) {
                    Some(found) => prop_assert!(all.contains(&found) && !held.contains(&found)),
                    None => prop_assert_eq!(held.len(), 16, "only when all are taken there is none"),
                }
            }
        }

        /// Whatever is attached and detached: one more is taken before nothing is left, and giving back
        /// never asks for more at once.
        #[test]
        fn demand_does_not_swing(used in prop::collection::btree_set(1u8..=254, 0..200), blocks in 1usize..4) {
            let subnet = net("10.0.0.0/22");
            let held: Vec<IpNet> = (0..blocks as u64).map(|n| choose(subnet, 24, &BTreeSet::new(), n).unwrap()).collect();
            let mut pool = Pool::with_blocks(subnet, held.clone());
            for (n, last) in used.iter().enumerate() {
                let IpAddr::V4(base) = held[n % held.len()].addr() else { unreachable!() };
                let id = weft_model::AttachmentId {
                    network: "app".parse().unwrap(), container: format!("c{n}").parse().unwrap(), ifname: "eth0".parse().unwrap() };
                if *last > 1 {
                    pool.take((u32::from(base) + u32::from(*last)).into(), id.into());
                }
            }
            if let Demand::Less(block) = demand(&pool) {
                prop_assert!(pool.use_of(block).0 == 0 && block != held[0]);
                pool.set_blocks(held.into_iter().filter(|b| *b != block).collect());
                prop_assert_ne!(demand(&pool), Demand::More, "what was given back is wanted again");
            }
        }
    }
}
