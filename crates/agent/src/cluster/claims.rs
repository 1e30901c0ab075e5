//! Blocks of addresses: claimed when they are needed, given back when they are not.
//!
//! Never uses a block that the store has not confirmed, and never gives one back that this host could still
//! give addresses from: first it is left here, durably, then there.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use weft_model::NetworkName;
use weft_plan::address::block::{self, BlockError, Demand};
use weft_store::cluster::{BlockRecord, ClusterError, Condition, Key, Op};

use super::member::{Host, Member, json};

/// What one subnet of a network needs on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) network: NetworkName,
    pub(crate) subnet: IpNet,
    pub(crate) demand: Demand,
    /// Addresses that workloads here hold and whose blocks are not this host's.
    pub(crate) homeless: BTreeSet<IpAddr>,
    /// Addresses that somebody asked for by name.
    pub(crate) asked: BTreeSet<IpAddr>,
}

impl Member {
    /// Sees to the blocks. Returns whether there is one more.
    pub(super) fn claim(&mut self, host: &mut impl Host, now: u64) -> Result<bool, ClusterError> {
        self.finish_leaving()?;
        let needs = host.needs(now);
        let mut more = false;
        self.exhausted.clear();
        for need in &needs {
            let Some(record) = self.mirror.view().networks.get(&need.network) else { continue };
            let length = record.block_length(need.subnet);
            for address in need.homeless.iter().chain(&need.asked) {
                let Some(block) = block::containing(*address, length) else { continue };
                let used = need.homeless.contains(address);
                more |= self.claim_this(&need.network, block, used.then_some(*address))?;
            }
            match need.demand {
                Demand::None => {}
                Demand::More => more |= self.claim_any(need, length)?,
                Demand::Less(block) => {
                    self.consider_leaving(host, &need.network, block, now)?;
                    continue;
                }
            }
            self.idle.retain(|(network, block), _| *network != need.network || !need.subnet.contains(block));
        }
        Ok(more)
    }

    /// Claims one certain block; `holder` is an address in it that is in use here.
    fn claim_this(
        &mut self,
        network: &NetworkName,
        block: IpNet,
        holder: Option<IpAddr>,
    ) -> Result<bool, ClusterError> {
        let key = Key::Block(network.clone(), block);
        let held = self.mirror.view().blocks.get(network).and_then(|blocks| blocks.get(&block));
        if let Some(other) = held.and_then(|record| record.node.as_ref()) {
            if *other == self.name {
                return if self.is_left(network, &block) { self.take(&key, network) } else { Ok(false) };
            }
            if let Some(address) = holder {
                self.problems.push(format!(
                    "{address} of network '{network}' is in use here, and its block {block} belongs to host '{other}' \
                     now: detach that workload, others cannot reach it"
                ));
            }
            return Ok(false);
        }
        // Free; or resting, or unreadable: then only for an address that is in use here already.
        if self.mirror.revision_of(&key.to_string()).is_some() && holder.is_none() {
            return Ok(false);
        }
        self.take(&key, network)
    }

    fn claim_any(&mut self, need: &Need, length: u8) -> Result<bool, ClusterError> {
        let taken = self.taken(&need.network, need.subnet);
        let Some(found) = block::choose(need.subnet, length, &taken, self.skip) else {
            let view = self.mirror.view();
            let records = view.blocks.get(&need.network).into_iter().flat_map(|b| b.values());
            let holders: BTreeSet<_> = records.filter_map(|r| r.node.as_ref()).collect();
            let none = BlockError::NoneLeft {
                network: need.network.clone(),
                subnet: need.subnet,
                blocks: block::count(need.subnet, length),
                length,
                holders: holders.len(),
            };
            self.problems.push(format!("{none}; {}", none.hint()));
            self.exhausted.insert(need.network.clone(), none);
            return Ok(false);
        };
        let key = Key::Block(need.network.clone(), found);
        let claimed = self.take(&key, &need.network)?;
        // Somebody was faster: let the next try differ from theirs.
        self.skip = if claimed { 0 } else { crate::random() % 16 };
        Ok(claimed)
    }

    /// Blocks that somebody has, or that rest, or whose records make no sense.
    fn taken(&self, network: &NetworkName, subnet: IpNet) -> BTreeSet<IpNet> {
        let view = self.mirror.view();
        let known = view.blocks.get(network).into_iter().flat_map(|blocks| blocks.keys().copied());
        let strange = view.unreadable.keys().filter_map(|key| match Key::parse(key) {
            Some(Key::Block(of, block)) if of == *network => Some(block),
            _ => None,
        });
        known.chain(strange).filter(|block| subnet.contains(block)).collect()
    }

    /// Puts this host's name on a block, if the block is as it was last seen.
    fn take(&mut self, key: &Key, network: &NetworkName) -> Result<bool, ClusterError> {
        let Key::Block(_, block) = key else { return Ok(false) };
        let text = key.to_string();
        let condition = match self.mirror.revision_of(&text) {
            None => Condition::Absent(text),
            Some(revision) => Condition::Unchanged(text, revision),
        };
        let own = self.mirror.view().blocks.get(network).into_iter().flat_map(|blocks| blocks.values());
        let last = own.filter(|r| r.node.as_ref() == Some(&self.name)).map(|r| r.order).max();
        let order = last.map_or(0, |last| last.saturating_add(1));
        let record = BlockRecord { node: Some(self.name.clone()), order };
        let claimed = self.commit(vec![condition], vec![Op::put(key, json(&record))])?.is_some();
        if claimed {
            tracing::info!(%network, %block, "claimed a block of addresses");
            self.leaving.remove(&(network.clone(), *block));
        }
        Ok(claimed)
    }

    /// Gives a block back once it has been idle for long enough.
    fn consider_leaving(
        &mut self,
        host: &mut impl Host,
        network: &NetworkName,
        block: IpNet,
        now: u64,
    ) -> Result<(), ClusterError> {
        let place = (network.clone(), block);
        let since = *self.idle.entry(place.clone()).or_insert(now);
        if now.saturating_sub(since) < self.times.idle {
            return Ok(());
        }
        self.idle.remove(&place);
        let key = Key::Block(network.clone(), block).to_string();
        let Some(revision) = self.mirror.revision_of(&key) else { return Ok(()) };
        if host.leave(network, block) {
            self.leaving.insert(place, revision);
            self.finish_leaving()?;
        }
        Ok(())
    }

    /// Lets the blocks rest that were left here. Until that is confirmed nobody gives addresses from them.
    fn finish_leaving(&mut self) -> Result<(), ClusterError> {
        for ((network, block), revision) in self.leaving.clone() {
            let key = Key::Block(network.clone(), block).to_string();
            if self.mirror.revision_of(&key) != Some(revision) {
                self.leaving.remove(&(network, block));
                continue;
            }
            let lease = self.store.grant(self.times.quarantine)?;
            let rests = Op::Put {
                key: key.clone(),
                value: json(&BlockRecord { node: None, order: 0 }),
                lease: Some(lease),
            };
            if self.commit(vec![Condition::Unchanged(key, revision)], vec![rests])?.is_some() {
                tracing::info!(%network, %block, "gave a block of addresses back");
                self.leaving.remove(&(network, block));
            } else {
                self.store.revoke(lease)?;
            }
        }
        Ok(())
    }
}
