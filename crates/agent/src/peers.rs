//! The cluster from a file: hosts and networks as a person or a program wrote them down, for those who have
//! no store that all hosts share.
//!
//! The file is looked at several times a second; whoever changes it renames a new one over it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use weft_model::Cluster;

use crate::agent::Agent;

const ROUND: Duration = Duration::from_millis(200);

/// Reads the file.
///
/// # Errors
/// In words, where it cannot be read or makes no sense.
pub(crate) fn read(path: &Path) -> Result<Cluster, String> {
    let failed = |why: String| format!("failed to read the cluster's file {}: {why}", path.display());
    let text = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
    serde_json::from_slice(&text).map_err(|e| failed(e.to_string()))
}

/// What tells one version of the file from the next.
fn version(path: &Path) -> Option<(SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len(), found.ino()))
}

/// Follows the file until the agent's end. What makes no sense changes nothing.
pub(crate) fn follow(agent: &Arc<Agent>, path: &Path) {
    let mut seen = None;
    loop {
        let now = version(path);
        if now != seen {
            seen = now;
            match read(path) {
                Ok(cluster) => {
                    agent.engine().cluster(cluster);
                }
                Err(error) => tracing::warn!(error, "the cluster stays as it was"),
            }
        }
        std::thread::sleep(ROUND);
    }
}
