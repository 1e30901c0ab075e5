//! Classes, and who is in them: a cell is all addresses of one kind of workloads in one list of blocks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::super::Class;
use super::matchers::{Matchers, hash};
use super::numbered::Numbered;

/// Addresses that are alike.
#[derive(Debug)]
pub(super) struct Cell {
    /// The kind of the workloads that have them; none for ranges of addresses of whomever.
    pub(super) kind: Option<u32>,
    /// The blocks that they lie in.
    blocks: Arc<[u32]>,
    pub(super) class: Option<Class>,
    /// Addresses of workloads; or the first addresses of ranges.
    pub(super) addresses: BTreeSet<IpAddr>,
}

/// A class: everything that matches the same.
#[derive(Debug)]
pub(super) struct Entry {
    /// What its members match, in order.
    pub(super) ids: Arc<[u32]>,
    pub(super) cells: BTreeSet<u32>,
    /// How many tables treat it otherwise than the rest.
    pub(super) rows: u32,
}

/// Cells and classes.
#[derive(Debug, Default)]
pub(super) struct Cells {
    all: Numbered<Cell>,
    by_key: HashMap<(Option<u32>, Arc<[u32]>), u32>,
    pub(super) classes: BTreeMap<Class, Entry>,
    by_ids: HashMap<Arc<[u32]>, Class>,
    /// Cells that are new or whose class may be another.
    doubtful: BTreeSet<u32>,
}

/// What became of classes.
#[derive(Debug, Default)]
pub(super) struct Turnover {
    /// New ones.
    pub(super) fresh: BTreeSet<Class>,
    /// Those without members, with what they matched.
    pub(super) gone: BTreeMap<Class, Arc<[u32]>>,
    /// Cells whose class is another now.
    pub(super) cells: BTreeSet<u32>,
}

impl Cells {
    pub(super) fn get(&self, id: u32) -> Option<&Cell> {
        self.all.get(id)
    }

    /// Puts an address into a cell, which may be new; whether it is.
    pub(super) fn put(&mut self, kind: Option<u32>, blocks: &Arc<[u32]>, address: IpAddr) -> (u32, bool) {
        let key = (kind, Arc::clone(blocks));
        if let Some(id) = self.by_key.get(&key) {
            if let Some(cell) = self.all.get_mut(*id) {
                cell.addresses.insert(address);
            }
            return (*id, false);
        }
        let cell = Cell { kind, blocks: Arc::clone(blocks), class: None, addresses: [address].into() };
        let id = self.all.add(cell);
        self.by_key.insert(key, id);
        self.doubtful.insert(id);
        (id, true)
    }

    /// Takes an address out of its cell. The cell itself goes with [`Self::settle`].
    pub(super) fn take(&mut self, id: u32, address: IpAddr) {
        let Some(cell) = self.all.get_mut(id) else { return };
        cell.addresses.remove(&address);
        if cell.addresses.is_empty() {
            self.doubtful.insert(id);
        }
    }

    /// Notes that the kind of these cells matches something else now.
    pub(super) fn doubt(&mut self, cells: impl IntoIterator<Item = u32>) {
        self.doubtful.extend(cells);
    }

    /// Finds the classes of all cells that are in doubt, `pods` being what a kind matches. Cells that are empty go;
    /// they are returned, with their kinds.
    pub(super) fn settle<'a>(
        &mut self,
        matchers: &mut Matchers,
        pods: impl Fn(u32) -> &'a [u32],
    ) -> (Turnover, Vec<(u32, Option<u32>)>) {
        let mut turnover = Turnover::default();
        let mut left: BTreeSet<Class> = BTreeSet::new();
        let mut emptied = Vec::new();
        for id in std::mem::take(&mut self.doubtful) {
            let Some(cell) = self.all.get(id) else { continue };
            let (kind, former) = (cell.kind, cell.class);
            let class = if cell.addresses.is_empty() {
                None
            } else {
                let mut ids: Vec<u32> = kind.map(&pods).unwrap_or_default().to_vec();
                ids.extend(cell.blocks.iter());
                ids.sort_unstable();
                (!ids.is_empty()).then(|| self.class_of(&ids, matchers, &mut turnover))
            };
            if class != former {
                if let Some(former) = former.and_then(|f| self.classes.get_mut(&f).map(|entry| (f, entry))) {
                    former.1.cells.remove(&id);
                    left.insert(former.0);
                }
                if let Some(entry) = class.and_then(|class| self.classes.get_mut(&class)) {
                    entry.cells.insert(id);
                }
                turnover.cells.insert(id);
            }
            let Some(cell) = self.all.get_mut(id) else { continue };
            cell.class = class;
            if cell.addresses.is_empty() {
                self.by_key.remove(&(kind, Arc::clone(&cell.blocks)));
                self.all.remove(id);
                emptied.push((id, kind));
            }
        }
        for class in left {
            if self.classes.get(&class).is_some_and(|entry| entry.cells.is_empty()) {
                self.dissolve(class, matchers, &mut turnover);
            }
        }
        (turnover, emptied)
    }

    fn class_of(&mut self, ids: &[u32], matchers: &mut Matchers, turnover: &mut Turnover) -> Class {
        if let Some(class) = self.by_ids.get(ids) {
            return *class;
        }
        let digest = |id: &u32| matchers.get(*id).map_or(0, |known| known.digest);
        let mut parts: Vec<u64> = ids.iter().map(digest).collect();
        parts.sort_unstable();
        let mut class = Class(hash(&parts).clamp(1, u64::MAX - 2));
        // Two sets with one digest, which chance does not bring about: the later one gets the next.
        while self.classes.contains_key(&class) {
            class = Class(class.0 % (u64::MAX - 2) + 1);
        }
        let ids: Arc<[u32]> = ids.into();
        for id in ids.iter() {
            if let Some(known) = matchers.get_mut(*id) {
                known.classes.insert(class);
            }
        }
        self.by_ids.insert(Arc::clone(&ids), class);
        self.classes.insert(class, Entry { ids, cells: BTreeSet::new(), rows: 0 });
        turnover.fresh.insert(class);
        class
    }

    /// Takes a class out of the index; who asks for its rows finds none.
    fn dissolve(&mut self, class: Class, matchers: &mut Matchers, turnover: &mut Turnover) {
        let Some(entry) = self.classes.remove(&class) else { return };
        self.by_ids.remove(&entry.ids);
        for id in entry.ids.iter() {
            if let Some(known) = matchers.get_mut(*id) {
                known.classes.remove(&class);
            }
        }
        if !turnover.fresh.remove(&class) {
            turnover.gone.insert(class, entry.ids);
        }
    }

    /// Whether some table treats a class otherwise than the rest.
    pub(super) fn is_used(&self, class: Class) -> bool {
        self.classes.get(&class).is_some_and(|entry| entry.rows > 0)
    }
}
