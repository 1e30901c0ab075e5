//! Several hosts of one cluster, whose agents hear of each other from a file.

use std::path::{Path, PathBuf};

use ipnet::{Ipv4Net, Ipv6Net};
use weft_model::{Encapsulation, Mac, Mode, Network, NetworkId, NetworkName, Node, NodeName, Vni};

use crate::{Error, Folder, Host, Underlay};

/// Hosts with agents, and what they know of each other.
pub struct Cluster {
    /// The hosts, in the order in which they came.
    pub hosts: Vec<Host>,
    /// What their agents are told; [`publish`](Self::publish) tells them.
    pub told: weft_model::Cluster,
    /// What they are connected to.
    pub underlay: Underlay,
    program: PathBuf,
    folder: Folder,
}

/// A network of all hosts; `number` tells its addresses from those of others: `10.1NN.0.0/16`, `fd77:NN::/48`.
///
/// # Errors
/// [`Error::Name`], or that the number is none for a network.
pub fn shared_network(number: u8, mode: Mode, encapsulation: Encapsulation) -> Result<Network, Error> {
    let vni = Vni::try_from(100 + u32::from(number)).map_err(|e| Error::Answer(e.to_string()))?;
    let ipv4 = Ipv4Net::new([10, 100 + number % 100, 0, 0].into(), 16).expect("16 is a valid prefix length");
    let ipv6 = Ipv6Net::new([0xfd77, number.into(), 0, 0, 0, 0, 0, 0].into(), 48);
    Ok(Network {
        name: format!("net{number}").parse()?,
        id: NetworkId(0),
        mode,
        ipv4: Some(ipv4),
        ipv6: Some(ipv6.expect("48 is a valid prefix length")),
        mtu: None,
        masquerade: true,
        vni: Some(vni),
        encapsulation,
    })
}

impl Cluster {
    /// An underlay whose largest packet has `mtu` bytes, these networks, and no host yet.
    ///
    /// # Errors
    /// What the kernel or the file system refused.
    pub fn new(program: &Path, mtu: u32, networks: Vec<Network>) -> Result<Cluster, Error> {
        let networks = networks.into_iter().map(|n| (n.name.clone(), n)).collect();
        let told = weft_model::Cluster { networks, ..weft_model::Cluster::default() };
        let cluster = Cluster {
            hosts: Vec::new(),
            told,
            underlay: Underlay::new(mtu)?,
            program: program.to_owned(),
            folder: Folder::new()?,
        };
        cluster.publish()?;
        Ok(cluster)
    }

    /// Adds hosts, one on each of these segments, tells all of them, and starts the new ones' agents.
    ///
    /// # Errors
    /// What the kernel, the file system or an agent refused.
    pub fn join(&mut self, segments: &[usize]) -> Result<(), Error> {
        let first = self.hosts.len();
        for segment in segments {
            let host = Host::on(&self.underlay, *segment, &self.program)?;
            host.configure(&[&format!("cluster_file = {:?}", self.file())])?;
            self.told.nodes.insert(host.name().parse()?, self.node(&host));
            self.hosts.push(host);
        }
        self.publish()?;
        self.hosts.iter_mut().skip(first).try_for_each(Host::start_agent)
    }

    /// A host's record: both addresses, and a block of each family of each network.
    fn node(&self, host: &Host) -> Node {
        let number = usize::from(host.number());
        let blocks = |network: &Network| {
            let ipv4 = network.ipv4.and_then(|n| n.subnets(24).ok()?.nth(number)).map(Into::into);
            let ipv6 = network.ipv6.and_then(|n| n.subnets(64).ok()?.nth(number)).map(Into::into);
            (network.name.clone(), ipv4.into_iter().chain(ipv6).collect())
        };
        Node {
            addresses: host.addresses().to_vec(),
            mtu: self.underlay.mtu(),
            blocks: self.told.networks.values().map(blocks).collect(),
            mac: Mac([0x02, 0x77, 0x76, 0, 0, host.number()]),
            incarnation: 1,
            zone: None,
        }
    }

    /// A host's record, to be changed.
    ///
    /// # Errors
    /// [`Error::Name`]; that there is no such host.
    pub fn record(&mut self, host: usize) -> Result<&mut Node, Error> {
        let name: NodeName = self.hosts[host].name().parse()?;
        self.told
            .nodes
            .get_mut(&name)
            .ok_or_else(|| Error::Answer(format!("{name} is no host of the cluster")))
    }

    /// Tells all agents.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn publish(&self) -> Result<(), Error> {
        let path = self.file();
        let aside = path.with_extension("new");
        let text = serde_json::to_vec(&self.told).map_err(|e| Error::Answer(e.to_string()))?;
        let written = std::fs::write(&aside, text).and_then(|()| std::fs::rename(&aside, &path));
        written.map_err(|source| Error::File { path, source })
    }

    /// Takes the file away from which agents hear of each other.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn silence(&self) -> Result<(), Error> {
        let path = self.file();
        std::fs::remove_file(&path).map_err(|source| Error::File { path, source })
    }

    /// The name of a network of [`shared_network`].
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn network(&self, number: u8) -> Result<NetworkName, Error> {
        Ok(format!("net{number}").parse()?)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("cluster.json")
    }
}
