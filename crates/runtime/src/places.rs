//! Where things are on this host.

use std::path::PathBuf;

use crate::name::Name;

/// The folders and the socket that containers need.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Places {
    /// What survives a reboot, such as `/var/lib/weft`.
    pub state: PathBuf,
    /// What lives until the next reboot, such as `/run/weft`.
    pub run: PathBuf,
    /// The agent's socket.
    pub socket: PathBuf,
    /// Where word is left for an agent that is away.
    pub journal: PathBuf,
}

impl Places {
    /// The folder with a folder for each container: what was asked, what it wrote, how it ended.
    #[must_use]
    pub fn containers(&self) -> PathBuf {
        self.state.join("containers")
    }

    /// A container's folder for this boot: its state, its merged root, its files below `/etc`.
    #[must_use]
    pub fn live(&self, name: &Name) -> PathBuf {
        self.run.join("containers").join(name.as_str())
    }

    /// Where a container's network namespace is bound: where `ip netns` looks for names.
    #[must_use]
    pub fn netns(name: &Name) -> PathBuf {
        PathBuf::from("/run/netns").join(name.as_str())
    }
}
