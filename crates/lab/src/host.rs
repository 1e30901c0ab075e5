//! A host: a namespace with an uplink, folders of its own, and an agent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use weft_kernel::netns::Netns;
use weft_model::api::{NetworkSpec, NetworkStatus, Reply, Request, Status};
use weft_model::{IfName, Mac};

use crate::agent::{Agent, last_lines};
use crate::underlay::Place;
use crate::{Error, Folder, Links, Underlay, ask};

/// A host. Dropping it kills its agent; namespace and folders go with it.
pub struct Host {
    name: String,
    netns: Netns,
    uplink: IfName,
    place: Place,
    program: PathBuf,
    agent: Option<Agent>,
    folder: Folder,
}

impl Host {
    /// A host on an underlay, without a running agent. `program` is `weft`.
    ///
    /// # Errors
    /// What the kernel or the file system refused.
    pub fn new(underlay: &Underlay, program: &Path) -> Result<Host, Error> {
        Host::on(underlay, 0, program)
    }

    /// As [`new`](Self::new), on the segment of that number.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn on(underlay: &Underlay, segment: usize, program: &Path) -> Result<Host, Error> {
        let netns = Netns::anonymous()?;
        let uplink: IfName = "eth0".parse()?;
        let place = underlay.plug(segment, &netns, &uplink)?;
        let folder = Folder::new()?;
        let name = format!("host{}", place.number);
        let host = Host { name, netns, uplink, place, program: program.to_owned(), agent: None, folder };
        host.configure(&[])?;
        Ok(host)
    }

    /// Writes the agent's configuration, with more lines than the lab's own (`block_metadata = false`).
    /// It counts from the agent's next start.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn configure(&self, more: &[&str]) -> Result<(), Error> {
        // Nothing of the machine's own is to be touched: a test that wants this brings a `Group`.
        let said = more.iter().any(|line| line.starts_with("publish_on_loopback"));
        let off = if said { "" } else { "publish_on_loopback = false" };
        let text = format!(
            "{off}\nnode = {:?}\nstate_dir = {:?}\nrun_dir = {:?}\ndefault_network = false\n{}\n",
            self.name,
            self.state_dir(),
            self.run_dir(),
            more.join("\n")
        );
        let path = self.config();
        std::fs::write(&path, text).map_err(|source| Error::File { path, source })
    }

    /// Calls it otherwise, from the next configuration on.
    pub fn rename(&mut self, name: &str) {
        name.clone_into(&mut self.name);
    }

    /// Its name as a node.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number among the hosts of its underlay, from 1.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.place.number
    }

    /// Its namespace.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Its interface on the underlay.
    #[must_use]
    pub fn uplink(&self) -> &IfName {
        &self.uplink
    }

    /// That interface's Ethernet address.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.place.mac
    }

    /// Its addresses on the underlay, IPv4 first.
    #[must_use]
    pub fn addresses(&self) -> [IpNet; 2] {
        self.place.addresses
    }

    /// Its address on the underlay, of the family of `like`.
    #[must_use]
    pub fn address(&self, like: IpAddr) -> IpAddr {
        self.place.addresses[usize::from(like.is_ipv6())].addr()
    }

    /// Its IPv4 address on the underlay.
    #[must_use]
    pub fn ipv4(&self) -> IpAddr {
        self.address(Ipv4Addr::UNSPECIFIED.into())
    }

    /// Its IPv6 address on the underlay.
    #[must_use]
    pub fn ipv6(&self) -> IpAddr {
        self.address(Ipv6Addr::UNSPECIFIED.into())
    }

    /// The folder in which all its files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What its agent keeps over a reboot.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// What its agent keeps until a reboot.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Where its agent listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("agent.sock")
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("agent.log")
    }

    /// The end of what its agents said.
    #[must_use]
    pub fn log(&self) -> String {
        last_lines(&self.log_file())
    }

    /// Links, addresses, routes and neighbours of the host itself.
    ///
    /// # Errors
    /// As [`Links::of`].
    pub fn links(&self) -> Result<Links, Error> {
        Links::of(&self.netns)
    }

    /// Starts the agent, if none runs, and waits until it answers.
    ///
    /// # Errors
    /// [`Error::Program`], [`Error::Ended`] or [`Error::Silent`] with the end of its log.
    pub fn start_agent(&mut self) -> Result<(), Error> {
        self.start_agent_with(&[])
    }

    /// As [`start_agent`](Self::start_agent), with variables in its environment (`WEFT_FAULT`).
    ///
    /// # Errors
    /// As [`start_agent`](Self::start_agent).
    pub fn start_agent_with(&mut self, environment: &[(&str, &str)]) -> Result<(), Error> {
        if self.agent.is_some() {
            return Ok(());
        }
        let mut command = self.netns.command(&self.program.to_string_lossy());
        command.arg("agent").arg("--config").arg(self.config()).envs(environment.iter().copied());
        self.agent = Some(Agent::start(&self.name, command, &self.log_file(), &self.socket())?);
        Ok(())
    }

    /// Ends the agent as systemd does (SIGTERM). Without one there is nothing to do.
    ///
    /// # Errors
    /// [`Error::Silent`] if it does not end; it is killed then.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.agent.take().map_or(Ok(()), Agent::stop)
    }

    /// Kills the agent (SIGKILL). Without one there is nothing to do.
    ///
    /// # Errors
    /// [`Error::Program`].
    pub fn kill(&mut self) -> Result<(), Error> {
        self.agent.take().map_or(Ok(()), Agent::kill)
    }

    /// Ends the agent and starts it again.
    ///
    /// # Errors
    /// Those of both.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.stop()?;
        self.start_agent()
    }

    /// Ends the agent and starts another build of it, as an upgrade does.
    ///
    /// # Errors
    /// Those of both.
    pub fn upgrade(&mut self, program: &Path) -> Result<(), Error> {
        program.clone_into(&mut self.program);
        self.restart()
    }

    /// Waits until the agent ends by itself (an armed fault), and says how it did.
    ///
    /// # Errors
    /// [`Error::Silent`] if it does not.
    pub fn wait_for_end(&mut self) -> Result<Option<String>, Error> {
        self.agent.take().map(Agent::wait).transpose()
    }

    /// The agent's process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.agent.as_ref().map(Agent::pid)
    }

    /// Asks the agent. Its refusals are errors here.
    ///
    /// # Errors
    /// [`Error::Ask`], [`Error::Answer`], [`Error::Agent`].
    pub fn request(&self, request: &Request) -> Result<Reply, Error> {
        match ask(&self.socket(), request)? {
            Reply::Error(refusal) => Err(refusal.into()),
            reply => Ok(reply),
        }
    }

    /// Declares a network.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn create_network(&self, spec: NetworkSpec) -> Result<NetworkStatus, Error> {
        match self.request(&Request::NetworkCreate(spec))? {
            Reply::Network(status) => Ok(*status),
            other => Err(unexpected(&other)),
        }
    }

    /// The agent's view of this host.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn status(&self) -> Result<Status, Error> {
        match self.request(&Request::Status)? {
            Reply::Status(status) => Ok(*status),
            other => Err(unexpected(&other)),
        }
    }

    /// How many packets were refused for a reason that begins so.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn refused(&self, reason: &str) -> Result<u64, Error> {
        let refused = self.status()?.refused;
        Ok(refused.iter().filter(|r| r.reason.starts_with(reason)).map(|r| r.packets).sum())
    }
}

pub(crate) fn unexpected(reply: &Reply) -> Error {
    Error::Answer(format!("{reply:?}"))
}
