//! What is written down of a lab: its hosts, its workloads, what is cut, and what agents are told.

use std::fs;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weft_model::{Cluster, Mac, Node};

use super::process::Process;
use super::store::{self, Store};
use crate::Error;

/// A lab as its folder has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) program: PathBuf,
    pub(super) store: Store,
    /// The store's server, if there is one.
    pub(super) server: Option<Process>,
    pub(super) members: Vec<Member>,
    /// Containers and their hosts.
    pub(super) workloads: Vec<(String, String)>,
    pub(super) cuts: Vec<(String, String)>,
    /// What agents are told by a file, where there is no store.
    pub(super) told: Cluster,
}

/// A host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) number: u8,
    pub(super) segment: usize,
    pub(super) addresses: Vec<IpNet>,
    pub(super) agent: Option<Process>,
}

impl Record {
    pub(super) fn new(program: &Path, store: Store) -> Record {
        Record {
            program: program.to_owned(),
            store,
            server: None,
            members: Vec::new(),
            workloads: Vec::new(),
            cuts: Vec::new(),
            told: Cluster::default(),
        }
    }

    pub(super) fn read(folder: &Path) -> Result<Record, Error> {
        let path = folder.join("lab.json");
        let text = fs::read(&path).map_err(|source| Error::File { path: path.clone(), source })?;
        serde_json::from_slice(&text).map_err(|e| Error::Answer(format!("{}: {e}", path.display())))
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), Error> {
        replace(&folder.join("lab.json"), self)
    }

    /// Tells all agents what the cluster is, where that is not the store's part.
    pub(super) fn publish(&self, folder: &Path) -> Result<(), Error> {
        if self.store == Store::File { replace(&folder.join("cluster.json"), &self.told) } else { Ok(()) }
    }

    /// Makes a host one of the cluster: its addresses, and a block of each family of each network.
    pub(super) fn join(&mut self, member: &Member, mtu: u32) -> Result<(), Error> {
        let number = usize::from(member.number);
        let blocks = self.told.networks.values().map(|network| {
            let ipv4 = network.ipv4.and_then(|n| n.subnets(24).ok()?.nth(number)).map(IpNet::from);
            let ipv6 = network.ipv6.and_then(|n| n.subnets(64).ok()?.nth(number)).map(IpNet::from);
            (network.name.clone(), ipv4.into_iter().chain(ipv6).collect())
        });
        let node = Node {
            addresses: member.addresses.clone(),
            mtu,
            blocks: blocks.collect(),
            mac: Mac([0x02, 0x77, 0x76, 0, 1, member.number]),
            incarnation: 1,
            zone: Some(member.zone()),
        };
        self.told.nodes.insert(member.name.parse()?, node);
        Ok(())
    }
}

fn replace(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let aside = path.with_extension("new");
    let text = serde_json::to_vec_pretty(value).map_err(|e| Error::Answer(e.to_string()))?;
    let written = fs::write(&aside, text).and_then(|()| fs::rename(&aside, path));
    written.map_err(|source| Error::File { path: path.to_owned(), source })
}

impl Member {
    fn zone(&self) -> String {
        format!("segment{}", self.segment + 1)
    }

    /// The host's own folder.
    pub(super) fn home(&self, folder: &Path) -> PathBuf {
        folder.join(&self.name)
    }

    pub(super) fn socket(&self, folder: &Path) -> PathBuf {
        self.home(folder).join("run/agent.sock")
    }

    /// Its agent's configuration file.
    pub(super) fn config_file(&self, folder: &Path) -> PathBuf {
        self.home(folder).join("config.toml")
    }

    /// What stands in it. Nothing of the machine's own is touched: hence no programs at its processes' sockets.
    pub(super) fn config(&self, folder: &Path, kind: Store) -> String {
        let home = self.home(folder);
        let heard = match kind {
            Store::Etcd => format!("store = {:?}\nstore_plaintext = true\nlease = 5\n", store::address()),
            Store::File => format!("cluster_file = {:?}\n", folder.join("cluster.json")),
        };
        format!(
            "node = {:?}\nzone = {:?}\nstate_dir = {:?}\nrun_dir = {:?}\n\
             default_network = false\npublish_on_loopback = false\n{heard}",
            self.name,
            self.zone(),
            home.join("state"),
            home.join("run")
        )
    }

    pub(super) fn is_running(&self) -> bool {
        self.agent.as_ref().is_some_and(Process::is_running)
    }

    /// Kills the agent, if it runs.
    pub(super) fn kill(&self) -> Result<(), Error> {
        self.agent.as_ref().map_or(Ok(()), Process::kill)
    }
}
