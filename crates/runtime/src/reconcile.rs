//! Finding containers that nobody looks after any more, and making good what was left undone.
//!
//! Each command begins with this: a shim may have been killed, or the host been switched off.

use std::fs;
use std::path::Path;

use crate::container::{End, Held, Live, boot, load, save};
use crate::name::Name;
use crate::places::Places;
use crate::release::release;
use crate::rootfs;
use crate::spec::Spec;
use crate::time;

/// Takes down whatever has no shim. Returns what could not be done, a line each.
pub fn reconcile(places: &Places) -> Vec<String> {
    let Ok(entries) = fs::read_dir(places.containers()) else { return Vec::new() };
    let mut left = Vec::new();
    for entry in entries.flatten() {
        let folder = entry.path();
        let file_name = entry.file_name();
        let name = file_name.to_str().unwrap_or_default();
        let ended = folder.join("end.json").exists();
        if let Ok(name) = name.parse::<Name>() {
            if ended && !places.live(&name).exists() {
                continue;
            }
            if let Some(held) = Held::take(&folder) {
                left.extend(finish(places, &name, &held));
            }
        } else if name.starts_with(".new-") && !maker_lives(name) && Held::take(&folder).is_some() {
            // Killed while it was being made, before anything but this folder was there.
            let _ = fs::remove_dir_all(&folder);
        }
    }
    left
}

/// Whether the process still is there whose number such a folder's name ends with.
fn maker_lives(name: &str) -> bool {
    name.rsplit('-').next().is_some_and(|pid| Path::new("/proc").join(pid).exists())
}

/// Ends a container whose shim is gone.
fn finish(places: &Places, name: &Name, held: &Held) -> Vec<String> {
    let Some(spec) = load::<Spec>(&held.folder.join("spec.json")) else {
        // Not even what was asked for can be read, as after a power cut: nothing of it was ever started.
        return remove_folder(&held.folder).into_iter().collect();
    };
    let live: Option<Live> = load(&places.live(name).join("live.json"));
    let now = boot();
    // What an older boot had in the kernel went with it; its cgroups' names may be another's by now.
    let same_boot = live.as_ref().is_some_and(|l| l.boot == now);
    let mut left = release(places, &spec, live.as_ref().filter(|_| same_boot));
    if spec.remove {
        left.extend(remove_folder(&held.folder));
        return left;
    }
    if !held.folder.join("end.json").exists() {
        let error = if live.is_none() || !same_boot {
            "the host was restarted"
        } else {
            "its shim was killed, and the container with it"
        };
        let end = End {
            code: 137,
            oom: false,
            at: time::now(),
            started: live.as_ref().and_then(|l| l.started),
            restarts: live.as_ref().map_or(0, |l| l.restarts),
            boot: live.as_ref().map(|l| l.boot.clone()).unwrap_or_default(),
            stopped: false,
            error: Some(error.to_owned()),
        };
        left.extend(save(&held.folder.join("end.json"), &end).err().map(|e| e.to_string()));
    }
    left
}

/// Removes a container's folder, with all that it wrote. Symbolic links in it are removed, not followed.
pub(crate) fn remove_folder(folder: &Path) -> Option<String> {
    rootfs::unmount(folder);
    if rootfs::merged(folder).exists() {
        // Never through a mount: that would be the files of somebody else.
        return Some(format!("the folder {} is left: its root is still mounted", folder.display()));
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Some(format!("the folder {} could not be removed: {error}", folder.display()))
        }
        _ => None,
    }
}
