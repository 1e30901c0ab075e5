//! The addresses of one subnet on this node: which are reserved, used, resting and free.
//!
//! Never chooses between families and never knows what a range in a request looks like.
//! Every operation costs the logarithm of the addresses in use; free space costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use weft_model::AttachmentId;
use weft_model::api::PoolStatus;
use weft_model::network::gateway;

use super::error::Role;
use super::number::{Family, bounds, number};
use super::runs::Runs;

/// How long a freed address is kept back while others are free, in seconds: late packets and stale
/// neighbour or conntrack entries of the old holder must not meet the new one.
pub const REST: u64 = 30;

/// The addresses of one subnet that this node gives out.
#[derive(Clone, Debug)]
pub struct Pool {
    subnet: IpNet,
    blocks: Vec<IpNet>,
    usable: u64,
    used: BTreeMap<u128, Arc<AttachmentId>>,
    /// Freed addresses with the second they were freed at, and the same in the order of freeing.
    resting: BTreeMap<u128, u64>,
    queue: BTreeSet<(u64, u128)>,
    free: Runs,
    /// Where the next search begins (next fit): a freed address comes last by itself.
    cursor: u128,
}

/// What becomes of an address that is asked for by name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing<'a> {
    /// Not in the subnet.
    Outside,
    /// In the subnet, and in no block of this node.
    Elsewhere,
    Reserved(Role),
    Used(&'a AttachmentId),
    Available,
}

impl Pool {
    /// A pool over the whole of `subnet`.
    #[must_use]
    pub fn new(subnet: IpNet) -> Pool {
        Pool::with_blocks(subnet, vec![subnet.trunc()])
    }

    /// A pool over this node's `blocks` of `subnet`. Blocks of another family or outside are left out.
    #[must_use]
    pub fn with_blocks(subnet: IpNet, blocks: Vec<IpNet>) -> Pool {
        let subnet = subnet.trunc();
        let mut pool = Pool {
            subnet,
            blocks: Vec::new(),
            usable: 0,
            used: BTreeMap::new(),
            resting: BTreeMap::new(),
            queue: BTreeSet::new(),
            free: Runs::default(),
            cursor: bounds(subnet).0,
        };
        pool.set_blocks(blocks);
        pool
    }

    /// Makes `blocks` what this node gives addresses from. Who holds an address goes on holding it, also
    /// where its block is gone; what rests in a block that is gone is forgotten.
    pub fn set_blocks(&mut self, blocks: Vec<IpNet>) {
        self.blocks = blocks;
        let subnet = self.subnet;
        self.blocks.retain(|block| subnet.contains(block));
        self.free = Runs::default();
        for block in &self.blocks {
            let (first, last) = bounds(*block);
            self.free.insert(first, last);
            for edge in [first, number(gateway(*block).addr()), last] {
                if reserved(*block, edge).is_some() {
                    self.free.remove(edge);
                }
            }
        }
        let (first, last) = bounds(subnet);
        for edge in [first, number(gateway(subnet).addr()), last] {
            if reserved(subnet, edge).is_some() {
                self.free.remove(edge);
            }
        }
        self.usable = saturate(self.free.count_in(first, last));
        for n in self.used.keys() {
            self.free.remove(*n);
        }
        let resting = std::mem::take(&mut self.resting);
        self.queue.clear();
        for (n, at) in resting {
            self.rest(n, at);
        }
    }

    /// How many addresses of one of its blocks workloads hold, how many rest, and how many it has for them.
    #[must_use]
    pub fn use_of(&self, block: IpNet) -> (u64, u64, u64) {
        let (first, last) = bounds(block);
        self.count(first, last)
    }

    /// The subnet.
    #[must_use]
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// The parts of it that this node gives addresses from.
    #[must_use]
    pub fn blocks(&self) -> &[IpNet] {
        &self.blocks
    }

    /// How many addresses workloads could have in all; saturates.
    #[must_use]
    pub fn usable(&self) -> u64 {
        self.usable
    }

    /// Who holds `address`.
    #[must_use]
    pub fn holder(&self, address: IpAddr) -> Option<&AttachmentId> {
        (Family::of(address) == self.family()).then(|| self.used.get(&number(address)))?.map(AsRef::as_ref)
    }

    /// The figures for people. Addresses whose rest is over at second `now` count as free.
    #[must_use]
    pub fn status(&self, now: u64) -> PoolStatus {
        let resting = self.queue.iter().rev().take_while(|(at, _)| !rested(*at, now)).count();
        PoolStatus {
            subnet: self.subnet,
            used: self.used.len() as u64,
            resting: resting as u64,
            usable: self.usable,
        }
    }

    pub(super) fn family(&self) -> Family {
        Family::of(self.subnet.addr())
    }

    /// Ends the rest of every address that has rested long enough at second `now`.
    pub(super) fn wake(&mut self, now: u64) {
        while let Some(&(at, n)) = self.queue.first().filter(|(at, _)| rested(*at, now)) {
            self.queue.remove(&(at, n));
            self.resting.remove(&n);
            self.free.insert(n, n);
        }
    }

    /// The next free address in `low..=high`. Changes nothing.
    pub(super) fn pick_free(&self, low: u128, high: u128) -> Option<u128> {
        let from = if (low..=high).contains(&self.cursor) { self.cursor } else { low };
        self.free.first_in(from, high).or_else(|| self.free.first_in(low, high))
    }

    /// The address in any of `places` that has rested longest. Changes nothing. Immediate for the whole
    /// subnet; with narrower places it may look through the resting addresses one by one.
    pub(super) fn pick_resting(&self, places: &[(u128, u128)]) -> Option<u128> {
        let wanted = |n: u128| places.iter().any(|(low, high)| (*low..=*high).contains(&n));
        self.queue.iter().map(|(_, n)| *n).find(|n| wanted(*n))
    }

    /// How an address that was asked for by name stands.
    /// With `recorded` it is one that somebody has had: then only what the whole subnet reserves counts.
    pub(super) fn standing(&self, address: IpAddr, recorded: bool) -> Standing<'_> {
        if !self.subnet.contains(&address) {
            return Standing::Outside;
        }
        let n = number(address);
        let role = if recorded { reserved(self.subnet, n) } else { self.role(n) };
        match (role, self.used.get(&n)) {
            (Some(role), _) => Standing::Reserved(role),
            (None, None) if !self.blocks.iter().any(|block| block.contains(&address)) => Standing::Elsewhere,
            (None, Some(by)) => Standing::Used(by),
            (None, None) => Standing::Available,
        }
    }

    /// Gives `n`, which [`Pool::pick`] or [`Pool::standing`] found available, to `id`.
    pub(super) fn take(&mut self, n: u128, id: Arc<AttachmentId>) {
        if let Some(at) = self.resting.remove(&n) {
            self.queue.remove(&(at, n));
        }
        self.free.remove(n);
        self.used.insert(n, id);
    }

    /// Lets the next search begin after `n`.
    pub(super) fn move_on(&mut self, n: u128) {
        let (first, last) = bounds(self.subnet);
        self.cursor = if n < last { n + 1 } else { first };
    }

    /// Takes `n` back at second `now`; it rests from then on.
    pub(super) fn give_back(&mut self, n: u128, now: u64) {
        if self.used.remove(&n).is_some() {
            self.rest(n, now);
        }
    }

    /// Lets an address that nobody holds rest since second `at`; others are left as they are.
    pub(super) fn rest(&mut self, n: u128, at: u64) {
        if self.free.remove(n) || (!self.used.contains_key(&n) && self.gives(n)) {
            if let Some(before) = self.resting.insert(n, at) {
                self.queue.remove(&(before, n));
            }
            self.queue.insert((at, n));
        }
    }

    /// Used, resting and usable addresses in `low..=high`.
    pub(super) fn count(&self, low: u128, high: u128) -> (u64, u64, u64) {
        if low > high {
            return (0, 0, 0);
        }
        let used = self.used.range(low..=high).count() as u64;
        let resting = self.resting.range(low..=high).count() as u64;
        let free = saturate(self.free.count_in(low, high));
        (used, resting, free.saturating_add(used).saturating_add(resting))
    }

    fn gives(&self, n: u128) -> bool {
        let address = self.family().address(n);
        self.blocks.iter().any(|block| block.contains(&address)) && self.role(n).is_none()
    }

    /// What `n` is kept for in the subnet or in the block that it lies in, if anything.
    fn role(&self, n: u128) -> Option<Role> {
        let address = self.family().address(n);
        let block = self.blocks.iter().find(|block| block.contains(&address));
        reserved(self.subnet, n).or_else(|| reserved(*block?, n))
    }
}

/// Whether an address freed at second `at` has rested long enough at second `now`. One more than
/// [`REST`], because a difference of whole seconds may hide almost one.
fn rested(at: u64, now: u64) -> bool {
    now > at.saturating_add(REST)
}

/// What `n` is kept for in `subnet`, if anything.
fn reserved(subnet: IpNet, n: u128) -> Option<Role> {
    let (first, last) = bounds(subnet);
    let v4 = Family::of(subnet.addr()) == Family::V4;
    match n {
        n if n == number(gateway(subnet).addr()) => Some(Role::Gateway),
        n if n == first => Some(if v4 { Role::Network } else { Role::Anycast }),
        n if n == last && v4 => Some(Role::Broadcast),
        _ => None,
    }
}

fn saturate(n: u128) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
