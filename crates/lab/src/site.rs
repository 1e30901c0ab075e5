//! A lab that outlives the command that made it: hosts as named namespaces, agents as processes of their own.
//!
//! All that is known of it stands in one folder; whoever removes the folder after [`Site::down`] leaves nothing.

mod cut;
mod process;
mod record;
mod store;
mod waiting;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use weft_kernel::netns::Netns;
use weft_model::api::{Reply, Request, Status};
use weft_model::{Encapsulation, Mode};

use crate::{Error, Underlay, ask, shared_network};
use process::Process;
use record::{Member, Record};
pub use store::Store;

/// Where namespaces are mounted, as `ip netns` does.
const NAMESPACES: &str = "/run/netns";
/// What an Ethernet carries.
const MTU: u32 = 1500;
/// How long an agent or the store may take to get ready; seconds are usual.
const PATIENCE: Duration = Duration::from_secs(60);

/// A lab.
pub struct Site {
    folder: PathBuf,
    record: Record,
}

/// A host as it stands now.
pub struct Standing {
    /// Its name.
    pub name: String,
    /// Its segment, from 1.
    pub segment: usize,
    /// Its addresses on the underlay.
    pub addresses: Vec<IpAddr>,
    /// Where its agent listens.
    pub socket: PathBuf,
    /// What its agent says; `None` if it does not.
    pub status: Option<Status>,
}

impl Site {
    /// Makes a lab in `folder`, which must not exist: a router, two segments, and hosts on both with agents.
    ///
    /// # Errors
    /// What the kernel, the file system or an agent refused; what was made is taken down again.
    pub fn up(folder: &Path, program: &Path, hosts: usize, store: Store) -> Result<Site, Error> {
        let file = |source| Error::File { path: folder.to_owned(), source };
        if let Some(parent) = folder.parent() {
            fs::create_dir_all(parent).map_err(file)?;
        }
        fs::create_dir(folder).map_err(file)?;
        let mut site = Site { folder: folder.to_owned(), record: Record::new(program, store) };
        match site.build(hosts) {
            Ok(()) => Ok(site),
            Err(error) => {
                let _ = site.down();
                Err(error)
            }
        }
    }

    /// A lab that is up.
    ///
    /// # Errors
    /// [`Error::File`] if there is none in `folder`.
    pub fn open(folder: &Path) -> Result<Site, Error> {
        Ok(Site { folder: folder.to_owned(), record: Record::read(folder)? })
    }

    fn build(&mut self, hosts: usize) -> Result<(), Error> {
        fs::create_dir_all(NAMESPACES).map_err(|source| Error::File { path: NAMESPACES.into(), source })?;
        self.record.write(&self.folder)?;
        let underlay = Underlay::within(self.create("router")?, MTU)?;
        if self.record.store == Store::File {
            let mut network = shared_network(1, Mode::Routed, Encapsulation::Auto)?;
            network.name = "default".parse()?;
            self.record.told.networks.insert(network.name.clone(), network);
        } else {
            self.serve()?;
        }
        for number in 0..hosts {
            // Neighbours and strangers: the second half stands behind the router.
            let segment = number * 2 / hosts.max(1);
            let name = format!("host{}", number + 1);
            let netns = self.create(&name)?;
            let place = underlay.plug(segment, &netns, &"eth0".parse()?)?;
            let (number, addresses) = (place.number, place.addresses.to_vec());
            let member = Member { name, number, segment, addresses, agent: None };
            self.remember(&member)?;
            self.record.members.push(member);
            self.record.write(&self.folder)?;
        }
        self.record.publish(&self.folder)?;
        // One after the other: so the first has the first block of addresses, and so on.
        for at in 0..hosts {
            self.launch(at)?;
            self.await_answer(at)?;
            if at == 0 && self.record.store == Store::Etcd {
                self.found()?;
            }
            self.await_addresses(at)?;
        }
        self.settle()
    }

    /// The namespace of one of the lab's, freshly made.
    fn create(&self, name: &str) -> Result<Netns, Error> {
        Ok(Netns::create_at(&self.namespace(name))?)
    }

    fn namespace(&self, name: &str) -> PathBuf {
        Path::new(NAMESPACES).join(format!("{}-{name}", self.name()))
    }

    /// What the lab is called: its namespaces' names begin with it.
    #[must_use]
    pub fn name(&self) -> String {
        self.folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    }

    fn member(&self, host: &str) -> Result<usize, Error> {
        let found = self.record.members.iter().position(|m| m.name == host);
        found.ok_or_else(|| {
            let all: Vec<&str> = self.record.members.iter().map(|m| m.name.as_str()).collect();
            Error::Answer(format!("there is no host '{host}' in the lab: it has {}", all.join(", ")))
        })
    }

    /// Starts a host's agent.
    fn launch(&mut self, at: usize) -> Result<(), Error> {
        let member = &self.record.members[at];
        let (home, config) = (member.home(&self.folder), member.config_file(&self.folder));
        let file = |source| Error::File { path: home.clone(), source };
        fs::create_dir_all(&home).map_err(file)?;
        fs::write(&config, member.config(&self.folder, self.record.store)).map_err(file)?;
        let netns = Netns::open(&self.namespace(&member.name))?;
        let mut command = netns.command(&self.record.program.to_string_lossy());
        command.arg("agent").arg("--config").arg(&config);
        let word = config.display().to_string();
        self.record.members[at].agent = Some(Process::start(command, word, &home.join("agent.log"))?);
        self.record.write(&self.folder)
    }

    fn await_answer(&self, at: usize) -> Result<(), Error> {
        let member = &self.record.members[at];
        let (socket, log) = (member.socket(&self.folder), member.home(&self.folder).join("agent.log"));
        store::await_it(&member.name, &log, || match ask(&socket, &Request::NetworkList) {
            Ok(_) => Ok(true),
            Err(_) if member.is_running() => Ok(false),
            Err(_) => Err(store::ended(&member.name, &log)),
        })
    }

    /// All hosts as they stand now.
    #[must_use]
    pub fn standing(&self) -> Vec<Standing> {
        let of = |m: &Member| {
            let socket = m.socket(&self.folder);
            let status = match m.is_running().then(|| ask(&socket, &Request::Status)) {
                Some(Ok(Reply::Status(status))) => Some(*status),
                _ => None,
            };
            Standing {
                name: m.name.clone(),
                segment: m.segment + 1,
                addresses: m.addresses.iter().map(ipnet::IpNet::addr).collect(),
                socket,
                status,
            }
        };
        self.record.members.iter().map(of).collect()
    }

    /// Pairs of hosts that are cut off from each other.
    pub fn cuts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.record.cuts.iter().map(|(a, b)| (a.as_str(), b.as_str()))
    }

    /// Runs a container on a host in the background, by `weft run` with these words; without any, one that only
    /// waits. Returns its addresses.
    ///
    /// # Errors
    /// What the kernel or `weft run` refused; its own words have been said then.
    pub fn run(&mut self, host: &str, workload: &str, words: &[String]) -> Result<Vec<IpAddr>, Error> {
        let at = self.member(host)?;
        if self.record.members.iter().any(|m| m.name == workload) || workload == "router" {
            return Err(Error::Answer(format!("'{workload}' is a host of the lab: choose another name")));
        }
        let waiting = if words.is_empty() { waiting::words(&self.folder)? } else { Vec::new() };
        let container = format!("{}-{workload}", self.name());
        let mut command = self.command(host, "weft")?;
        command.args(["run", "--detach", "--name", &container]).args(waiting).args(words);
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
        let failed = |source| Error::Program { what: "run", program: self.record.program.clone(), source };
        if !status.map_err(failed)?.success() {
            return Err(Error::Answer(format!("weft run on {host} failed")));
        }
        self.record.workloads.push((workload.to_owned(), host.to_owned()));
        self.record.write(&self.folder)?;
        match ask(&self.record.members[at].socket(&self.folder), &Request::Status)? {
            Reply::Status(status) => {
                let own = status.workloads.iter().filter(|w| w.id.container.as_str() == container);
                Ok(own.flat_map(|w| &w.addresses).map(ipnet::IpNet::addr).collect())
            }
            other => Err(crate::host::unexpected(&other)),
        }
    }

    /// Runs a command in the namespace of a host, of a container, or of the `router`.
    ///
    /// # Errors
    /// If there is no such namespace, or the command cannot be started.
    pub fn exec(&self, at: &str, words: &[String]) -> Result<ExitStatus, Error> {
        let Some((program, arguments)) = words.split_first() else {
            return Err(Error::Answer("there is no command to run".to_owned()));
        };
        let status = self.command(at, program)?.args(arguments).status();
        status.map_err(|source| Error::Program { what: "run", program: program.into(), source })
    }

    /// A command there. `weft …` on a host has that host's configuration, and so speaks to its agent.
    fn command(&self, at: &str, program: &str) -> Result<Command, Error> {
        let netns = Netns::open(&self.namespace(at))?;
        let own = self.record.program.to_string_lossy();
        let mut command = netns.command(if program == "weft" { &own } else { program });
        if let Some(member) = self.record.members.iter().find(|m| m.name == at) {
            command.env("WEFT_CONFIG", member.config_file(&self.folder)).env_remove("WEFT_SOCKET");
        }
        Ok(command)
    }

    /// The configuration files of all hosts.
    #[must_use]
    pub fn configurations(&self) -> Vec<PathBuf> {
        self.record.members.iter().map(|m| m.config_file(&self.folder)).collect()
    }

    /// The host is lost: its wire is cut and its agent killed. Returns when the others know that it is gone: with a
    /// store at the end of its lease.
    ///
    /// # Errors
    /// What the kernel or the file system refused.
    pub fn kill(&mut self, host: &str) -> Result<(), Error> {
        let at = self.member(host)?;
        self.plug(at, false)?;
        self.record.members[at].kill()?;
        self.forget(host)
    }

    /// Two hosts hear no more of each other; everybody else hears both.
    ///
    /// # Errors
    /// What the kernel or the file system refused.
    pub fn cut(&mut self, one: &str, other: &str) -> Result<(), Error> {
        self.member(one)?;
        self.member(other)?;
        self.record.cuts.push((one.to_owned(), other.to_owned()));
        self.apply_cuts()
    }

    /// Mends all cuts, and brings lost hosts back.
    ///
    /// # Errors
    /// What the kernel, the file system or an agent refused.
    pub fn heal(&mut self) -> Result<(), Error> {
        self.record.cuts.clear();
        self.apply_cuts()?;
        let all = 0..self.record.members.len();
        for at in all.clone() {
            self.plug(at, true)?;
            let member = self.record.members[at].clone();
            self.remember(&member)?;
            if !member.is_running() {
                self.launch(at)?;
            }
        }
        self.record.write(&self.folder)?;
        self.record.publish(&self.folder)?;
        all.into_iter().try_for_each(|at| self.await_answer(at))?;
        self.settle()
    }

    fn apply_cuts(&mut self) -> Result<(), Error> {
        self.record.write(&self.folder)?;
        let router = Netns::open(&self.namespace("router"))?;
        cut::apply(&router, &self.record)
    }

    /// Takes the lab down: agents, store, namespaces, folder; containers must have ended. What is gone already is no
    /// error.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn down(self) -> Result<(), Error> {
        for member in &self.record.members {
            member.kill()?;
        }
        self.record.server.as_ref().map_or(Ok(()), Process::kill)?;
        let hosts = self.record.members.iter().map(|m| m.name.as_str()).chain(["router"]);
        for name in hosts.chain(self.record.workloads.iter().map(|(w, _)| w.as_str())) {
            Netns::remove_at(&self.namespace(name))?;
        }
        fs::remove_dir_all(&self.folder).map_err(|source| Error::File { path: self.folder.clone(), source })
    }
}
