//! Starting: from the store and the kernel to a world, whatever state the last agent left them in.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::Instant;

use weft_kernel::netns::Netns;
use weft_kernel::{Kernel, Linux, ReadError, State};
use weft_model::{AttachmentId, Here, Network, Node, Owner, Phase, Workload, World};
use weft_store::{Condition, Embedded, Loaded, Store, StoreError, Write};

use super::Engine;
use crate::reaper::Retired;
use crate::{Config, chain, clock, host};

/// What keeps the agent from starting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be used.
    #[error("failed to open the store")]
    Store(#[source] StoreError),
    /// The kernel cannot be asked.
    #[error("failed to speak to the kernel; the agent needs CAP_NET_ADMIN in its network namespace")]
    Kernel(#[source] weft_kernel::netlink::Error),
    /// The kernel cannot be read.
    #[error("failed to read what the kernel holds of weft's")]
    Read(#[source] ReadError),
}

impl Engine {
    /// Reads store and kernel and settles what the last agent left unfinished. Changes nothing in the
    /// kernel yet; call [`sync`](Self::sync) for that.
    ///
    /// # Errors
    /// [`StartError`].
    pub(crate) fn start(config: &Config, reaper: Sender<Retired>) -> Result<Engine, StartError> {
        let mut kernel = Linux::open().map_err(StartError::Kernel)?;
        let paths =
            weft_store::Paths { state_dir: config.state_dir.clone(), run_dir: config.run_dir.clone() };
        let (mut store, opened) = Embedded::open(&paths, &clock::boot_id()).map_err(StartError::Store)?;
        let loaded = store.load().map_err(StartError::Store)?;
        let found = kernel.read(&[]).map_err(StartError::Read)?;
        let facts = host::facts().map_err(StartError::Kernel)?;

        let here = Here {
            name: config.node(),
            learning_links: facts.learning_links,
            block_metadata: config.block_metadata,
            uplink: None,
        };
        let world = World { nodes: [(here.name.clone(), Node::alone(facts.mtu))].into(), ..World::default() };
        let mut engine = Engine {
            here,
            world,
            plan: weft_plan::Plan::default(),
            addresses: BTreeMap::new(),
            host_ends: BTreeMap::new(),
            unwritten: BTreeSet::new(),
            owed: Vec::new(),
            store,
            kernel,
            reaper,
            journal: config.journal(),
            started: Instant::now(),
            health: Vec::new(),
            claims: weft_plan::peer::Claims::default(),
            heard: BTreeMap::new(),
            strange: Vec::new(),
            cluster_record: config.run_dir.join("cluster.json"),
            unwritten_cluster: None,
        };
        for condition in [&opened.declared, &opened.attachments] {
            match condition {
                Condition::SetAside { to, why } => {
                    tracing::warn!(why, set_aside = ?to, "a file of the store was damaged; the kernel is asked instead");
                }
                Condition::Unwritable { why } => tracing::warn!(why, "the store cannot be written for now"),
                Condition::Kept | Condition::Begun => {}
            }
        }
        for record in &loaded.unreadable {
            tracing::warn!(
                kind = record.kind,
                key = record.key,
                why = record.why,
                "a record makes no sense and is left alone"
            );
        }
        for object in loaded.objects.values().cloned() {
            engine.world.declared.insert(object);
        }
        engine.adopt_networks(&loaded, &found);
        engine.recall_cluster();
        engine.adopt_workloads(loaded, &found);
        Ok(engine)
    }

    /// Networks as declared, and those of which only the kernel knows any more.
    fn adopt_networks(&mut self, loaded: &Loaded, found: &State) {
        self.world.networks = loaded.networks.clone();
        let mut writes = Vec::new();
        for network in
            found.links.values().filter_map(|l| weft_dataplane::network::read_alias(l.alias.as_ref()?))
        {
            let known = self.world.networks.values().any(|n| n.name == network.name || n.id == network.id);
            if !known && loaded.networks.is_empty() {
                tracing::warn!(network = %network.name, "took a network from the kernel: its record was lost");
                writes.push(Write::PutNetwork(network.clone()));
                self.world.networks.insert(network.name.clone(), network);
            }
        }
        if !writes.is_empty()
            && let Err(error) = self.record(writes)
        {
            tracing::warn!(%error, "failed to record networks taken from the kernel");
        }
        self.replan();
        let pools = |n: &Network| (n.name.clone(), self.pools(n));
        let addresses = self.world.networks.values().map(pools).collect();
        self.addresses = addresses;
    }

    /// Attachments as recorded, if they were finished; and finished wires whose record was lost.
    fn adopt_workloads(&mut self, loaded: Loaded, found: &State) {
        let finished = finished_wires(found);
        let mut writes = Vec::new();
        for mut workload in loaded.workloads.into_values() {
            let complete = finished.get(&workload.id).is_some_and(|name| *name == workload.host_end);
            match workload.phase {
                Phase::Ready => {}
                Phase::Pending if complete => workload.phase = Phase::Ready,
                Phase::Pending => {
                    // Whoever asked for it got no answer: it is undone, the sync removes what there is.
                    tracing::info!(id = %workload.id, "an attach was cut short; it is undone");
                    writes.push(undone(workload.id));
                    continue;
                }
            }
            self.adopt(workload, &mut writes);
        }
        // Opening thousands of files takes longer than the rest, and hardly ever is a record missing.
        let namespaces = LazyCell::new(named_namespaces);
        for (id, host_end) in finished {
            if self.world.workloads.contains_key(&id) {
                continue;
            }
            if let Some(workload) = rebuild(&id, &host_end, found, &namespaces, &self.world) {
                tracing::warn!(%id, "took an attachment from the kernel: its record was lost");
                writes.push(Write::PutWorkload(Box::new(workload.clone())));
                self.adopt(workload, &mut writes);
            }
        }
        for ((network, address), freed_at) in loaded.resting {
            if let Some(addresses) = self.addresses.get_mut(&network) {
                addresses.restore_resting(address, freed_at);
            }
        }
        if !writes.is_empty()
            && let Err(error) = self.record(writes)
        {
            tracing::warn!(%error, "failed to record what was settled at start");
        }
    }

    fn adopt(&mut self, workload: Workload, writes: &mut Vec<Write>) {
        let restored = self
            .addresses
            .get_mut(&workload.id.network)
            .map(|a| a.restore(&workload.id, &a.own(&workload.addresses)));
        match restored {
            Some(Err(error @ weft_plan::address::AddressError::Taken { .. })) => {
                tracing::error!(error = chain(&error), id = %workload.id, "two records hold one address; the later is dropped");
                writes.push(undone(workload.id));
            }
            // A network that is gone has no pool.
            _ => self.insert(workload),
        }
    }

    /// Keeps the values of settings as they were before weft changed them, for `weft uninstall`.
    pub(super) fn remember_settings(&mut self, wanted: &weft_dataplane::Wanted) -> Result<(), StoreError> {
        let known = self.store.load()?.sysctls;
        let links = &wanted.state.links;
        let ours = |link: &str| links.keys().any(|name| name.as_str() == link);
        let writes: Vec<Write> = wanted
            .state
            .sysctls
            .iter()
            .filter(|(key, _)| !key.link().is_some_and(ours) && !known.contains_key(key.path()))
            .filter_map(|(key, value)| {
                let former = weft_kernel::sysctl::read(key).ok().flatten()?;
                (former != *value).then(|| Write::KeepSysctl { key: key.path().to_owned(), value: former })
            })
            .collect();
        if writes.is_empty() { Ok(()) } else { self.store.commit(&writes) }
    }
}

fn undone(id: AttachmentId) -> Write {
    Write::RemoveWorkload { id, freed: Vec::new(), at: clock::now() }
}

/// Wires that bear the mark of completion, by attachment.
fn finished_wires(found: &State) -> BTreeMap<AttachmentId, weft_model::IfName> {
    let wires = found.links.iter().filter(|(_, l)| weft_kernel::ours::is_wire(l.group));
    wires
        .filter_map(|(name, l)| {
            Some((weft_kernel::ours::read_wire_alias(l.alias.as_ref()?)?.0, name.clone()))
        })
        .collect()
}

/// Namespaces that `ip netns` would list, by inode.
fn named_namespaces() -> BTreeMap<u64, PathBuf> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|e| Some((Netns::open(&e.path()).ok()?.inode(), e.path()))).collect()
}

/// A record from what the kernel shows: the alias names the attachment, the guard its addresses, queues its limits.
fn rebuild(
    id: &AttachmentId,
    host_end: &weft_model::IfName,
    found: &State,
    namespaces: &BTreeMap<u64, PathBuf>,
    world: &World,
) -> Option<Workload> {
    let link = found.links.get(host_end)?;
    let (_, inode) = weft_kernel::ours::read_wire_alias(link.alias.as_ref()?)?;
    let network = world.networks.get(&id.network)?;
    let guarded = weft_dataplane::nft::guarded(&found.tables, host_end);
    let (mac, _) = guarded.first()?;
    let with_prefix = |address: &std::net::IpAddr| {
        network
            .subnets()
            .find(|s| s.contains(address))
            .and_then(|s| ipnet::IpNet::new(*address, s.prefix_len()).ok())
    };
    Some(Workload {
        id: id.clone(),
        owner: Owner::default(),
        phase: Phase::Ready,
        netns: weft_model::Netns { path: namespaces.get(&inode).cloned().unwrap_or_default(), inode },
        host_end: host_end.clone(),
        mac: *mac,
        mtu: link.mtu,
        addresses: guarded.iter().filter_map(|(_, address)| with_prefix(address)).collect(),
        default_route: true,
        pod: None,
        profile: weft_model::Profile {
            bandwidth: weft_dataplane::bandwidth::limits(found, host_end),
            ..weft_model::Profile::default()
        },
    })
}
