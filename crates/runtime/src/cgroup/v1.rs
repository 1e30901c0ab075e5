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

/// Writes what this controller has to keep.
pub(super) fn limit(folder: &Path, controller: &str, limits: &Limits) -> Result<(), Error> {
    match (controller, limits) {
        ("memory", Limits { memory: Some(bytes), .. }) => {
            write(&folder.join("memory.limit_in_bytes"), &bytes.to_string())?;
            // Memory and swap together; a file only of kernels that count swap.
            let both = folder.join("memory.memsw.limit_in_bytes");
            if both.exists() { write(&both, &bytes.to_string()) } else { Ok(()) }
        }
        ("cpu", Limits { cpus: Some(cpus), .. }) => {
            write(&folder.join("cpu.cfs_period_us"), &Cpus::PERIOD.to_string())?;
            write(&folder.join("cpu.cfs_quota_us"), &cpus.quota().to_string())
        }
        ("pids", Limits { pids: Some(pids), .. }) => write(&folder.join("pids.max"), &pids.to_string()),
        _ => Ok(()),
    }
}
