//! The real kernel, through two netlink sockets of the host's namespace.
//!
//! Consecutive changes of links, addresses, neighbours and routes travel in one message.

mod bandwidth;
mod cut;
mod flows;
mod inside;
mod read;
mod reap;
mod wire;
mod withdraw;

pub use cut::cut_wire;
pub use inside::check;
pub use read::Survey;
pub use reap::Reaped;

use std::collections::HashSet;

use crate::change::{Cause, Change, ChangeError, Kernel, ReadError};
use crate::netlink::{self, Family, Messages, Socket};
use crate::ours::{DETOUR_PREFERENCE, REAPED, ROUTE_PROTOCOL, SHAPE_HANDLE};
use crate::rtnl::{address, filter, link, neighbour, qdisc, route};
use crate::state::{Kind, Link, Route, State, Sysctl};
use crate::{loopback, netns, nft, sysctl};
use ipnet::IpNet;
use weft_model::IfName;

/// The kernel of the namespace in which it was opened. Calls must come from threads in that namespace.
pub struct Linux {
    route: Socket,
    netfilter: Socket,
    settings: sysctl::Writer,
    loopback: Option<loopback::Place>,
    /// Wires made since the changes at hand were begun.
    born: HashSet<IfName>,
}

/// Changes that will travel in one message.
#[derive(Default)]
struct Batch {
    messages: Messages,
    /// Which changes they are.
    queued: Vec<usize>,
    /// The interface that was looked up last. It is forgotten with the batch: what lies between two
    /// batches may give the name to another link.
    last: Option<(IfName, u32)>,
}

/// What one change became.
enum Prepared {
    /// It waits in the batch.
    Queued,
    /// It is done, or has failed.
    Settled(Result<(), Failure>),
}

/// Why a change failed, and at which of its commands.
struct Failure {
    command: usize,
    cause: Cause,
}

/// Most changes are one command.
impl<C: Into<Cause>> From<C> for Failure {
    fn from(cause: C) -> Failure {
        Failure { command: 0, cause: cause.into() }
    }
}

impl Linux {
    /// Opens the calling thread's network namespace.
    ///
    /// # Errors
    /// [`netlink::Error::Open`].
    pub fn open() -> Result<Linux, netlink::Error> {
        Ok(Linux {
            route: Socket::open(Family::Route)?,
            netfilter: Socket::open(Family::Netfilter)?,
            settings: sysctl::Writer::default(),
            loopback: None,
            born: HashSet::new(),
        })
    }

    /// The same, which also leads ports of the loopback elsewhere, with programs at that place.
    #[must_use]
    pub fn with_loopback(self, place: Option<loopback::Place>) -> Linux {
        Linux { loopback: place, ..self }
    }

    fn loopback(&self) -> Result<&loopback::Place, Cause> {
        self.loopback.as_ref().ok_or_else(|| loopback::Error::Absent.into())
    }

    /// The port numbers of the sockets, by which events of our own making are told.
    #[must_use]
    pub fn ports(&self) -> [u32; 2] {
        [self.route.port(), self.netfilter.port()]
    }

    /// Reads all that is weft's, and what else is told along the way.
    ///
    /// # Errors
    /// As [`Kernel::read`].
    pub fn survey(&mut self) -> Result<Survey, ReadError> {
        read::survey(&mut self.route, &mut self.netfilter, self.loopback.as_ref())
    }

    /// The nftables socket, for reading counters.
    pub fn netfilter(&mut self) -> &mut Socket {
        &mut self.netfilter
    }

    /// Adds a change to the batch if it is one that batches; makes it at once otherwise.
    fn prepare(&mut self, batch: &mut Batch, change: &Change) -> Result<Prepared, Cause> {
        let Batch { messages, last, .. } = batch;
        let mut index = |name: &IfName| remembered(last, name);
        match change {
            Change::Release(name) => {
                let master = Some(0);
                link::change(messages, index(name)?, &link::Change { master, ..link::Change::default() });
            }
            // It was born as it is to be. To set what is set already would cost the kernel a walk through all IPv6
            // routes, once it is up (net/ipv6/addrconf.c `addrconf_notify`, `NETDEV_CHANGE`).
            Change::SetLink(name, wanted) if self.born.contains(name) => {
                let up = Some(wanted.up);
                link::change(messages, index(name)?, &link::Change { up, ..link::Change::default() });
            }
            Change::SetLink(name, wanted) => {
                let master = wanted.master.as_ref().map(&mut index).transpose()?;
                // An ifb's address is the one it was born with (drivers/net/ifb.c).
                let mac = Some(wanted.mac).filter(|_| wanted.kind != Kind::Ifb);
                let up = Some(wanted.up);
                let (mtu, group) = (Some(wanted.mtu), Some(wanted.group));
                let alias = wanted.alias.as_deref().filter(|_| wanted.kind != Kind::Wire);
                link::change(messages, index(name)?, &link::Change { up, mtu, mac, group, master, alias });
            }
            Change::SetHairpin(name, on) => link::set_hairpin(messages, index(name)?, *on),
            Change::AddAddress(name, to) => address::add(messages, index(name)?, *to),
            Change::SetNeighbour(name, ip, mac) => neighbour::set(messages, index(name)?, *ip, *mac),
            Change::SetForwarding(name, mac, to) => neighbour::forward(messages, index(name)?, *mac, *to),
            Change::DeleteForwarding(name, mac) => neighbour::forward_no_more(messages, index(name)?, *mac),
            Change::SetRoute(to, via) => route::set(messages, &described(*to, via, index(&via.device)?)),
            Change::DeleteRoute(to, via) => {
                route::delete(messages, &described(*to, via, index(&via.device)?));
            }
            Change::DeleteNeighbour(name, ip) => neighbour::delete(messages, index(name)?, *ip),
            Change::DeleteShape(name, _) => qdisc::delete(messages, index(name)?, SHAPE_HANDLE),
            Change::DeleteDetour(name, _) => filter::delete(messages, index(name)?, DETOUR_PREFERENCE),
            Change::DeleteAddress(name, from) => address::delete(messages, index(name)?, *from),
            Change::Retire(name) => {
                let (up, group) = (Some(false), Some(REAPED));
                link::change(messages, index(name)?, &link::Change { up, group, ..link::Change::default() });
            }
            Change::DeleteLink(name) => link::delete(messages, index(name)?),
            _ => return Ok(Prepared::Settled(self.at_once(change))),
        }
        Ok(Prepared::Queued)
    }

    fn at_once(&mut self, change: &Change) -> Result<(), Failure> {
        match change {
            Change::SetSysctl(key, value) | Change::SetLinkSysctl(key, value) => self
                .settings
                .write(key, value)
                .map_err(|source| Cause::Sysctl { key: key.path().to_owned(), source })?,
            Change::InstallRules(ops) | Change::RemoveRules(ops) => {
                nft::apply(&mut self.netfilter, ops).map_err(|error| refused_rules(ops, error))?;
            }
            Change::CreateBridge(name, wanted) => self.create_bridge(name, wanted)?,
            Change::CreateIfb(name, wanted) => self.create_ifb(name, wanted)?,
            Change::SetShape(name, shape) => self.set_shape(name, shape)?,
            Change::SetDetour(name, by) => self.set_detour(name, by)?,
            Change::CreateTunnel(name, wanted) => self.create_tunnel(name, wanted)?,
            Change::Refit(name, inside, mtu) => inside::refit(index(name)?, inside, *mtu)?,
            Change::CreateWire(name, wanted, inside) => {
                self.create_wire(name, wanted, inside)?;
                self.born.insert(name.clone());
            }
            Change::Configure(name, inside) => inside::configure(index(name)?, inside)?,
            Change::Finish(name, alias) => self.finish(name, alias)?,
            Change::InstallLoopback => self.loopback()?.install()?,
            Change::SetLocalPorts(ports) => self.loopback()?.set(ports)?,
            // Where there is no place for programs there are none.
            Change::UnsetLocalPorts(ports) => {
                self.loopback.iter().try_for_each(|place| place.unset(ports))?;
            }
            Change::RemoveLoopback => self.loopback.iter().try_for_each(loopback::Place::remove)?,
            Change::ForgetFlows(stale) => self.forget(stale)?,
            _ => {}
        }
        Ok(())
    }

    fn create_bridge(&mut self, name: &IfName, wanted: &Link) -> Result<(), Cause> {
        let mut messages = Messages::default();
        link::create_bridge(&mut messages, name, wanted.mac, wanted.mtu, wanted.group);
        self.only(&messages)
    }

    fn create_tunnel(&mut self, name: &IfName, wanted: &Link) -> Result<(), Cause> {
        let Kind::Tunnel { vni, local } = wanted.kind else { return Ok(()) };
        let mut messages = Messages::default();
        link::create_tunnel(&mut messages, name, (wanted.mac, wanted.mtu, wanted.group), (vni, local));
        self.only(&messages)
    }

    /// Sends messages of which each must succeed.
    fn only(&mut self, messages: &Messages) -> Result<(), Cause> {
        for answer in self.route.transact(messages)? {
            answer?;
        }
        Ok(())
    }

    /// Sends the batch and files each answer under the change it belongs to.
    fn flush(&mut self, batch: &mut Batch, answers: &mut [Option<Result<(), Failure>>]) {
        let Batch { messages, mut queued, .. } = std::mem::take(batch);
        if messages.is_empty() {
            return;
        }
        match self.route.transact(&messages) {
            Ok(verdicts) => {
                for (at, verdict) in queued.drain(..).zip(verdicts) {
                    answers[at] = Some(verdict.map_err(Failure::from));
                }
            }
            Err(error) => {
                // The conversation broke: what was made of these is unknown until the next read.
                let text = error.to_string();
                for at in queued.drain(..) {
                    let source = std::io::Error::other(text.clone());
                    answers[at] = Some(Err(netlink::Error::Receive(source).into()));
                }
            }
        }
    }
}

impl Kernel for Linux {
    fn read(&mut self, sysctls: &[Sysctl]) -> Result<State, ReadError> {
        Ok(self.survey()?.with_settings(sysctls))
    }

    fn apply(&mut self, changes: &[Change]) -> Vec<Result<(), ChangeError>> {
        let mut answers: Vec<Option<Result<(), Failure>>> = changes.iter().map(|_| None).collect();
        let mut batch = Batch::default();
        self.settings.forget();
        self.born.clear();
        for (at, change) in changes.iter().enumerate() {
            if !batches(change) {
                if !matches!(change, Change::SetLinkSysctl(..)) {
                    self.settings.forget();
                }
                self.flush(&mut batch, &mut answers);
            }
            match self.prepare(&mut batch, change) {
                Ok(Prepared::Queued) => batch.queued.push(at),
                Ok(Prepared::Settled(result)) => answers[at] = Some(result),
                Err(cause) => answers[at] = Some(Err(cause.into())),
            }
        }
        self.flush(&mut batch, &mut answers);
        let answer = |(change, answer): (&Change, Option<Result<(), Failure>>)| {
            let failed = |f: Failure| ChangeError { command: change.command(f.command), cause: f.cause };
            forgive(change, answer.unwrap_or(Ok(()))).map_err(failed)
        };
        changes.iter().zip(answers).map(answer).collect()
    }
}

/// Which of the steps nftables refused, where it was one of them.
fn refused_rules(ops: &[nft::Op], error: nft::Error) -> Failure {
    let command = match &error {
        nft::Error::Refused { index, .. } => *index,
        nft::Error::Invalid { op, .. } => ops.iter().position(|o| o.to_string() == *op).unwrap_or(0),
        _ => 0,
    };
    Failure { command, cause: error.into() }
}

/// Changes that only add a message to the batch.
fn batches(change: &Change) -> bool {
    !matches!(
        change,
        Change::SetSysctl(..)
            | Change::SetLinkSysctl(..)
            | Change::InstallRules(..)
            | Change::RemoveRules(..)
            | Change::CreateBridge(..)
            | Change::CreateTunnel(..)
            | Change::Refit(..)
            | Change::CreateWire(..)
            | Change::CreateIfb(..)
            | Change::SetShape(..)
            | Change::SetDetour(..)
            | Change::Configure(..)
            | Change::Finish(..)
            | Change::InstallLoopback
            | Change::SetLocalPorts(..)
            | Change::UnsetLocalPorts(..)
            | Change::RemoveLoopback
            | Change::ForgetFlows(..)
    )
}

/// What is to be taken away may be gone already, with its interface or by somebody else's hand.
fn forgive(change: &Change, result: Result<(), Failure>) -> Result<(), Failure> {
    match result {
        Err(Failure { cause: Cause::NoLink(_), .. }) if change.is_removal() => Ok(()),
        Err(failure) if change.is_removal() => match failure.cause.errno() {
            Some(libc::ENODEV | libc::ESRCH | libc::ENOENT | libc::EADDRNOTAVAIL) => Ok(()),
            _ => Err(failure),
        },
        other => other,
    }
}

fn index(name: &IfName) -> Result<u32, Cause> {
    netns::index_of(name.as_str()).ok_or_else(|| Cause::NoLink(name.clone()))
}

/// The index of an interface, asked for once per batch where several changes in a row concern it.
fn remembered(last: &mut Option<(IfName, u32)>, name: &IfName) -> Result<u32, Cause> {
    match last {
        Some((known, index)) if known == name => Ok(*index),
        _ => {
            let index = index(name)?;
            *last = Some((name.clone(), index));
            Ok(index)
        }
    }
}

fn described(destination: IpNet, wanted: &Route, index: u32) -> route::Described {
    route::Described {
        destination,
        index,
        gateway: wanted.gateway,
        source: wanted.source,
        protocol: ROUTE_PROTOCOL,
        mtu: wanted.mtu,
        metric: None,
    }
}
