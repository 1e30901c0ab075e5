//! A container's root: read-only layers, and one of its own for what it writes, seen as one by overlayfs.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change, move_mount, open_tree,
};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use weft_kernel::mount::idmapped;
use weft_kernel::process::{fork, namespace};

use crate::container::Layers;
use crate::image::{Rootfs, Store};
use crate::places::Places;
use crate::report::{Refusal, Report, Word, chain};
use crate::spec::{Root, Spec};
use crate::users::Space;

/// Mounts the root of the container whose folder this is, with the owners that its files have in its user namespace.
///
/// # Errors
/// What is missing, or the kernel's refusal.
pub(crate) fn mount(
    places: &Places,
    spec: &Spec,
    folder: &Path,
    space: Option<&Space>,
) -> Result<Layers, Refusal> {
    let rootfs = match &spec.root {
        Root::Folder(lower) => Rootfs::over(lower, folder).map_err(|e| chain(&e))?,
        Root::Image { manifest, .. } => {
            let prepare = || {
                let store = Store::open(&places.state)?;
                store.prepare(&store.image(manifest)?, folder)
            };
            prepare().map_err(|e| chain(&e))?
        }
    };
    match space {
        None => rootfs.attach(spec.remove).map_err(|e| chain(&e))?,
        Some(space) => attach_for(space, places, spec, folder, &rootfs)?,
    }
    let Rootfs { lowerdirs, upperdir, workdir, merged, .. } = rootfs;
    Ok(Layers { lowerdirs, upperdir, workdir, merged })
}

/// Lets a process with a mount namespace of its own put the root together, where the layers can be shown with other
/// owners without anybody else seeing that; what it hands over is mounted here.
fn attach_for(
    space: &Space,
    places: &Places,
    spec: &Spec,
    folder: &Path,
    rootfs: &Rootfs,
) -> Result<(), Refusal> {
    let failed =
        |error: io::Error| Refusal::new(format!("failed to mount {}: {error}", rootfs.merged.display()));
    let (report, theirs) = Report::pair().map_err(failed)?;
    let mounter = fork(namespace::MOUNT, None, || {
        let told =
            shown(space, places, spec, folder, rootfs).and_then(|mount| theirs.send(mount).map_err(failed));
        told.map_or_else(
            |refusal| {
                theirs.refuse(&refusal);
                1
            },
            |()| 0,
        )
    });
    let mounter = mounter.map_err(|e| chain(&e))?;
    drop(theirs);
    let word = report.next();
    let _ = waitid(WaitId::PidFd(mounter.pidfd.as_fd()), WaitIdOptions::EXITED);
    match word.map_err(failed)? {
        Word::Opened(mount) => {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            move_mount(mount, "", CWD, &rootfs.merged, flags).map_err(|e| failed(e.into()))
        }
        Word::Refused(refusal) => Err(refusal),
        Word::Executed | Word::Ready => Err(failed(io::Error::other("the process that does it has ended"))),
    }
}

/// The root, mounted over layers as its user namespace sees them.
fn shown(
    space: &Space,
    places: &Places,
    spec: &Spec,
    folder: &Path,
    rootfs: &Rootfs,
) -> Result<OwnedFd, Refusal> {
    let failed = |what: &str, error: io::Error| Refusal::new(format!("failed to {what}: {error}"));
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|e| failed("keep mounts to itself", e.into()))?;
    let mut rootfs = rootfs.clone();
    match &spec.root {
        Root::Folder(lower) => {
            // Not over itself: it may be the root of all paths.
            let place = places.live(&spec.name);
            lay(space, lower, &place)?;
            rootfs.lowerdirs = vec![place];
        }
        Root::Image { .. } => {
            let layers = Store::layers_of(&places.state);
            lay(space, &layers, &layers)?;
        }
    }
    lay(space, folder, folder)?;
    // overlayfs makes its files as whoever mounted it.
    space.make_files_as_root().map_err(|e| failed("make files as the container's root", e))?;
    rootfs.attach(spec.remove).map_err(|e| chain(&e))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, &rootfs.merged, flags).map_err(|e| failed("open the root", e.into()))
}

/// Mounts a folder at a place, with owners as the user namespace has them.
fn lay(space: &Space, folder: &Path, place: &Path) -> Result<(), Refusal> {
    let what = |what: &str, error: io::Error| {
        Refusal::new(format!("failed to {what} {} for a user namespace: {error}", folder.display()))
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, folder, flags).map_err(|e| what("open", e.into()))?;
    idmapped(&mount, space.user()).map_err(|e| {
        what("change the owners seen in", e).hint(
            "its file system must support idmapped mounts, as ext4, xfs, btrfs do, and tmpfs since Linux 6.3; \
             `--userns host` needs none",
        )
    })?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(mount, "", CWD, place, flags).map_err(|e| what("mount", e.into()))
}

/// Where a container's root is seen.
#[must_use]
pub fn merged(folder: &Path) -> PathBuf {
    folder.join("merged")
}

/// Whether the container whose folder this is had a root before.
pub(crate) fn wrote(folder: &Path) -> bool {
    folder.join("upper").exists()
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
