//! What a container is to be: everything that was asked for, resolved and checked, as its folder keeps it.

pub mod capability;
pub mod limits;
pub mod network;
pub mod restart;
pub mod users;
pub mod volume;

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use weft_model::Profile;

pub use capability::Capabilities;
pub use limits::Limits;
pub use network::Net;
pub use restart::Restart;
pub use users::Users;
pub use volume::Volume;

use crate::image::Digest;
use crate::name::Name;

/// A container, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// What it is called.
    pub name: Name,
    /// When it was made: seconds since 1970.
    pub created: u64,
    /// What its files come from.
    pub root: Root,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// `KEY=VALUE`, later ones win.
    pub env: Vec<String>,
    /// Where the program starts; made if it is not there.
    pub workdir: PathBuf,
    /// `USER[:GROUP]`, names of its own `/etc/passwd` and `/etc/group`, or numbers; empty is root.
    pub user: String,
    /// Who those users are on the host.
    #[serde(default, skip_serializing_if = "Users::is_host")]
    pub users: Users,
    /// Its host name.
    pub hostname: String,
    /// What it is connected to.
    pub net: Net,
    /// Addresses that it wants to have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<IpAddr>,
    /// Labels and other wishes that go to the agent.
    #[serde(default, skip_serializing_if = "Profile::is_empty")]
    pub profile: Profile,
    /// Folders and files of the host that it sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// What it may use.
    pub limits: Limits,
    /// Whether its root cannot be written.
    pub read_only: bool,
    /// What its root user may do.
    pub capabilities: Capabilities,
    /// Whether set-user-id programs gain nothing.
    pub no_new_privileges: bool,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its standard input stays open.
    pub interactive: bool,
    /// Whether nothing of it is kept when it ends.
    pub remove: bool,
    /// Whether it starts again when it ends.
    pub restart: Restart,
    /// What `weft stop` sends first.
    pub stop_signal: i32,
    /// Bytes that its log may have before the older half is dropped.
    pub log_limit: u64,
}

/// What a container's files come from. Both are lower layers: what it writes goes to a layer of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Root {
    /// An image, as it was named, and the id that it had then.
    Image {
        /// As it was typed.
        name: String,
        /// The digest of its configuration: what the image is.
        id: Digest,
        /// The digest of its manifest.
        manifest: Digest,
    },
    /// A plain folder of the host.
    Folder(PathBuf),
}

impl Root {
    /// In a few characters.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Root::Image { name, .. } => name.clone(),
            Root::Folder(path) => path.display().to_string(),
        }
    }
}
