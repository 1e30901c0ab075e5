//! What is written down of a lab: its hosts, its workloads, what is cut, and what agents are told.

use std::fs;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use weft_model::{Cluster, Mac, Node};

use crate::Error;

/// A lab as its folder has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) program: PathBuf,
    pub(super) members: Vec<Member>,
    /// Workloads and their hosts.
    pub(super) workloads: Vec<(String, String)>,
    pub(super) cuts: Vec<(String, String)>,
    /// What agents are told.
    pub(super) told: Cluster,
}

/// A host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) number: u8,
    pub(super) segment: usize,
    pub(super) addresses: Vec<IpNet>,
    pub(super) pid: Option<u32>,
}

impl Record {
    pub(super) fn new(program: &Path) -> Record {
        Record {
            program: program.to_owned(),
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

    /// Tells all agents what the cluster is.
    pub(super) fn publish(&self, folder: &Path) -> Result<(), Error> {
        replace(&folder.join("cluster.json"), &self.told)
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
            zone: Some(format!("segment{}", member.segment + 1)),
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
    fn home(&self, folder: &Path) -> PathBuf {
        folder.join(&self.name)
    }

    pub(super) fn socket(&self, folder: &Path) -> PathBuf {
        self.home(folder).join("run/agent.sock")
    }

    pub(super) fn config(&self, folder: &Path) -> String {
        format!(
            "node = {:?}\nstate_dir = {:?}\nrun_dir = {:?}\ndefault_network = false\ncluster_file = {:?}\n",
            self.name,
            self.home(folder).join("state"),
            self.home(folder).join("run"),
            folder.join("cluster.json")
        )
    }

    /// Whether the process is this host's agent, and not another one that got its number.
    pub(super) fn is_running(&self, folder: &Path) -> bool {
        let Some(pid) = self.pid else { return false };
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let config = self.home(folder).join("config.toml");
        line.split(|b| *b == 0).any(|word| word == config.as_os_str().as_encoded_bytes())
    }

    /// Kills the agent, if it runs.
    pub(super) fn kill(&self, folder: &Path) -> Result<(), Error> {
        let pid =
            self.pid.filter(|_| self.is_running(folder)).and_then(|p| Pid::from_raw(i32::try_from(p).ok()?));
        let Some(pid) = pid else { return Ok(()) };
        let failed = |source: rustix::io::Errno| Error::Program {
            what: "kill",
            program: "weft".into(),
            source: source.into(),
        };
        kill_process(pid, Signal::KILL).map_err(failed)?;
        let begin = std::time::Instant::now();
        while self.is_running(folder) && begin.elapsed() < super::PATIENCE {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        Ok(())
    }
}
