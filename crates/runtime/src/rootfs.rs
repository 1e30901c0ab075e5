//! A container's root: read-only layers, and one of its own for what it writes, seen as one by overlayfs.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use crate::container::Layers;
use crate::places::Places;
use crate::report::Refusal;
use crate::spec::{Root, Spec};

/// Mounts the root of a container, whose folder is `folder`, at `merged`.
///
/// # Errors
/// What is missing, or the kernel's refusal.
pub fn mount(places: &Places, spec: &Spec, folder: &Path, merged: &Path) -> Result<Layers, Refusal> {
    let _ = places;
    match &spec.root {
        Root::Folder(lower) => {
            let layers = Layers {
                lowerdirs: vec![lower.clone()],
                upperdir: folder.join("upper"),
                workdir: folder.join("work"),
                merged: merged.to_owned(),
            };
            let made = overlay(&layers, spec.remove);
            made.map_err(|e| {
                Refusal::new(format!("failed to mount the root over {}: {e}", lower.display()))
            })?;
            Ok(layers)
        }
        Root::Image { .. } => Err(Refusal::new("images are not here yet")),
    }
}

/// Gives back what [`mount`] took from the store of images.
pub fn release(_places: &Places, _folder: &Path) {}

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
