//! The addresses of one network on this node: one pool per family, and who holds what.
//!
//! Never gives half: a request gets one address of every family of the network, or changes nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use weft_model::api::PoolStatus;
use weft_model::{AddressRange, AttachmentId, Network, NetworkName};

use super::error::AddressError;
use super::number::{Family, bounds, number};
use super::pool::{Pool, Standing};
use super::range::{Wanted, wanted};

/// What an attachment asks for. Without addresses and ranges the choice is weft's.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Who asks.
    pub id: &'a AttachmentId,
    /// Addresses it wants, at most one per family (CNI capability `ips`).
    pub ips: &'a [IpAddr],
    /// Ranges to choose from: one list of alternatives per address (CNI capability `ipRanges`).
    pub ranges: &'a [Vec<AddressRange>],
}

/// Who holds which address of one network on this node.
#[derive(Clone, Debug)]
pub struct Addresses {
    network: NetworkName,
    pools: Vec<Pool>,
    held: BTreeMap<Arc<AttachmentId>, Vec<IpNet>>,
}

impl Addresses {
    /// All of the network's subnets, for a node that has them to itself.
    #[must_use]
    pub fn new(network: &Network) -> Addresses {
        Addresses::with_pools(network.name.clone(), network.subnets().map(Pool::new).collect())
    }

    /// These pools, at most one per family.
    #[must_use]
    pub fn with_pools(network: NetworkName, pools: Vec<Pool>) -> Addresses {
        Addresses { network, pools, held: BTreeMap::new() }
    }

    /// Gives `wish.id` one address of every family of the network, IPv4 first, each with the prefix length
    /// of its subnet. `now` is in seconds of a clock that never goes back. A wanted address may be a resting one.
    ///
    /// # Errors
    /// All of [`AddressError`]; nothing has changed then.
    pub fn allocate(&mut self, wish: &Wish<'_>, now: u64) -> Result<Vec<IpNet>, AddressError> {
        self.not_attached(wish.id)?;
        let ranges = self.ranges_by_family(wish)?;
        let fixed = self.fixed_by_family(wish, &ranges, false)?;
        for pool in &mut self.pools {
            pool.wake(now);
        }
        let picks: Vec<u128> = self
            .pools
            .iter()
            .map(|pool| match fixed.get(&pool.family()) {
                Some(n) => Ok(*n),
                None => pick(pool, ranges.get(&pool.family())),
            })
            .collect::<Result<_, _>>()?;

        let id = Arc::new(wish.id.clone());
        let mut given = Vec::with_capacity(picks.len());
        for (pool, n) in self.pools.iter_mut().zip(picks) {
            pool.take(n, Arc::clone(&id));
            if !fixed.contains_key(&pool.family()) {
                pool.move_on(n);
            }
            given.push(with_length(pool, n));
        }
        self.held.insert(id, given.clone());
        Ok(given)
    }

    /// Takes back what `id` holds, from second `now` on at rest. Returns it; empty if it held nothing.
    pub fn free(&mut self, id: &AttachmentId, now: u64) -> Vec<IpAddr> {
        let freed: Vec<IpAddr> = self.held.remove(id).unwrap_or_default().iter().map(IpNet::addr).collect();
        for address in &freed {
            if let Some(pool) = self.pool_mut(Family::of(*address)) {
                pool.give_back(number(*address), now);
            }
        }
        freed
    }

    /// Ends the rest of every address that has rested long enough at second `now`.
    pub fn wake(&mut self, now: u64) {
        self.pools.iter_mut().for_each(|pool| pool.wake(now));
    }

    /// Makes `blocks` what this node gives addresses from. What is held stays held.
    pub fn set_blocks(&mut self, blocks: &[IpNet]) {
        for pool in &mut self.pools {
            let family = pool.family();
            pool.set_blocks(blocks.iter().filter(|b| Family::of(b.addr()) == family).copied().collect());
        }
    }

    /// Says from a record that `id` holds `addresses`. Searches go on after the last one.
    ///
    /// # Errors
    /// [`AddressError::Taken`] names both holders; `OutsideNetwork`, `FamilyNotInNetwork`, `Reserved`,
    /// `MoreThanOne` and `AlreadyAttached` as with `allocate`. Nothing has changed then.
    pub fn restore(&mut self, id: &AttachmentId, addresses: &[IpNet]) -> Result<(), AddressError> {
        self.not_attached(id)?;
        let ips: Vec<IpAddr> = addresses.iter().map(IpNet::addr).collect();
        let wish = Wish { id, ips: &ips, ranges: &[] };
        let fixed = self.fixed_by_family(&wish, &BTreeMap::new(), true)?;
        let id = Arc::new(id.clone());
        let mut given = Vec::with_capacity(fixed.len());
        for (family, n) in fixed {
            let pool = self.pool_mut(family).expect("fixed_by_family has found it");
            pool.take(n, Arc::clone(&id));
            pool.move_on(n);
            given.push(with_length(pool, n));
        }
        self.held.insert(id, given);
        Ok(())
    }

    /// Those of `addresses` that lie in the network's pools; another IPAM may give others as well.
    #[must_use]
    pub fn own(&self, addresses: &[IpNet]) -> Vec<IpNet> {
        let ours = |a: &&IpNet| self.pools.iter().any(|pool| pool.subnet().contains(&a.addr()));
        addresses.iter().filter(ours).copied().collect()
    }

    /// Says from a record that `address` was freed at second `at`. Held and foreign addresses are left alone.
    pub fn restore_resting(&mut self, address: IpAddr, at: u64) {
        if let Some(pool) = self.pool_mut(Family::of(address)) {
            pool.rest(number(address), at);
        }
    }

    /// What `id` holds, IPv4 first.
    #[must_use]
    pub fn held_by(&self, id: &AttachmentId) -> Option<&[IpNet]> {
        self.held.get(id).map(Vec::as_slice)
    }

    /// Who holds `address`.
    #[must_use]
    pub fn holder(&self, address: IpAddr) -> Option<&AttachmentId> {
        self.pools.iter().find_map(|pool| pool.holder(address))
    }

    /// The pools, IPv4 first.
    #[must_use]
    pub fn pools(&self) -> &[Pool] {
        &self.pools
    }

    /// The figures of every pool at second `now`.
    #[must_use]
    pub fn status(&self, now: u64) -> Vec<PoolStatus> {
        self.pools.iter().map(|pool| pool.status(now)).collect()
    }

    /// Whether a request without wishes would succeed.
    ///
    /// # Errors
    /// [`AddressError::Exhausted`] for the first family that has nothing left.
    pub fn ready(&self) -> Result<(), AddressError> {
        self.pools.iter().try_for_each(|pool| pick(pool, None).map(drop))
    }

    fn not_attached(&self, id: &AttachmentId) -> Result<(), AddressError> {
        match self.held.get(id) {
            None => Ok(()),
            Some(held) => Err(AddressError::AlreadyAttached { id: id.clone(), addresses: join(held) }),
        }
    }

    fn ranges_by_family(&self, wish: &Wish<'_>) -> Result<BTreeMap<Family, Wanted>, AddressError> {
        let mut found = BTreeMap::new();
        for alternatives in wish.ranges {
            if let Some(range) = alternatives.first() {
                self.pool(Family::of(range.subnet.addr()))?;
            }
            let wanted = wanted(alternatives, &self.pools)?;
            let family = wanted.family;
            if found.insert(family, wanted).is_some() {
                return Err(AddressError::MoreThanOne { id: wish.id.clone(), family });
            }
        }
        Ok(found)
    }

    fn fixed_by_family(
        &self,
        wish: &Wish<'_>,
        ranges: &BTreeMap<Family, Wanted>,
        recorded: bool,
    ) -> Result<BTreeMap<Family, u128>, AddressError> {
        let mut found = BTreeMap::new();
        for &address in wish.ips {
            let (family, n, network) = (Family::of(address), number(address), self.network.clone());
            let pool = self.pool(family)?;
            match pool.standing(address, recorded) {
                Standing::Available => {}
                // Given by this node, or by one that it was: it is so, whatever became of the block.
                Standing::Elsewhere if recorded => {}
                Standing::Elsewhere => {
                    let blocks = join(pool.blocks());
                    return Err(AddressError::NotHeld { address, network, blocks });
                }
                Standing::Outside => {
                    let subnets = pool.subnet().to_string();
                    return Err(AddressError::OutsideNetwork { address, network, subnets });
                }
                Standing::Reserved(role) => return Err(AddressError::Reserved { address, role, network }),
                Standing::Used(by) => {
                    return Err(AddressError::Taken { address, by: by.clone(), wanted: wish.id.clone() });
                }
            }
            if let Some(range) = ranges.get(&family)
                && !range.bounds.iter().any(|(low, high)| (*low..=*high).contains(&n))
            {
                let why = format!("{address} is asked for and does not lie in it");
                return Err(AddressError::BadRange { range: range.text.clone(), why });
            }
            if found.insert(family, n).is_some() {
                return Err(AddressError::MoreThanOne { id: wish.id.clone(), family });
            }
        }
        Ok(found)
    }

    fn pool(&self, family: Family) -> Result<&Pool, AddressError> {
        let missing = || AddressError::FamilyNotInNetwork { family, network: self.network.clone() };
        self.pools.iter().find(|pool| pool.family() == family).ok_or_else(missing)
    }

    fn pool_mut(&mut self, family: Family) -> Option<&mut Pool> {
        self.pools.iter_mut().find(|pool| pool.family() == family)
    }
}

/// An address of `pool`, from the ranges wanted if there are any: a free one of any alternative comes
/// before a resting one of an earlier alternative.
fn pick(pool: &Pool, ranges: Option<&Wanted>) -> Result<u128, AddressError> {
    let whole = [bounds(pool.subnet())];
    let places = ranges.map_or(whole.as_slice(), |range| range.bounds.as_slice());
    let free = places.iter().find_map(|(low, high)| pool.pick_free(*low, *high));
    free.or_else(|| pool.pick_resting(places)).ok_or_else(|| {
        let counts = places.iter().map(|(low, high)| pool.count(*low, *high));
        let (used, resting, usable) = counts.fold((0, 0, 0), |sum: (u64, u64, u64), c| {
            (sum.0.saturating_add(c.0), sum.1.saturating_add(c.1), sum.2.saturating_add(c.2))
        });
        let place = ranges.map_or_else(|| place(pool), |range| range.text.clone());
        AddressError::Exhausted { place, used, resting, usable, ranged: ranges.is_some() }
    })
}

/// Where this node's addresses come from, for people.
fn place(pool: &Pool) -> String {
    match pool.blocks() {
        [whole] if *whole == pool.subnet() => whole.to_string(),
        [] => format!("{}: this host holds no block of it", pool.subnet()),
        blocks => format!("{} (this host's part of {})", join(blocks), pool.subnet()),
    }
}

fn with_length(pool: &Pool, n: u128) -> IpNet {
    IpNet::new(pool.family().address(n), pool.subnet().prefix_len())
        .expect("the length comes from a subnet of the same family")
}

fn join(nets: &[IpNet]) -> String {
    nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
