//! A container's root: read-only layers, and one of its own for what it writes, seen as one by overlayfs.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
};

use crate::container::Layers;
use crate::image::{Rootfs, Store};
use crate::places::Places;
use crate::report::{Refusal, chain};
use crate::spec::{Root, Spec};

/// Mounts the root of the container whose folder this is.
///
/// # Errors
/// What is missing, or the kernel's refusal.
pub fn mount(places: &Places, spec: &Spec, folder: &Path) -> Result<Layers, Refusal> {
    match &spec.root {
        Root::Folder(lower) => {
            let layers = Layers {
                lowerdirs: vec![lower.clone()],
                upperdir: folder.join("upper"),
                workdir: folder.join("work"),
                merged: merged(folder),
            };
            let made = overlay(&layers, spec.remove);
            made.map_err(|e| {
                Refusal::new(format!("failed to mount the root over {}: {e}", lower.display()))
            })?;
            Ok(layers)
        }
        Root::Image { manifest, .. } => {
            let mount = || {
                let store = Store::open(&places.state)?;
                store.mount(&store.image(manifest)?, folder, spec.remove)
            };
            let rootfs = mount().map_err(|e| chain(&e))?;
            let Rootfs { lowerdirs, upperdir, workdir, merged, .. } = rootfs;
            Ok(Layers { lowerdirs, upperdir, workdir, merged })
        }
    }
}

/// Where a container's root is seen.
#[must_use]
pub fn merged(folder: &Path) -> PathBuf {
    folder.join("merged")
}

/// Takes the root from sight. It is gone for good when nobody uses it any more.
pub fn unmount(folder: &Path) {
    let merged = merged(folder);
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    while rustix::mount::unmount(&merged, flags).is_ok() {}
    let _ = fs::remove_dir(&merged);
}

/// Gives the layers back, when the container's own folder is about to go.
pub fn release(places: &Places, spec: &Spec, folder: &Path) {
    if matches!(spec.root, Root::Image { .. })
        && let Ok(store) = Store::open(&places.state)
    {
        // A lease whose container is gone holds nothing either.
        let _ = store.release(folder);
    }
}

fn overlay(layers: &Layers, volatile: bool) -> std::io::Result<()> {
    for folder in [&layers.upperdir, &layers.workdir, &layers.merged] {
        fs::create_dir_all(folder)?;
    }
    // The root of what is seen has the owner and the permissions of this one.
    copy_permissions(&layers.lowerdirs[0], &layers.upperdir)?;
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "weft")?;
    let lower: Vec<String> = layers.lowerdirs.iter().map(|l| escaped(l)).collect();
    fsconfig_set_string(&context, "lowerdir", lower.join(":"))?;
    fsconfig_set_string(&context, "upperdir", &layers.upperdir)?;
    fsconfig_set_string(&context, "workdir", &layers.workdir)?;
    if volatile {
        // Nothing of it is kept: unmounting need not write the whole disk out. Linux 5.10.
        fsconfig_set_flag(&context, "volatile")?;
    }
    fsconfig_create(&context)?;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(mount, "", rustix::fs::CWD, &layers.merged, flags)?)
}

fn copy_permissions(from: &Path, to: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(from)?;
    std::os::unix::fs::chown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(to, metadata.permissions())
}

/// A colon would begin the next layer, a comma the next option.
fn escaped(path: &Path) -> String {
    let text = PathBuf::from(path).display().to_string();
    text.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
}
