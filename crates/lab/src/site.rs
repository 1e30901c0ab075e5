//! A lab that outlives the command that made it: hosts as named namespaces, agents as processes of their own.
//!
//! All that is known of it stands in one folder; whoever removes the folder after [`Site::down`] leaves nothing.

mod cut;
mod record;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use weft_kernel::netns::Netns;
use weft_model::api::{Attached, Reply, Request, Status};
use weft_model::{Encapsulation, Mode, NodeName};

use crate::host::unexpected;
use crate::{Error, Links, Namespace, Underlay, ask, shared_network};
use record::{Member, Record};

/// Where namespaces are mounted, as `ip netns` does.
const NAMESPACES: &str = "/run/netns";
/// What an Ethernet carries.
const MTU: u32 = 1500;
/// How long an agent may take to answer first.
const PATIENCE: Duration = Duration::from_secs(30);

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
    pub fn up(folder: &Path, program: &Path, hosts: usize) -> Result<Site, Error> {
        let file = |source| Error::File { path: folder.to_owned(), source };
        if let Some(parent) = folder.parent() {
            fs::create_dir_all(parent).map_err(file)?;
        }
        fs::create_dir(folder).map_err(file)?;
        let mut site = Site { folder: folder.to_owned(), record: Record::new(program) };
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
        let mut network = shared_network(1, Mode::Routed, Encapsulation::Auto)?;
        network.name = "default".parse()?;
        self.record.told.networks.insert(network.name.clone(), network);
        for number in 0..hosts {
            // Neighbours and strangers: the second half stands behind the router.
            let segment = number * 2 / hosts.max(1);
            let name = format!("host{}", number + 1);
            let netns = self.create(&name)?;
            let place = underlay.plug(segment, &netns, &"eth0".parse()?)?;
            let member = Member {
                name: name.clone(),
                number: place.number,
                segment,
                addresses: place.addresses.to_vec(),
                pid: None,
            };
            self.record.join(&member, MTU)?;
            self.record.members.push(member);
            self.record.write(&self.folder)?;
        }
        self.record.publish(&self.folder)?;
        for number in 0..hosts {
            self.start(number)?;
        }
        Ok(())
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

    /// Starts a host's agent, in a session of its own, and waits until it answers.
    fn start(&mut self, at: usize) -> Result<(), Error> {
        let member = &self.record.members[at];
        let home = self.folder.join(&member.name);
        let file = |source| Error::File { path: home.clone(), source };
        fs::create_dir_all(&home).map_err(file)?;
        fs::write(home.join("config.toml"), member.config(&self.folder)).map_err(file)?;
        let log = home.join("agent.log");
        let out = fs::File::options().append(true).create(true).open(&log).map_err(file)?;
        let netns = Netns::open(&self.namespace(&member.name))?;
        let mut command = netns.command(&self.record.program.to_string_lossy());
        command.arg("agent").arg("--config").arg(home.join("config.toml")).stdin(Stdio::null());
        command.stdout(out.try_clone().map_err(file)?).stderr(out);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let failed = |source| Error::Program { what: "start", program: self.record.program.clone(), source };
        let mut child = command.spawn().map_err(failed)?;
        let (name, socket) = (member.name.clone(), member.socket(&self.folder));
        self.record.members[at].pid = Some(child.id());
        self.record.write(&self.folder)?;
        let begin = Instant::now();
        while ask(&socket, &Request::NetworkList).is_err() {
            let words = || crate::agent::last_lines(&log);
            if let Ok(Some(status)) = child.try_wait() {
                return Err(Error::Ended { node: name, status: status.to_string(), log: words() });
            }
            if begin.elapsed() > PATIENCE {
                let seconds = PATIENCE.as_secs();
                return Err(Error::Silent { node: name, what: "answer", seconds, log: words() });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// All hosts as they stand now.
    #[must_use]
    pub fn standing(&self) -> Vec<Standing> {
        let of = |m: &Member| {
            let socket = m.socket(&self.folder);
            let status = match m.is_running(&self.folder).then(|| ask(&socket, &Request::Status)) {
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

    /// Makes a namespace on a host, attached to the network `default`: a container with nobody in it.
    ///
    /// # Errors
    /// What the kernel or the agent refused.
    pub fn run(&mut self, host: &str, workload: &str) -> Result<Attached, Error> {
        let at = self.member(host)?;
        let path = self.namespace(workload);
        let container = format!("{}-{workload}", self.name());
        if self.record.members.iter().any(|m| m.name == workload) || workload == "router" {
            return Err(Error::Answer(format!("'{workload}' is a host of the lab: choose another name")));
        }
        let namespace = Namespace::mounted_at(&path)?;
        let mut wish = namespace.wish(&"default".parse()?, "eth0")?;
        wish.id.container = container.parse()?;
        let reply = ask(&self.record.members[at].socket(&self.folder), &Request::Attach(Box::new(wish)));
        match reply {
            Ok(Reply::Attached(attached)) => {
                namespace.keep();
                self.record.workloads.push((workload.to_owned(), host.to_owned()));
                self.record.write(&self.folder)?;
                Ok(*attached)
            }
            Ok(Reply::Error(refusal)) => Err(refusal.into()),
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Err(error),
        }
    }

    /// Runs a command in the namespace of a host, of a workload, or of the `router`.
    ///
    /// # Errors
    /// If there is no such namespace, or the command cannot be started.
    pub fn exec(&self, at: &str, command: &[String]) -> Result<ExitStatus, Error> {
        let netns = Netns::open(&self.namespace(at))?;
        let Some((program, arguments)) = command.split_first() else {
            return Err(Error::Answer("there is no command to run".to_owned()));
        };
        let own = self.record.program.to_string_lossy();
        let mut child = netns.command(if program == "weft" { &own } else { program });
        child.args(arguments);
        // `weft …` there speaks to that host's agent.
        if let Some(member) = self.record.members.iter().find(|m| m.name == at) {
            child.env("WEFT_SOCKET", member.socket(&self.folder));
        }
        child.status().map_err(|source| Error::Program { what: "run", program: program.into(), source })
    }

    /// The host is lost: its agent is killed, its wire cut, and the others are told, as after the end of a lease.
    ///
    /// # Errors
    /// What the kernel or the file system refused.
    pub fn kill(&mut self, host: &str) -> Result<(), Error> {
        let at = self.member(host)?;
        self.record.members[at].kill(&self.folder)?;
        self.plug(at, false)?;
        let name: NodeName = host.parse()?;
        self.record.told.nodes.remove(&name);
        self.record.write(&self.folder)?;
        self.record.publish(&self.folder)
    }

    fn plug(&self, at: usize, connected: bool) -> Result<(), Error> {
        let router = Netns::open(&self.namespace("router"))?;
        Links::of(&router)?.set_up(&Underlay::port(self.record.members[at].number), connected)
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
        for at in 0..self.record.members.len() {
            self.plug(at, true)?;
            let member = self.record.members[at].clone();
            self.record.join(&member, MTU)?;
            if !member.is_running(&self.folder) {
                self.start(at)?;
            }
        }
        self.record.write(&self.folder)?;
        self.record.publish(&self.folder)
    }

    fn apply_cuts(&mut self) -> Result<(), Error> {
        self.record.write(&self.folder)?;
        let router = Netns::open(&self.namespace("router"))?;
        cut::apply(&router, &self.record)
    }

    /// Takes the lab down: agents, namespaces, folder. What is gone already is no error.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn down(self) -> Result<(), Error> {
        for member in &self.record.members {
            member.kill(&self.folder)?;
        }
        let hosts = self.record.members.iter().map(|m| m.name.as_str()).chain(["router"]);
        for name in hosts.chain(self.record.workloads.iter().map(|(w, _)| w.as_str())) {
            Netns::remove_at(&self.namespace(name))?;
        }
        fs::remove_dir_all(&self.folder).map_err(|source| Error::File { path: self.folder.clone(), source })
    }
}
