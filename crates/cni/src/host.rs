//! What the installed plugin takes for granted about its host; tests put other values in.

use std::path::PathBuf;
use std::time::Duration;

/// The surroundings of a call that no runtime and no configuration can change.
#[derive(Clone, Debug)]
pub struct Host {
    /// Lists the IPAM plugins that may be executed: one basename a line, `#` starts a comment.
    pub ipam_allowed: PathBuf,
    /// The user to whom that list and those plugins must belong.
    pub trusted_uid: u32,
    /// The longest that `ADD`, `CHECK` and `GC` wait for the agent or for an IPAM plugin.
    pub patience: Duration,
    /// The longest that `DEL` waits for the agent before it leaves word in the journal.
    pub patience_del: Duration,
    /// The longest that `STATUS` waits: containerd asks every 5 seconds.
    pub patience_status: Duration,
}

impl Default for Host {
    fn default() -> Host {
        Host {
            ipam_allowed: PathBuf::from("/etc/weft/ipam-allowed"),
            trusted_uid: 0,
            patience: Duration::from_secs(60),
            patience_del: Duration::from_secs(20),
            patience_status: Duration::from_secs(4),
        }
    }
}
