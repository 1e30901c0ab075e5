//! v2: one tree, in which a group has every controller that the groups above it hand on
//! (Documentation/admin-guide/cgroup-v2.rst).

use std::path::{Path, PathBuf};

use super::mounts::Unified;
use super::{Error, make_folder, write};
use crate::spec::Limits;
use crate::spec::limits::Cpus;

/// A limit and the controller that keeps it.
pub(super) struct Wish {
    pub(super) controller: &'static str,
    pub(super) what: &'static str,
    pub(super) wanted: fn(&Limits) -> bool,
}

pub(super) const WISHES: [Wish; 3] = [
    Wish { controller: "memory", what: "memory", wanted: |l| l.memory.is_some() },
    Wish { controller: "cpu", what: "computing time", wanted: |l| l.cpus.is_some() },
    Wish { controller: "pids", what: "processes", wanted: |l| l.pids.is_some() },
];

/// Makes the group at `place` below the tree's root, with the limits whose controllers this tree has.
pub(super) fn make(tree: &Unified, place: &Path, limits: &Limits) -> Result<PathBuf, Error> {
    let wanted = WISHES.into_iter().filter(|w| (w.wanted)(limits) && tree.has(w.controller));
    let hand_on: Vec<String> = wanted.map(|w| format!("+{}", w.controller)).collect();
    let hand_on = hand_on.join(" ");
    let mut folder = tree.root.clone();
    for part in place {
        if !hand_on.is_empty() {
            write(&folder.join("cgroup.subtree_control"), &hand_on)?;
        }
        folder.push(part);
        make_folder(&folder)?;
    }
    for (controller, file, value) in values(limits) {
        if tree.has(controller) {
            match write(&folder.join(file), &value) {
                // Kernels without swap have no such file.
                Err(Error::File { source, .. })
                    if file == "memory.swap.max" && source.kind() == std::io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
    }
    Ok(folder)
}

/// The commands that would do the same.
pub(super) fn explained(tree: &Unified, place: &Path, limits: &Limits) -> Vec<String> {
    let folder = tree.root.join(place);
    let mut commands = vec![format!("mkdir -p {}", folder.display())];
    for (controller, file, value) in values(limits) {
        if tree.has(controller) {
            commands.push(format!("echo '{value}' >{}", folder.join(file).display()));
        }
    }
    commands.push(format!("echo $$ >{}", folder.join("cgroup.procs").display()));
    commands
}

fn values(limits: &Limits) -> Vec<(&'static str, &'static str, String)> {
    let mut values = Vec::new();
    if let Some(bytes) = limits.memory {
        values.push(("memory", "memory.max", bytes.to_string()));
        values.push(("memory", "memory.swap.max", "0".to_owned()));
    }
    if let Some(cpus) = limits.cpus {
        values.push(("cpu", "cpu.max", format!("{} {}", cpus.quota(), Cpus::PERIOD)));
    }
    if let Some(pids) = limits.pids {
        values.push(("pids", "pids.max", pids.to_string()));
    }
    values
}
