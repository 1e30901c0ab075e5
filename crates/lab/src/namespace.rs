//! Workloads by hand: a network namespace with nobody in it, attached through the agent's socket.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use weft_kernel::netns::Netns;
use weft_model::api::{Attach, Attached, Detach, Reply, Request};
use weft_model::{AttachmentId, ContainerId, NetworkName, Owner};

use crate::host::unexpected;
use crate::{Error, Host, Links};

/// A workload's network namespace. Dropping it ends the namespace, whatever is attached to it.
#[derive(Debug)]
pub struct Namespace {
    container: ContainerId,
    netns: Netns,
    path: PathBuf,
    mounted: bool,
}

impl Namespace {
    /// A namespace without a file: it is reached by a descriptor of this process.
    ///
    /// # Errors
    /// [`Error::Namespace`].
    pub fn new() -> Result<Namespace, Error> {
        let netns = Netns::anonymous()?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd()).into();
        Ok(Namespace { container: container()?, netns, path, mounted: false })
    }

    /// A namespace mounted at `path`, as `ip netns add` does. Dropping it unmounts it.
    ///
    /// # Errors
    /// [`Error::Namespace`], also if `path` exists.
    pub fn mounted_at(path: &Path) -> Result<Namespace, Error> {
        let netns = Netns::create_at(path)?;
        Ok(Namespace { container: container()?, netns, path: path.to_owned(), mounted: true })
    }

    /// Leaves a mounted namespace where it is.
    pub fn keep(mut self) {
        self.mounted = false;
    }

    /// What the workload is called.
    #[must_use]
    pub fn container(&self) -> &ContainerId {
        &self.container
    }

    /// The namespace.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The file by which others find it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` with the calling thread in the namespace. Sockets opened there stay there.
    ///
    /// # Errors
    /// [`Error::Namespace`].
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> Result<T, Error> {
        Ok(self.netns.run(work)?)
    }

    /// Links, addresses, routes and neighbours inside.
    ///
    /// # Errors
    /// As [`Links::of`].
    pub fn links(&self) -> Result<Links, Error> {
        Links::of(&self.netns)
    }

    /// What names its attachment to a network.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn id(&self, network: &NetworkName, ifname: &str) -> Result<AttachmentId, Error> {
        Ok(AttachmentId {
            network: network.clone(),
            container: self.container.clone(),
            ifname: ifname.parse()?,
        })
    }

    /// The plain wish for an interface, to be refined and given to [`attach_as`](Self::attach_as).
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn wish(&self, network: &NetworkName, ifname: &str) -> Result<Attach, Error> {
        Ok(Attach {
            id: self.id(network, ifname)?,
            owner: Owner::default(),
            netns: self.path.clone(),
            ips: Vec::new(),
            ranges: Vec::new(),
            assigned: Vec::new(),
            mac: None,
            host_ifname: None,
            pod: None,
            profile: weft_model::Profile::default(),
            explain: false,
        })
    }

    /// Attaches it to a network of a host, as `eth0`.
    ///
    /// # Errors
    /// As [`Host::request`].
    pub fn attach(&self, host: &Host, network: &NetworkName) -> Result<Attached, Error> {
        Namespace::attach_as(host, self.wish(network, "eth0")?)
    }

    /// Asks a host's agent to fulfil a wish.
    ///
    /// # Errors
    /// As [`Host::request`].
    pub fn attach_as(host: &Host, wish: Attach) -> Result<Attached, Error> {
        match host.request(&Request::Attach(Box::new(wish)))? {
            Reply::Attached(attached) => Ok(*attached),
            other => Err(unexpected(&other)),
        }
    }

    /// Detaches `eth0` from a network.
    ///
    /// # Errors
    /// As [`Host::request`].
    pub fn detach(&self, host: &Host, network: &NetworkName) -> Result<(), Error> {
        host.request(&Request::Detach(self.named(network, "eth0")?)).map(|_| ())
    }

    /// What `CHECK` finds wrong with `eth0`; empty when all is as it should be.
    ///
    /// # Errors
    /// As [`Host::request`].
    pub fn check(&self, host: &Host, network: &NetworkName) -> Result<Vec<String>, Error> {
        match host.request(&Request::Check(self.named(network, "eth0")?))? {
            Reply::Checked(wrong) => Ok(wrong),
            other => Err(unexpected(&other)),
        }
    }

    fn named(&self, network: &NetworkName, ifname: &str) -> Result<Detach, Error> {
        let id = self.id(network, ifname)?;
        Ok(Detach { id, netns: Some(self.path.clone()), expect: Vec::new(), explain: false })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Netns::remove_at(&self.path);
        }
    }
}

fn container() -> Result<ContainerId, Error> {
    Ok(format!("c{}", crate::tag()).parse()?)
}
