//! Starting: from the store and the kernel to a world, whatever state the last agent left them in.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::Instant;

use weft_kernel::netns::Netns;
use weft_kernel::ours::{WireAlias, read_wire_alias};
use weft_kernel::{Linux, ReadError, State};
use weft_model::{AttachmentId, Here, IfName, Network, Node, Phase, PortMapping, Protocol, Workload, World};
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
        let loopback = config.loopback();
        let mut kernel = Linux::open().map_err(StartError::Kernel)?.with_loopback(loopback.clone());
        let paths =
            weft_store::Paths { state_dir: config.state_dir.clone(), run_dir: config.run_dir.clone() };
        let (mut store, opened) = Embedded::open(&paths, &clock::boot_id()).map_err(StartError::Store)?;
        let loaded = store.load().map_err(StartError::Store)?;
        let found = kernel.survey().map_err(StartError::Read)?;
        let facts = host::of(&found.links, &found.routes, &found.addresses);

        let here = Here {
            name: config.node(),
            learning_links: facts.learning_links,
            block_metadata: config.block_metadata,
            uplink: None,
            services: super::services::ranges(config),
        };
        // Until a cluster says otherwise: policies for hosts are asked about by address.
        let addresses = host::underlay(&config.underlay).map(|found| found.addresses).unwrap_or_default();
        let nodes = [(here.name.clone(), Node { addresses, ..Node::alone(facts.mtu) })].into();
        let world = World { nodes, failsafe: super::host::failsafe(config), ..World::default() };
        let mut engine = Engine {
            here,
            world,
            plan: weft_plan::Plan::default(),
            addresses: BTreeMap::new(),
            host_ends: BTreeMap::new(),
            inside: BTreeMap::new(),
            serving: weft_plan::services::Standing::default(),
            remote_unknown: crate::settings::is_member(config),
            denials: crate::flows::Denials::default(),
            standing: weft_plan::policy::Standing::default(),
            touched: weft_plan::policy::Touched::default(),
            numbering: weft_plan::policy::Numbering::found(weft_dataplane::nft::policy::numbers(
                &found.state.tables,
            )),
            unwritten: BTreeSet::new(),
            records: super::record::Records::default(),
            store,
            kernel,
            reaper,
            leaving: BTreeSet::new(),
            loopback,
            loopback_wanted: config.publish_on_loopback,
            unled_since: None,
            journal: config.journal(),
            started: Instant::now(),
            early: None,
            health: Vec::new(),
            refusals: BTreeMap::new(),
            claims: weft_plan::peer::Claims::default(),
            heard: BTreeMap::new(),
            strange: Vec::new(),
            cluster_record: config.state_dir.join("cluster.json"),
            unwritten_cluster: None,
            followed: None,
            unheard: crate::settings::is_member(config) || config.cluster_file.is_some(),
            store_state: None,
            store_problems: Vec::new(),
            own_problem: None,
            underlay: config.underlay.clone(),
            zone: config.zone.clone(),
            tunnel_mac: crate::cluster::identity::read(&config.state_dir).mac,
            asked: BTreeMap::new(),
            block: config.block,
            default_wanted: config.default_network,
        };
        for (outlives_boot, condition) in [(true, &opened.declared), (false, &opened.attachments)] {
            match condition {
                Condition::SetAside { to, why } => {
                    tracing::warn!(why, set_aside = ?to, "a file of the store was damaged; the kernel is asked instead");
                }
                Condition::Unwritable { why } => {
                    tracing::warn!(why, "the store cannot be written for now");
                    engine.records.trouble(outlives_boot, why.clone());
                }
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
        engine.records.kept(loaded.sysctls.keys().cloned());
        engine.adopt_networks(&loaded, &found.state);
        engine.recall_cluster();
        engine.adopt_workloads(loaded, &found.state);
        engine.follow_policy();
        engine.begin_services(&found.state.tables);
        engine.early = Some(found);
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
        self.record_or_owe(writes);
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
            self.records.freed(freed_at);
            if let Some(addresses) = self.addresses.get_mut(&network) {
                addresses.restore_resting(address, freed_at);
            }
        }
        self.record_or_owe(writes);
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
    pub(super) fn remember_settings(&mut self, wanted: &weft_dataplane::Wanted) {
        let links: HashSet<&str> = wanted.state.links.keys().map(IfName::as_str).collect();
        let ours = |link: &str| links.contains(link);
        let settings = wanted.state.sysctls.iter();
        let foreign = settings.filter(|(key, _)| !key.link().is_some_and(ours));
        let mut writes = Vec::new();
        for (key, value) in foreign.filter(|(key, _)| !self.records.keeps(key.path())) {
            if let Some(former) = weft_kernel::sysctl::read(key).ok().flatten().filter(|f| f != value) {
                writes.push(Write::KeepSysctl { key: key.path().to_owned(), value: former });
            }
        }
        self.record_or_owe(writes);
    }
}

fn undone(id: AttachmentId) -> Write {
    Write::RemoveWorkload { id, freed: Vec::new(), at: clock::now() }
}

/// Wires that bear the mark of completion, by attachment.
fn finished_wires(found: &State) -> BTreeMap<AttachmentId, IfName> {
    let wires = found.links.iter().filter(|(_, l)| weft_kernel::ours::is_wire(l.group));
    wires.filter_map(|(name, l)| Some((read_wire_alias(l.alias.as_ref()?)?.id, name.clone()))).collect()
}

/// Namespaces that `ip netns` would list, by inode.
fn named_namespaces() -> BTreeMap<u64, PathBuf> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|e| Some((Netns::open(&e.path()).ok()?.inode(), e.path()))).collect()
}

/// A record from what the kernel shows: the alias names the attachment, the guard its addresses, queues its limits.
fn rebuild(
    id: &AttachmentId,
    host_end: &IfName,
    found: &State,
    namespaces: &BTreeMap<u64, PathBuf>,
    world: &World,
) -> Option<Workload> {
    let link = found.links.get(host_end)?;
    let WireAlias { owner, netns_inode: inode, .. } = read_wire_alias(link.alias.as_ref()?)?;
    let network = world.networks.get(&id.network)?;
    let guarded = weft_dataplane::nft::guarded(&found.tables, host_end);
    let (mac, _) = guarded.first()?;
    let addresses: Vec<_> = guarded.iter().map(|(_, address)| *address).collect();
    let with_prefix = |address: &IpAddr| {
        network
            .subnets()
            .find(|s| s.contains(address))
            .and_then(|s| ipnet::IpNet::new(*address, s.prefix_len()).ok())
    };
    Some(Workload {
        id: id.clone(),
        owner,
        phase: Phase::Ready,
        netns: weft_model::Netns { path: namespaces.get(&inode).cloned().unwrap_or_default(), inode },
        host_end: host_end.clone(),
        mac: *mac,
        mtu: link.mtu,
        addresses: guarded.iter().filter_map(|(_, address)| with_prefix(address)).collect(),
        default_route: true,
        pod: None,
        profile: weft_model::Profile {
            ports: published_to(found, &addresses),
            bandwidth: weft_dataplane::bandwidth::limits(found, host_end),
            ..weft_model::Profile::default()
        },
    })
}

/// The ports that lead to these addresses, in nftables and at the loopback.
fn published_to(found: &State, addresses: &[IpAddr]) -> Vec<PortMapping> {
    let mut all = weft_dataplane::nft::published_to(&found.tables, addresses);
    let local = found.loopback.iter().flat_map(|l| &l.ports).filter(|(_, to)| addresses.contains(&to.ip()));
    for (port, to) in local {
        let (at, host) = (port.at.ip(), (port.at.port(), port.at.port()));
        let protocol = Protocol::from_number(port.protocol);
        let only = protocol.and_then(|p| PortMapping::new(p, Some(at), host, to.port()).ok());
        let new = only.filter(|only| !all.iter().any(|other| other.meets(only, at.is_ipv4())));
        all.extend(new);
    }
    all
}
