//! Several hosts whose agents share a real etcd: processes all of them, as on real machines.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use weft_model::api::{NetworkSpec, Reply, Request};
use weft_model::{Encapsulation, Mode, NetworkName};

use crate::{Error, Etcd, Host, OUTSIDE4, Underlay, shared_network};

/// How long a host may take to have its part; tens of milliseconds are usual, on a machine that is not starved.
const PATIENCE: Duration = Duration::from_secs(60);
/// A host that says nothing for so long counts as gone, in seconds: the least that agents accept.
pub const LEASE: u64 = 5;

/// Hosts with agents, and the store that they share. Its servers stand behind the router.
pub struct Shared {
    /// The hosts, in the order in which they came.
    pub hosts: Vec<Host>,
    /// The store's servers.
    pub servers: Vec<Etcd>,
    /// What all are connected to.
    pub underlay: Underlay,
    program: PathBuf,
}

impl Shared {
    /// A store of this many servers, and no host yet.
    ///
    /// # Errors
    /// What the kernel or the file system refused; that there is no etcd.
    pub fn new(program: &Path, servers: u16) -> Result<Shared, Error> {
        let underlay = Underlay::new(1500)?;
        let host = OUTSIDE4.to_string();
        let port = |n: u16| 2379 + 10 * n;
        let each = (0..servers).map(|n| format!("s{n}=http://{host}:{}", port(n) + 1));
        let all = each.collect::<Vec<_>>().join(",");
        let make = |n: u16| Etcd::new(underlay.netns(), (&format!("s{n}"), &host, port(n)), &all, &[]);
        let mut servers = (0..servers).map(make).collect::<Result<Vec<_>, _>>()?;
        servers.iter_mut().try_for_each(Etcd::launch)?;
        servers.iter_mut().try_for_each(Etcd::wait)?;
        Ok(Shared { hosts: Vec::new(), servers, underlay, program: program.to_owned() })
    }

    /// Adds hosts, one on each of these segments, starts their agents, and waits until each has its part.
    ///
    /// # Errors
    /// What the kernel, the file system or an agent refused.
    pub fn join(&mut self, segments: &[usize]) -> Result<(), Error> {
        let first = self.hosts.len();
        for segment in segments {
            let mut host = Host::on(&self.underlay, *segment, &self.program)?;
            host.configure(&self.lines().each_ref().map(String::as_str))?;
            host.start_agent()?;
            self.hosts.push(host);
        }
        if first == 0 {
            self.found()?;
        }
        (first..self.hosts.len()).try_for_each(|host| self.ready(host))
    }

    /// The lines of an agent's configuration that name the store.
    #[must_use]
    pub fn lines(&self) -> [String; 3] {
        let endpoints: Vec<String> = self.servers.iter().map(Etcd::endpoint).collect();
        let store = format!("store = \"etcd://{}\"", endpoints.join(","));
        [store, "store_plaintext = true".to_owned(), format!("lease = {LEASE}")]
    }

    /// Writes a host's configuration anew, with more lines. It counts from the agent's next start.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn configure(&self, host: usize, more: &[&str]) -> Result<(), Error> {
        let own = self.lines();
        let all: Vec<&str> = own.iter().map(String::as_str).chain(more.iter().copied()).collect();
        self.hosts[host].configure(&all)
    }

    /// Declares the network that all share.
    fn found(&self) -> Result<(), Error> {
        let like = shared_network(1, Mode::Routed, Encapsulation::Auto)?;
        let spec = NetworkSpec {
            name: like.name.clone(),
            subnets: like.subnets().collect(),
            mode: like.mode,
            mtu: None,
            masquerade: true,
            encapsulation: Encapsulation::Auto,
            explain: false,
        };
        let begin = Instant::now();
        loop {
            match self.hosts[0].request(&Request::NetworkCreate(spec.clone())) {
                Ok(_) => return Ok(()),
                Err(error) if begin.elapsed() > PATIENCE => return Err(error),
                // It does not take part yet.
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Waits until a host is in sync with the store and has addresses to give.
    ///
    /// # Errors
    /// [`Error::Silent`].
    pub fn ready(&self, host: usize) -> Result<(), Error> {
        let (host, network) = (&self.hosts[host], self.network()?);
        let begin = Instant::now();
        loop {
            if let Ok(Reply::Status(status)) = host.request(&Request::Status) {
                let network = status.networks.iter().find(|n| n.network.name == network);
                let gives = network.is_some_and(|n| n.pools.iter().all(|p| p.usable > 0));
                if gives && status.store.as_ref().is_some_and(|s| s.in_sync) {
                    return Ok(());
                }
            }
            if begin.elapsed() > PATIENCE {
                let (node, seconds) = (host.name().to_owned(), PATIENCE.as_secs());
                return Err(Error::Silent { node, what: "get its part", seconds, log: host.log() });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The name of the network that all share.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn network(&self) -> Result<NetworkName, Error> {
        Ok("net1".parse()?)
    }
}
