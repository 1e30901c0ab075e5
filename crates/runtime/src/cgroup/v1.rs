//! v1: a tree for each controller (Documentation/admin-guide/cgroup-v1/).

use std::path::{Path, PathBuf};

use super::{Error, make_folder, write};
use crate::spec::Limits;
use crate::spec::limits::Cpus;

/// Makes the group at `place` below a tree's root.
pub(super) fn make(root: &Path, place: &Path) -> Result<PathBuf, Error> {
    let mut folder = root.to_owned();
    for part in place {
        folder.push(part);
        make_folder(&folder)?;
    }
    Ok(folder)
}

/// Memory and swap together; a file only of kernels that count swap.
const BOTH: &str = "memory.memsw.limit_in_bytes";

/// Writes what this controller has to keep.
pub(super) fn limit(folder: &Path, controller: &str, limits: &Limits) -> Result<(), Error> {
    for (file, value) in values(controller, limits) {
        let path = folder.join(file);
        if file != BOTH || path.exists() {
            write(&path, &value)?;
        }
    }
    Ok(())
}

/// What goes into which file.
pub(super) fn values(controller: &str, limits: &Limits) -> Vec<(&'static str, String)> {
    match (controller, limits) {
        ("memory", Limits { memory: Some(bytes), .. }) => {
            vec![("memory.limit_in_bytes", bytes.to_string()), (BOTH, bytes.to_string())]
        }
        ("cpu", Limits { cpus: Some(cpus), .. }) => vec![
            ("cpu.cfs_period_us", Cpus::PERIOD.to_string()),
            ("cpu.cfs_quota_us", cpus.quota().to_string()),
        ],
        ("pids", Limits { pids: Some(pids), .. }) => vec![("pids.max", pids.to_string())],
        _ => Vec::new(),
    }
}
