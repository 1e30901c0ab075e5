//! The one place where world, store and kernel meet. Callers hold its lock for one operation at a time:
//! the kernel serialises changes to links anyway (RTNL).

mod attach;
mod bandwidth;
mod check;
mod cluster;
mod collect;
mod detach;
mod events;
mod host;
mod mac;
mod network;
mod object;
mod peers;
mod policy;
mod ports;
mod record;
mod recover;
mod refusal;
mod report;
mod services;
mod share;
mod sync;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::mpsc::Sender;
use std::time::Instant;

use weft_kernel::change::Stale;
use weft_kernel::linux::Survey;
use weft_kernel::loopback::Place;
use weft_kernel::nft::{Item, Key, TableName, Value};
use weft_kernel::{Change, ChangeError, Kernel as _, Linux};
use weft_model::api::{Error, ErrorKind, StoreState};
use weft_model::{
    AttachmentId, Cluster, Here, IfName, Mac, NetworkName, NodeName, ObjectId, Workload, World,
};
use weft_plan::Plan;
use weft_plan::address::Addresses;
use weft_plan::policy::{Numbering, Standing, Touched};
use weft_store::Embedded;

use crate::fault;
use crate::flows::Denials;
use crate::probe::Sample;
use crate::random;
use crate::reaper::Retired;

pub use recover::StartError;

/// World, plan, store and kernel of one host.
pub(crate) struct Engine {
    here: Here,
    world: World,
    /// What the world makes of this host; follows every change of the world.
    plan: Plan,
    addresses: BTreeMap<NetworkName, Addresses>,
    /// Which attachment a host end belongs to.
    host_ends: BTreeMap<IfName, AttachmentId>,
    /// Which attachments a namespace has, by its inode.
    inside: BTreeMap<u64, BTreeSet<AttachmentId>>,
    /// Whom services select; follows every change of the world.
    serving: weft_plan::services::Standing,
    /// Policy as it stands, by which the plan follows what is touched.
    standing: Standing,
    /// What of the world has changed since.
    touched: Touched,
    /// Whether nobody has said yet which workloads there are on other hosts.
    remote_unknown: bool,
    /// Which number policy's marks have for which class of peers.
    numbering: Numbering,
    /// The last packets that policy denied.
    denials: Denials,
    /// Finished attachments whose record still says pending: written along with the next change.
    unwritten: BTreeSet<AttachmentId>,
    records: record::Records,
    store: Embedded,
    kernel: Linux,
    /// What was read at start, for the first sync: watching began before, so nothing falls between.
    early: Option<Survey>,
    reaper: Sender<Retired>,
    /// Addresses whose connections the reaper has yet to end.
    leaving: BTreeSet<IpAddr>,
    /// Where published ports of 127.0.0.1 and ::1 are led elsewhere.
    loopback: Option<Place>,
    /// Whether people want that.
    loopback_wanted: bool,
    /// Since when the loopback's programs have no port to lead.
    unled_since: Option<Instant>,
    /// Where plugins leave word.
    journal: std::path::PathBuf,
    started: Instant,
    /// Objects that were refused, and why.
    refusals: BTreeMap<ObjectId, String>,
    /// What is wrong, for `weft status`.
    health: Vec<String>,
    /// Who of the other hosts claims what; follows the plan.
    claims: weft_plan::peer::Claims,
    /// What is known of other hosts by asking them.
    heard: BTreeMap<NodeName, Sample>,
    /// What of the cluster's records cannot be used, for the same.
    strange: Vec<String>,
    /// When this host was last looked at for the cluster's sake, and what of the cluster that was for.
    followed: Option<cluster::Followed>,
    /// Whether this host belongs to a cluster and nobody has told this agent yet who else does.
    unheard: bool,
    /// Where the cluster as it was last heard of is kept.
    cluster_record: std::path::PathBuf,
    /// What is to be written there.
    unwritten_cluster: Option<Cluster>,
    /// How it is with the store that hosts share.
    store_state: Option<StoreState>,
    /// What is wrong with this host's part in it, for `weft status`.
    store_problems: Vec<String>,
    /// What is doubtful about this host's own addresses, for the same.
    own_problem: Option<String>,
    /// The addresses on the underlay that the configuration names.
    underlay: Vec<IpAddr>,
    /// The zone that the configuration names.
    zone: Option<String>,
    /// The Ethernet address of this host's ends of tunnels.
    tunnel_mac: Mac,
    /// Addresses that somebody asked for by name and whose blocks are not this host's.
    asked: BTreeMap<NetworkName, BTreeSet<IpAddr>>,
    /// The length of the blocks of networks that are declared here, if the configuration names one.
    pub(crate) block: Option<u8>,
    /// Whether a cluster without networks gets the usual one.
    default_wanted: bool,
}

impl Engine {
    /// Makes changes; with a fault point armed, one by one with a point before each.
    fn apply(&mut self, operation: &str, changes: &[Change]) -> Vec<Result<(), ChangeError>> {
        if !fault::watched(operation) {
            return self.kernel.apply(changes);
        }
        let one = |change: &Change| {
            fault::point(operation);
            self.kernel.apply(std::slice::from_ref(change)).pop().unwrap_or(Ok(()))
        };
        changes.iter().map(one).collect()
    }

    fn insert(&mut self, workload: Workload) {
        if let Some(network) = self.plan.networks.get(&workload.id.network) {
            let planned = weft_plan::attach::plan(&workload, network);
            self.plan.workloads.insert(workload.id.clone(), planned);
        }
        self.touched.workload(workload.id.clone());
        self.host_ends.insert(workload.host_end.clone(), workload.id.clone());
        self.inside.entry(workload.netns.inode).or_default().insert(workload.id.clone());
        self.world.workloads.insert(workload.id.clone(), workload);
    }

    /// The attachments of a namespace.
    fn of_namespace(&self, inode: u64) -> impl Iterator<Item = &Workload> {
        let ids = self.inside.get(&inode).into_iter().flatten();
        ids.filter_map(|id| self.world.workloads.get(id))
    }

    fn remove(&mut self, id: &AttachmentId) -> Option<Workload> {
        let workload = self.world.workloads.remove(id)?;
        self.touched.workload(id.clone());
        self.plan.workloads.remove(id);
        self.host_ends.remove(&workload.host_end);
        if let Entry::Occupied(mut namespace) = self.inside.entry(workload.netns.inode) {
            namespace.get_mut().remove(id);
            if namespace.get().is_empty() {
                namespace.remove();
            }
        }
        self.unwritten.remove(id);
        Some(workload)
    }

    /// Whether the guard of a wire of now has this element.
    pub(crate) fn wants_element(&self, table: &TableName, set: &str, key: &Key) -> bool {
        let Some(Item::One(Value::IfName(name))) = key.0.first() else { return false };
        let wire = name.as_str().parse().ok().and_then(|name: IfName| self.host_ends.get(&name));
        let Some(workload) = wire.and_then(|id| self.plan.workloads.get(id)) else { return false };
        let tables = weft_dataplane::render_workload(workload).state.tables;
        tables.get(table).and_then(|t| t.sets.get(set)).is_some_and(|s| s.elements.contains_key(key))
    }

    /// Has the kernel forget the connections of addresses whose holders are gone, but for those that somebody
    /// has again.
    pub(crate) fn forget_flows(&mut self, of: Vec<Stale>) -> Option<ChangeError> {
        let held: BTreeSet<IpAddr> =
            self.world.workloads.values().flat_map(|w| w.addresses.iter().map(ipnet::IpNet::addr)).collect();
        let mut of = of;
        of.retain(|stale| match stale {
            Stale::Of(address) => self.leaving.remove(address) && !held.contains(address),
            Stale::Unled { .. } | Stale::Astray(_) => true,
        });
        if of.is_empty() {
            return None;
        }
        self.kernel.apply(&[Change::ForgetFlows(of)]).pop().and_then(Result::err)
    }

    /// Computes the plan anew, after a change of more than one workload. Policy follows by itself.
    fn replan(&mut self) {
        let policy = std::mem::take(&mut self.plan.policy);
        let before = std::mem::take(&mut self.plan.services);
        self.plan = weft_plan::lay_out(&self.world, &self.here);
        self.plan.policy = policy;
        self.keep_services(&before);
        self.claims = weft_plan::peer::Claims::of(self.plan.peers.values());
        self.follow_policy();
    }

    fn addresses(&mut self, network: &NetworkName) -> Result<&mut Addresses, Error> {
        self.addresses.get_mut(network).ok_or_else(|| no_network(network))
    }

    /// The port numbers of this engine's sockets, by which events of its own making are told.
    #[must_use]
    pub(crate) fn ports(&self) -> [u32; 2] {
        self.kernel.ports()
    }
}

fn no_network(name: &NetworkName) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no network '{name}'"))
        .hint(format!("`weft network ls` shows those there are, `weft network create {name}` makes it"))
}

fn storage(error: &dyn std::error::Error) -> Error {
    Error::new(ErrorKind::Storage, crate::chain(error))
        .hint("free space below the agent's state_dir and run_dir, or make them writable, and try again")
}
