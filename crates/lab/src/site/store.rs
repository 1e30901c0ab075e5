//! How a lab's hosts hear of each other: from an etcd that stands outside of all of them, or from a file.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use weft_kernel::netns::Netns;
use weft_model::api::{NetworkSpec, Reply, Request, Status};
use weft_model::{Encapsulation, Mode};

use super::process::Process;
use super::record::Member;
use super::{MTU, PATIENCE, Site};
use crate::agent::last_lines;
use crate::host::unexpected;
use crate::{Error, OUTSIDE4, Underlay, ask, etcd, shared_network};

/// etcd's usual port for clients.
const PORT: u16 = 2379;
/// Between two looks at what is awaited.
const LOOK: Duration = Duration::from_millis(10);

/// From where the hosts of a lab hear of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Store {
    /// A real etcd behind the router.
    Etcd,
    /// A file that the lab writes.
    File,
}

/// The store's address, as agents are told it.
pub(super) fn address() -> String {
    format!("etcd://{OUTSIDE4}:{PORT}")
}

impl Site {
    /// Starts the store's server in the router's namespace, where no host's loss harms it.
    pub(super) fn serve(&mut self) -> Result<(), Error> {
        let home = self.folder.join("etcd");
        fs::create_dir_all(&home).map_err(|source| Error::File { path: home.clone(), source })?;
        let data = format!("--data-dir={}", home.join("data").display());
        let (clients, peers) =
            (format!("http://{OUTSIDE4}:{PORT}"), format!("http://{OUTSIDE4}:{}", PORT + 1));
        let router = Netns::open(&self.namespace("router"))?;
        let mut command = router.command(etcd::PROGRAM);
        command.arg("--name=lab").arg(&data);
        for (option, url) in [
            ("listen-client", &clients),
            ("advertise-client", &clients),
            ("listen-peer", &peers),
            ("initial-advertise-peer", &peers),
        ] {
            command.arg(format!("--{option}-urls={url}"));
        }
        command.arg(format!("--initial-cluster=lab={peers}"));
        let log = home.join("log");
        let server = Process::start(command, data, &log).map_err(missing)?;
        self.record.server = Some(server.clone());
        self.record.write(&self.folder)?;
        let address = SocketAddr::from((OUTSIDE4, PORT));
        await_it("the store", &log, || {
            if !server.is_running() {
                return Err(ended("the store", &log));
            }
            Ok(router.run(|| TcpStream::connect_timeout(&address, LOOK).is_ok())?)
        })
    }

    /// Declares the network `default`, which all hosts share: by the first host's agent, as a person would.
    pub(super) fn found(&self) -> Result<(), Error> {
        let like = shared_network(1, Mode::Routed, Encapsulation::Auto)?;
        let spec = NetworkSpec {
            name: "default".parse()?,
            subnets: like.subnets().collect(),
            mode: Mode::Routed,
            mtu: None,
            masquerade: true,
            encapsulation: Encapsulation::Auto,
            explain: false,
        };
        let first = &self.record.members[0];
        let socket = first.socket(&self.folder);
        let log = first.home(&self.folder).join("agent.log");
        await_it("the first host", &log, || match ask(&socket, &Request::NetworkCreate(spec.clone()))? {
            Reply::Network(_) => Ok(true),
            // It does not take part in the cluster yet.
            Reply::Error(refusal) if refusal.kind == weft_model::api::ErrorKind::TryAgain => Ok(false),
            Reply::Error(refusal) if refusal.kind == weft_model::api::ErrorKind::Exists => Ok(true),
            Reply::Error(refusal) => Err(refusal.into()),
            other => Err(unexpected(&other)),
        })
    }

    /// Waits until a host has addresses to give.
    pub(super) fn await_addresses(&self, at: usize) -> Result<(), Error> {
        let member = &self.record.members[at];
        let (socket, log) = (member.socket(&self.folder), member.home(&self.folder).join("agent.log"));
        await_it(&member.name, &log, || Ok(asked(&socket).is_some_and(|status| gives(&status))))
    }

    /// Waits until every host that runs has addresses to give and knows of all others that run.
    pub(super) fn settle(&self) -> Result<(), Error> {
        let running: Vec<&Member> = self.record.members.iter().filter(|m| m.is_running()).collect();
        for member in &running {
            let (socket, log) = (member.socket(&self.folder), member.home(&self.folder).join("agent.log"));
            await_it(&member.name, &log, || {
                let Some(status) = asked(&socket) else { return Ok(false) };
                let knows = |other: &&Member| {
                    status.peers.iter().any(|p| p.node.as_str() == other.name && !p.reaches.is_empty())
                };
                let in_sync =
                    self.record.store == Store::File || status.store.as_ref().is_some_and(|s| s.in_sync);
                let mut others = running.iter().filter(|other| other.name != member.name);
                Ok(in_sync && gives(&status) && others.all(knows))
            })?;
        }
        Ok(())
    }

    /// Waits until no host that runs counts on the lost one any more: its lease is over.
    pub(super) fn forget(&mut self, lost: &str) -> Result<(), Error> {
        if self.record.store == Store::File {
            self.record.told.nodes.remove(&lost.parse::<weft_model::NodeName>()?);
            self.record.write(&self.folder)?;
            return self.record.publish(&self.folder);
        }
        for member in self.record.members.iter().filter(|m| m.is_running()) {
            let (socket, log) = (member.socket(&self.folder), member.home(&self.folder).join("agent.log"));
            await_it(&member.name, &log, || {
                let Some(status) = asked(&socket) else { return Ok(false) };
                Ok(!status.peers.iter().any(|p| p.node.as_str() == lost))
            })?;
        }
        Ok(())
    }

    /// A host comes back: where there is no store, the others must be told.
    pub(super) fn remember(&mut self, member: &Member) -> Result<(), Error> {
        if self.record.store == Store::File { self.record.join(member, MTU) } else { Ok(()) }
    }

    /// Joins or parts a host's wire and its segment.
    pub(super) fn plug(&self, at: usize, connected: bool) -> Result<(), Error> {
        let router = Netns::open(&self.namespace("router"))?;
        crate::Links::of(&router)?.set_up(&Underlay::port(self.record.members[at].number), connected)
    }
}

/// What an agent says of itself, if it answers.
fn asked(socket: &Path) -> Option<Status> {
    match ask(socket, &Request::Status) {
        Ok(Reply::Status(status)) => Some(*status),
        _ => None,
    }
}

/// Whether a host has addresses of the network `default` to give.
fn gives(status: &Status) -> bool {
    let network = status.networks.iter().find(|n| n.network.name.as_str() == "default");
    network.is_some_and(|n| n.pools.iter().all(|p| p.usable > 0))
}

/// Waits until `there` says so; `who` and its log are named if it does not.
pub(super) fn await_it(
    who: &str,
    log: &Path,
    mut there: impl FnMut() -> Result<bool, Error>,
) -> Result<(), Error> {
    let begin = Instant::now();
    while !there()? {
        if begin.elapsed() > PATIENCE {
            let (node, seconds) = (who.to_owned(), PATIENCE.as_secs());
            return Err(Error::Silent { node, what: "get ready", seconds, log: last_lines(log) });
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

pub(super) fn ended(who: &str, log: &Path) -> Error {
    Error::Ended { node: who.to_owned(), status: "at once".to_owned(), log: last_lines(log) }
}

/// That there is no etcd is worth more words than the kernel's.
fn missing(error: Error) -> Error {
    match error {
        Error::Program { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Error::Missing {
            program: etcd::PROGRAM.into(),
            hint: "Debian's package is etcd-server; `weft lab up --quick` does without",
        },
        other => other,
    }
}
