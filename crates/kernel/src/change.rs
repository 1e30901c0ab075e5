//! One change to the kernel, small enough to be refused on its own; and the trait of what applies it.
//!
//! [`crate::linux::Linux`] applies changes for real, [`crate::fake::FakeKernel`] to plain data.

mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use weft_model::{IfName, Mac};

use crate::nft;
use crate::state::{Inside, Link, LocalPort, Route, Shape, State, Sysctl};
use crate::{loopback, netlink, netns};

/// A change. Variants are declared in the order in which they are safe: what others need comes
/// first, and leaves last. In particular a wire's guard is in nftables before the wire exists, and
/// everything on the host's side stands before the workload's end comes up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes a setting of the whole namespace.
    SetSysctl(Sysctl, String),
    /// Additions to nftables, as one transaction.
    InstallRules(Vec<nft::Op>),
    /// Makes a bridge, down.
    CreateBridge(IfName, Link),
    /// Makes the detour of a wire, down.
    CreateIfb(IfName, Link),
    /// Makes a tunnel's end, down.
    CreateTunnel(IfName, Link),
    /// Makes a wire: both ends down, the inner one born in the workload's namespace.
    CreateWire(IfName, Link, Box<Inside>),
    /// Writes a setting of one interface.
    SetLinkSysctl(Sysctl, String),
    /// Takes a link out of the bridge that somebody has put it into.
    Release(IfName),
    /// Sets the largest packet of a wire's inner end, before that of the host's end.
    Refit(IfName, Box<Inside>, u32),
    /// Makes an existing link as described (address, MTU, group, bridge, up or down).
    SetLink(IfName, Link),
    /// Has a bridge give a port back what came from it, or not.
    SetHairpin(IfName, bool),
    /// Gives an interface an address.
    AddAddress(IfName, IpNet),
    /// Sets a permanent neighbour.
    SetNeighbour(IfName, IpAddr, Mac),
    /// Says to which host a tunnel sends what is for an Ethernet address.
    SetForwarding(IfName, Mac, IpAddr),
    /// Sets a route.
    SetRoute(IpNet, Route),
    /// Limits what leaves by an interface.
    SetShape(IfName, Shape),
    /// Sends what arrives by the first interface through the second.
    SetDetour(IfName, IfName),
    /// Settings, addresses, neighbours and routes inside a namespace, then up; the loopback too.
    Configure(IfName, Box<Inside>),
    /// Puts the programs at the sockets of the host's processes in place; they do nothing yet.
    InstallLoopback,
    /// Leads ports of the loopback elsewhere.
    SetLocalPorts(BTreeMap<LocalPort, SocketAddr>),
    /// Waits until a wire carries packets and writes its alias: from here on it counts as finished.
    Finish(IfName, String),
    /// Leads ports of the loopback nowhere any more.
    UnsetLocalPorts(BTreeSet<LocalPort>),
    /// Deletes a route.
    DeleteRoute(IpNet, Route),
    /// Forgets to which host a tunnel sends.
    DeleteForwarding(IfName, Mac),
    /// Deletes a neighbour.
    DeleteNeighbour(IfName, IpAddr),
    /// Takes an address away.
    DeleteAddress(IfName, IpNet),
    /// Ends a detour.
    DeleteDetour(IfName, IfName),
    /// Ends a limit.
    DeleteShape(IfName, Shape),
    /// Takes a link down and marks it as [`crate::ours::REAPED`]; [`reap`](crate::linux::Linux::reap) deletes it.
    Retire(IfName),
    /// Deletes a link at once.
    DeleteLink(IfName),
    /// Removals from nftables, as one transaction.
    RemoveRules(Vec<nft::Op>),
    /// Takes those programs away.
    RemoveLoopback,
    /// Has the kernel forget connections that would go astray.
    ForgetFlows(Vec<Stale>),
}

/// Connections that must not go on as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stale {
    /// All that have this address at one of their ends: its holder is gone.
    Of(IpAddr),
    /// Those to ports of the host itself that are led elsewhere since: they began when they were not.
    Unled {
        /// Their family.
        ipv4: bool,
        /// The number of their transport protocol.
        protocol: u8,
        /// The one address of the host's; `None` for all of that family.
        at: Option<IpAddr>,
        /// The ports.
        ports: BTreeSet<u16>,
    },
    /// Those to services that lead elsewhere than to one of their backends of now.
    Astray(BTreeMap<Service, BTreeSet<SocketAddr>>),
}

/// Where a service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// Its family.
    pub ipv4: bool,
    /// Its address; `None` for all of the host's of that family.
    pub at: Option<IpAddr>,
    /// The number of its transport protocol.
    pub protocol: u8,
    /// Its port.
    pub port: u16,
}

/// The rank from which on something is taken away.
const FIRST_REMOVAL: u8 = 21;

impl Change {
    /// Its place in the order of declaration.
    #[must_use]
    pub fn rank(&self) -> u8 {
        match self {
            Change::SetSysctl(..) => 0,
            Change::InstallRules(..) => 1,
            Change::CreateBridge(..) => 2,
            Change::CreateIfb(..) => 3,
            Change::CreateTunnel(..) => 4,
            Change::CreateWire(..) => 5,
            Change::SetLinkSysctl(..) => 6,
            Change::Release(..) => 7,
            Change::Refit(..) => 8,
            Change::SetLink(..) => 9,
            Change::SetHairpin(..) => 10,
            Change::AddAddress(..) => 11,
            Change::SetNeighbour(..) => 12,
            Change::SetForwarding(..) => 13,
            Change::SetRoute(..) => 14,
            Change::SetShape(..) => 15,
            Change::SetDetour(..) => 16,
            Change::Configure(..) => 17,
            Change::InstallLoopback => 18,
            Change::SetLocalPorts(..) => 19,
            Change::Finish(..) => 20,
            Change::UnsetLocalPorts(..) => FIRST_REMOVAL,
            Change::DeleteRoute(..) => FIRST_REMOVAL + 1,
            Change::DeleteForwarding(..) => FIRST_REMOVAL + 2,
            Change::DeleteNeighbour(..) => FIRST_REMOVAL + 3,
            Change::DeleteAddress(..) => FIRST_REMOVAL + 4,
            Change::DeleteDetour(..) => FIRST_REMOVAL + 5,
            Change::DeleteShape(..) => FIRST_REMOVAL + 6,
            Change::Retire(..) => FIRST_REMOVAL + 7,
            Change::DeleteLink(..) => FIRST_REMOVAL + 8,
            Change::RemoveRules(..) => FIRST_REMOVAL + 9,
            Change::RemoveLoopback => FIRST_REMOVAL + 10,
            Change::ForgetFlows(..) => FIRST_REMOVAL + 11,
        }
    }

    /// Whether it takes something away that is already gone when its interface is.
    #[must_use]
    pub fn is_removal(&self) -> bool {
        self.rank() >= FIRST_REMOVAL
    }
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
#[error("failed to run `{command}`")]
pub struct ChangeError {
    /// The equivalent command that failed; of several the first, where it is not known which.
    pub command: String,
    /// Why.
    #[source]
    pub cause: Cause,
}

/// The reasons behind a [`ChangeError`].
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The kernel said no.
    #[error(transparent)]
    Refused(#[from] netlink::Refusal),
    /// The conversation with the kernel failed.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// nftables said no.
    #[error(transparent)]
    Rules(#[from] nft::Error),
    /// The namespace cannot be entered.
    #[error(transparent)]
    Netns(#[from] netns::Error),
    /// Ports of the loopback cannot be led elsewhere.
    #[error(transparent)]
    Loopback(#[from] loopback::Error),
    /// The path names another namespace than the one that was attached.
    #[error("{path} is another network namespace now (inode {found}, was {wanted})")]
    Replaced {
        /// The namespace's file.
        path: std::path::PathBuf,
        /// The inode that was attached.
        wanted: u64,
        /// The inode found.
        found: u64,
    },
    /// There is no such interface.
    #[error("there is no interface {0}")]
    NoLink(IfName),
    /// An interface of a workload's is not the end of the wire that is to be configured.
    #[error("the interface {0} in the namespace was made by somebody else")]
    NotOurs(IfName),
    /// A setting could not be written.
    #[error("failed to write /proc/sys/{key}")]
    Sysctl {
        /// The setting.
        key: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A wire did not come up.
    #[error("the wire {0} does not carry packets, seconds after both ends were set up")]
    NotOperational(IfName),
    /// A fault point stopped it (tests only).
    #[error("stopped by the fault point {0}")]
    Fault(String),
}

impl Cause {
    /// The error number, where the kernel gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Cause::Refused(refusal) | Cause::Netlink(netlink::Error::Refused(refusal)) => Some(refusal.errno),
            _ => None,
        }
    }
}

/// A kernel that can be read and changed.
pub trait Kernel {
    /// Reads all that is weft's, and the given settings.
    ///
    /// # Errors
    /// When the kernel could not be asked; a partial answer is never returned.
    fn read(&mut self, sysctls: &[Sysctl]) -> Result<State, ReadError>;

    /// Makes changes in the order given; a refused one does not stop the next. One answer per change.
    fn apply(&mut self, changes: &[Change]) -> Vec<Result<(), ChangeError>>;
}

/// The kernel could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Routing netlink.
    #[error("failed to list {what}")]
    Netlink {
        /// What was asked for.
        what: &'static str,
        /// Why.
        #[source]
        source: netlink::Error,
    },
    /// nftables.
    #[error("failed to list the nftables rules")]
    Rules(#[source] nft::Error),
    /// The ports of the loopback.
    #[error("failed to list the ports of 127.0.0.1 and ::1 that are led elsewhere")]
    Loopback(#[source] loopback::Error),
}
