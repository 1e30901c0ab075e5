//! The agent's configuration: one small file, each knob with its default beside it.
//!
//! Unknown keys are refused. The reference page is generated from this structure.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weft_kernel::loopback;
use weft_model::NodeName;
use weft_model::policy::{Failsafe, OpenPort};

/// Where the configuration is looked for unless told otherwise.
pub const PATH: &str = "/etc/weft/config.toml";

/// The agent's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This host's name; default: the kernel's host name.
    pub node: Option<NodeName>,
    /// What people declared, and what must survive a reboot.
    pub state_dir: PathBuf,
    /// What lives until the next reboot: attachments, socket, journal.
    pub run_dir: PathBuf,
    /// The agent's socket; default: `agent.sock` in `run_dir`.
    pub socket: Option<PathBuf>,
    /// The store that all hosts of a cluster share, such as `etcd://10.0.0.1:2379,10.0.0.2:2379`; default: what
    /// `weft init` or `weft join` set up, or else none: this host stands alone.
    pub store: Option<String>,
    /// The authority that signed the certificates of the store's servers (PEM); with it the connection is TLS.
    pub store_ca: Option<PathBuf>,
    /// This host's certificate for the store (PEM).
    pub store_cert: Option<PathBuf>,
    /// The key of that certificate (PEM).
    pub store_key: Option<PathBuf>,
    /// The user of the store's own authentication.
    pub store_user: Option<String>,
    /// A file with that user's password on its first line.
    pub store_password_file: Option<PathBuf>,
    /// Whether a store on another host may be spoken to without TLS.
    pub store_plaintext: bool,
    /// A host whose agent is silent for so long, in seconds, counts as gone; at least 5.
    pub lease: u64,
    /// The prefix length of the IPv4 blocks that each host gets of the cluster's networks that are declared here;
    /// default: 24, longer in small subnets.
    pub block: Option<u8>,
    /// This host's addresses on the underlay, at most one per family; default: those of the default route's
    /// interface.
    pub underlay: Vec<IpAddr>,
    /// The zone that this host stands in, such as a rack or a data centre.
    pub zone: Option<String>,
    /// A file (JSON) that says which hosts and networks there are in the cluster; followed when it changes.
    pub cluster_file: Option<PathBuf>,
    /// Whether a network called `default` is made when there is none.
    pub default_network: bool,
    /// Whether published ports answer at 127.0.0.1 and ::1 of this host, too. That takes programs (BPF) at the
    /// sockets of the host's processes.
    pub publish_on_loopback: bool,
    /// The control group (version 2) whose processes reach them there; default: all of this machine.
    pub cgroup: Option<PathBuf>,
    /// weft's own folder in a BPF file system.
    pub bpf_dir: PathBuf,
    /// Whether workloads are kept from the cloud's metadata addresses (169.254.169.254, fd00:ec2::254).
    pub block_metadata: bool,
    /// Where services have their addresses, at most one range per family; the same on all hosts. Nothing else may have addresses there.
    pub service_ranges: Vec<IpNet>,
    /// The first and the last port of hosts that services may have.
    pub node_ports: [u16; 2],
    /// Ranges of other people's addresses at which services may answer (`externalIPs`); none unless they are named here.
    pub external_ips: Vec<IpNet>,
    /// Ports of this host that no policy for hosts can close; `[]` for none. By default ssh, joining, the store, agents' questions
    /// and the answers of DHCP.
    pub failsafe_ingress: Vec<OpenPort>,
    /// Ports of others that no policy for hosts can close to this one; `[]` for none. By default names, joining, the store, agents'
    /// questions and those of DHCP; with them go the ports of `store`.
    pub failsafe_egress: Vec<OpenPort>,
}

impl Default for Config {
    fn default() -> Config {
        let failsafe = Failsafe::default();
        Config {
            node: None,
            state_dir: "/var/lib/weft".into(),
            run_dir: "/run/weft".into(),
            socket: None,
            store: None,
            store_ca: None,
            store_cert: None,
            store_key: None,
            store_user: None,
            store_password_file: None,
            store_plaintext: false,
            lease: 15,
            block: None,
            underlay: Vec::new(),
            zone: None,
            cluster_file: None,
            default_network: true,
            publish_on_loopback: true,
            cgroup: None,
            bpf_dir: loopback::PINS.into(),
            block_metadata: true,
            service_ranges: weft_model::ServiceRanges::default().addresses,
            node_ports: weft_model::ServiceRanges::default().node_ports.into(),
            external_ips: Vec::new(),
            failsafe_ingress: failsafe.ingress.into_iter().collect(),
            failsafe_egress: failsafe.egress.into_iter().collect(),
        }
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read the configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file's text makes no sense.
    #[error("the configuration {path} is not valid: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
}

impl Config {
    /// Reads a configuration file. A missing file at the default place is the default configuration.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                Config::parse(&text).map_err(|message| ConfigError::Parse { path: path.to_owned(), message })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && path == Path::new(PATH) => {
                Ok(Config::default())
            }
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    /// Reads a configuration's text.
    ///
    /// # Errors
    /// Where the text makes no sense, and why.
    pub fn parse(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|e| e.to_string())?;
        config.fits()?;
        Ok(config)
    }

    /// Whether its fields go together.
    fn fits(&self) -> Result<(), String> {
        let [first, last] = self.node_ports;
        if first == 0 || last < first {
            return Err(format!("node_ports: {first} to {last} is no range of ports"));
        }
        for (index, range) in self.service_ranges.iter().enumerate() {
            let v4 = range.addr().is_ipv4();
            if self.service_ranges[..index].iter().any(|other| other.addr().is_ipv4() == v4) {
                return Err("service_ranges: there is at most one range per family".to_owned());
            }
            if *range != range.trunc() || range.max_prefix_len() - range.prefix_len() < 2 {
                return Err(format!("service_ranges: {range} is not a range with room for addresses"));
            }
        }
        Ok(())
    }

    /// Where the agent listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.run_dir.join("agent.sock"))
    }

    /// Where plugins leave word of what they could not tell the agent.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.run_dir.join("journal")
    }

    /// Where published ports of the loopback are led elsewhere; `None` where that is switched off or cannot be.
    #[must_use]
    pub fn loopback(&self) -> Option<loopback::Place> {
        let usual = loopback::Place::of_this_machine;
        let cgroup = self.cgroup.clone().or_else(|| usual().map(|place| place.cgroup));
        let place = cgroup.map(|cgroup| loopback::Place { cgroup, pins: self.bpf_dir.clone() });
        place.filter(|_| self.publish_on_loopback)
    }

    /// This host's name.
    #[must_use]
    pub fn node(&self) -> NodeName {
        let kernel = || {
            let uname = rustix::system::uname();
            let name = uname.nodename().to_string_lossy().to_lowercase();
            name.parse().ok()
        };
        let fallback = || "localhost".parse().expect("localhost is a valid name");
        self.node.clone().or_else(kernel).unwrap_or_else(fallback)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let error = Config::parse("state_dirr = \"/x\"").unwrap_err();
        assert!(error.contains("state_dirr"), "{error}");
    }
}
