//! The ranges into which all blocks and their holes cut the addresses, with the blocks that each lies in.
//!
//! ```text
//!   10.0.0.0/8 without 10.1.0.0/16     [----1----)      (------1------]
//!   10.0.0.0/9                         [----2----------2----]
//!   ranges                             [---1 2---)[--2--)[1 2][---1---]
//! ```
//!
//! Ranges are as long as they can be: neighbours never lie in the same blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::super::matcher::Matcher;

/// From the first address, by which it is known, to the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) last: IpAddr,
    /// The blocks that it lies in, in order.
    pub(super) ids: Arc<[u32]>,
}

/// All ranges that lie in a block, by their first address.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    all: BTreeMap<IpAddr, Range>,
}

impl Ranges {
    pub(super) fn get(&self, first: IpAddr) -> Option<&Range> {
        self.all.get(&first)
    }

    /// The range that an address lies in, with its first address.
    pub(super) fn at(&self, address: IpAddr) -> Option<(IpAddr, &Range)> {
        let (first, range) = self.all.range(..=address).next_back()?;
        (address <= range.last).then_some((*first, range))
    }

    /// Puts a block in or takes it out; notes the first addresses of ranges that came, went or changed. Returns
    /// what of the addresses lies in the block.
    pub(super) fn change(
        &mut self,
        id: u32,
        matcher: &Matcher,
        add: bool,
        touched: &mut BTreeSet<IpAddr>,
    ) -> Vec<(IpAddr, IpAddr)> {
        let Matcher::Block { cidr, except } = matcher else { return Vec::new() };
        let parts = parts(cidr, except);
        for (first, last) in parts.iter().copied() {
            self.cut(first, touched);
            if let Some(after) = next(last) {
                self.cut(after, touched);
            }
            self.relist(id, add, first, last, touched);
            self.join(first, last, touched);
        }
        parts
    }

    /// Makes a range begin at an address, if one lies across it.
    fn cut(&mut self, at: IpAddr, touched: &mut BTreeSet<IpAddr>) {
        let Some((first, range)) = self.at(at) else { return };
        if first == at {
            return;
        }
        let behind = range.clone();
        let Some(last) = before(at) else { return };
        if let Some(range) = self.all.get_mut(&first) {
            range.last = last;
        }
        self.all.insert(at, behind);
        touched.extend([first, at]);
    }

    fn relist(&mut self, id: u32, add: bool, first: IpAddr, last: IpAddr, touched: &mut BTreeSet<IpAddr>) {
        // Many ranges have the same list; so have their changed ones.
        let mut known: BTreeMap<Arc<[u32]>, Arc<[u32]>> = BTreeMap::new();
        let inside: Vec<IpAddr> = self.all.range(first..=last).map(|(at, _)| *at).collect();
        let mut gap = Some(first);
        for at in &inside {
            let Some(range) = self.all.get_mut(at) else { continue };
            let ids = known.entry(Arc::clone(&range.ids)).or_insert_with(|| relisted(&range.ids, id, add));
            range.ids = Arc::clone(ids);
            let (end, empty) = (range.last, range.ids.is_empty());
            touched.insert(*at);
            if empty {
                self.all.remove(at);
            }
            if add && let Some(from) = gap.filter(|from| from < at) {
                self.fill(id, from, before(*at).unwrap_or(*at), touched);
            }
            gap = next(end);
        }
        if add && let Some(from) = gap.filter(|from| *from <= last) {
            self.fill(id, from, last, touched);
        }
    }

    fn fill(&mut self, id: u32, first: IpAddr, last: IpAddr, touched: &mut BTreeSet<IpAddr>) {
        touched.insert(first);
        self.all.insert(first, Range { last, ids: [id].into() });
    }

    /// Joins neighbours that are alike, from the one before the first address to the one behind the last.
    fn join(&mut self, first: IpAddr, last: IpAddr, touched: &mut BTreeSet<IpAddr>) {
        let start = before(first).and_then(|b| self.at(b)).map_or(first, |(at, _)| at);
        let end = next(last).unwrap_or(last);
        let starts: Vec<IpAddr> = self.all.range(start..=end).map(|(at, _)| *at).collect();
        let mut open: Option<IpAddr> = None;
        for at in starts {
            let Some(range) = self.all.get(&at).cloned() else { continue };
            let grown = open
                .and_then(|open| self.all.get_mut(&open))
                .filter(|b| b.ids == range.ids && next(b.last) == Some(at));
            if let Some(grown) = grown {
                grown.last = range.last;
                self.all.remove(&at);
                touched.extend(open);
                touched.insert(at);
            } else {
                open = Some(at);
            }
        }
    }
}

fn relisted(ids: &[u32], id: u32, add: bool) -> Arc<[u32]> {
    match (ids.binary_search(&id), add) {
        (Err(at), true) => [&ids[..at], &[id], &ids[at..]].concat().into(),
        (Ok(at), false) => [&ids[..at], &ids[at + 1..]].concat().into(),
        _ => ids.into(),
    }
}

/// What of a block is outside its holes, in order. Holes may lie in one another.
fn parts(cidr: &IpNet, except: &BTreeSet<IpNet>) -> Vec<(IpAddr, IpAddr)> {
    let mut parts = Vec::new();
    let mut from = Some(cidr.network());
    let mut holes: Vec<(IpAddr, IpAddr)> = except
        .iter()
        .filter(|hole| cidr.contains(*hole))
        .map(|hole| (hole.network(), hole.broadcast()))
        .collect();
    holes.sort_unstable();
    for (first, last) in holes {
        let Some(at) = from else { break };
        if first > at
            && let Some(end) = before(first)
        {
            parts.push((at, end));
        }
        if last >= at {
            from = next(last);
        }
    }
    if let Some(at) = from.filter(|at| *at <= cidr.broadcast()) {
        parts.push((at, cidr.broadcast()));
    }
    parts
}

/// The address behind another; the last of a family has none.
fn next(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(v4) => IpAddr::V4(u32::from(v4).checked_add(1)?.into()),
        IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).checked_add(1)?.into()),
    })
}

/// The address before another; the first of a family has none.
fn before(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(v4) => IpAddr::V4(u32::from(v4).checked_sub(1)?.into()),
        IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).checked_sub(1)?.into()),
    })
}
