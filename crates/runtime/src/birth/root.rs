//! The container's root: what it sees of the host is opened first, then the host is left behind.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, fstat, openat2};
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, fchdir, getcwd, pivot_root};
use weft_kernel::mount::read_only;

use super::failed;
use crate::cgroup::Group;
use crate::report::Refusal;
use crate::spec::{Spec, Volume};

/// Files that every container has of its own, in the folder that the shim fills.
pub(crate) const ETC: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// What a container sees of the host: mounts that are nowhere yet.
pub(super) struct View<'a> {
    pub(super) etc: Vec<(&'static str, OwnedFd)>,
    pub(super) volumes: Vec<(&'a Volume, OwnedFd)>,
    /// Its own cgroups, each with the name that its folder will have.
    pub(super) groups: Vec<(String, OwnedFd)>,
}

impl<'a> View<'a> {
    /// Opens all of it.
    pub(super) fn open(spec: &'a Spec, etc: &Path, group: &Group) -> Result<View<'a>, Refusal> {
        let etc =
            ETC.iter().map(|file| Ok((*file, picked(&etc.join(file))?))).collect::<Result<_, Refusal>>()?;
        let volume = |v: &'a Volume| Ok((v, picked(&v.source)?));
        let volumes = spec.volumes.iter().map(volume).collect::<Result<_, Refusal>>()?;
        let alone = group.v1.is_empty();
        let unified = group.unified.iter().map(|f| (if alone { "" } else { "unified" }.to_owned(), f));
        let v1 = group.v1.iter().map(|(name, folder)| (name.clone(), folder));
        let groups = unified.chain(v1).map(|(name, folder)| Ok((name, picked(folder)?)));
        Ok(View { etc, volumes, groups: groups.collect::<Result<_, Refusal>>()? })
    }
}

/// A copy of the mount at a path in which nothing is a symbolic link, with all mounts below it.
fn picked(path: &Path) -> Result<OwnedFd, Refusal> {
    let what = || format!("open {} of the host", path.display());
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let at = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS).map_err(failed(what()))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(at, "", flags).map_err(failed(what()))
}

/// Makes the folder the root of all paths, and takes the host's files away (pivot_root(2), "pivot_root(".", ".")").
pub(super) fn pivot(merged: &Path) -> Result<(), Refusal> {
    let what = "move into its root";
    chdir(merged).map_err(failed(what))?;
    // Where it is not a mount already it must become one.
    if !is_mount(merged) {
        rustix::mount::mount_bind_recursive(".", ".").map_err(failed(what))?;
        chdir(merged).map_err(failed(what))?;
    }
    pivot_root(".", ".").map_err(failed(what))?;
    unmount(".", UnmountFlags::DETACH).map_err(failed("leave the host's files"))?;
    chdir("/").map_err(failed(what))
}

fn is_mount(path: &Path) -> bool {
    let device = |p: &Path| rustix::fs::stat(p).map(|s| s.st_dev).ok();
    device(path) != device(&path.join(".."))
}

/// Opens a folder of the container at a path that only the kernel's own mounts may use, making it if need be.
///
/// A symbolic link there is refused: the image would decide where /proc or /dev goes.
pub(super) fn fixed(path: &str) -> Result<OwnedFd, Refusal> {
    let what = || format!("use {path}");
    let open = || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
    };
    match open() {
        Err(rustix::io::Errno::NOENT) => {
            rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)).map_err(failed(what()))?;
            open().map_err(failed(what()))
        }
        other => other.map_err(failed(what())),
    }
}

/// Puts a mount that is nowhere onto what was opened.
pub(super) fn put(mount: impl AsFd, onto: impl AsFd, what: &str) -> Result<(), Refusal> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", onto, "", flags).map_err(failed(format!("mount {what}")))
}

/// Lays the container's own files over those of `/etc`.
pub(super) fn lay_etc(files: Vec<(&'static str, OwnedFd)>) -> Result<(), Refusal> {
    for (name, mount) in files {
        let target = Path::new("/etc").join(name);
        put(mount, target_for(&target, false)?, &target.display().to_string())?;
    }
    Ok(())
}

/// Lays volumes where they were wished for.
pub(super) fn lay_volumes(volumes: Vec<(&Volume, OwnedFd)>) -> Result<(), Refusal> {
    for (volume, mount) in volumes {
        let kind = fstat(&mount).map_err(failed("look at a volume"))?.st_mode;
        let folder = FileType::from_raw_mode(kind) == FileType::Directory;
        let onto = target_for(&volume.target, folder)?;
        let what = volume.target.display().to_string();
        if !volume.read_only {
            put(mount, onto, &what)?;
            continue;
        }
        match read_only(&mount) {
            Ok(()) => put(mount, onto, &what)?,
            // Linux before 5.12: once it is in place, and without the mounts below it.
            Err(_) => {
                put(mount, onto, &what)?;
                let flags = MountFlags::BIND | MountFlags::RDONLY;
                mount_remount(&volume.target, flags, "").map_err(failed(format!("make {what} read-only")))?;
            }
        }
    }
    Ok(())
}

/// What a volume is laid onto, made if it is not there. Symbolic links lead to places in the container, but not into
/// the kernel's file systems: a volume over `/proc/self/attr` would be a way past the kernel's checks (CVE-2019-16884).
fn target_for(target: &Path, folder: bool) -> Result<OwnedFd, Refusal> {
    let what = || format!("make {} for a mount", target.display());
    if folder {
        fs::create_dir_all(target).map_err(failed(what()))?;
    } else {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(failed(what()))?;
        }
        match fs::File::options().append(true).create(true).open(target) {
            // A folder is in the way, or it cannot be written but is there.
            Err(error) if !target.exists() => return Err(failed(what())(error)),
            _ => {}
        }
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let fd = rustix::fs::open(target, flags, Mode::empty()).map_err(failed(what()))?;
    let kind = rustix::fs::fstatfs(&fd).map_err(failed(what()))?.f_type;
    if [0x9fa0, 0x6265_6572].contains(&kind) {
        // PROC_SUPER_MAGIC, SYSFS_MAGIC of linux/magic.h
        return Err(failed(what())("it leads into the kernel's own file systems"));
    }
    Ok(fd)
}

/// Makes the root read-only; what is mounted below it stays as it is.
pub(super) fn freeze() -> Result<(), Refusal> {
    let flags = MountFlags::BIND | MountFlags::RDONLY;
    mount_remount("/", flags, "").map_err(failed("make its root read-only"))
}

/// Goes to where the program starts.
pub(super) fn enter(workdir: &Path, owner: (Uid, Gid)) -> Result<(), Refusal> {
    let what = || format!("start in {}", workdir.display());
    if !workdir.exists() {
        fs::create_dir_all(workdir).map_err(failed(what()))?;
        rustix::fs::chown(workdir, Some(owner.0), Some(owner.1)).map_err(failed(what()))?;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // No magic links: /proc/self/fd/N could be a folder of the host (CVE-2024-21626).
    let folder = openat2(CWD, workdir, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
    fchdir(folder.map_err(failed(what()))?).map_err(failed(what()))?;
    let here = getcwd(Vec::new()).map_err(failed(what()))?;
    let here = PathBuf::from(here.to_string_lossy().into_owned());
    if here.is_absolute() { Ok(()) } else { Err(failed(what())("it is not inside the container")) }
}
