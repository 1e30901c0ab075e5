//! The kernel's own file systems in a container, and what of them is hidden or cannot be written
//! (moby, `oci/defaults.go`; OCI runtime specification, "Default Filesystems").

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, mount, mount_bind, mount_remount,
};

use super::failed;
use super::root::{fixed, put};
use crate::report::Refusal;

/// Hidden: they tell of the host, or reach into it.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// Readable, not writable.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// No set-user-id programs, no devices, no programs.
pub(super) const HARMLESS: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// A file system of this kind, mounted nowhere yet. An option without a value is a flag.
pub(super) fn fresh(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", kind)?; // what `mount` shows
    for (key, value) in options {
        match *value {
            "" => fsconfig_set_flag(&context, *key)?,
            value => fsconfig_set_string(&context, *key, value)?,
        }
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Mounts /proc and /sys with the container's own cgroups, then hides and protects.
pub(super) fn mount_all(groups: Vec<(String, OwnedFd)>) -> Result<(), Refusal> {
    let proc = fresh("proc", &[], HARMLESS).map_err(failed("mount /proc"))?;
    put(proc, fixed("/proc")?, "/proc")?;
    let read_only = HARMLESS | MountAttrFlags::MOUNT_ATTR_RDONLY;
    let sys = fresh("sysfs", &[], read_only).map_err(failed("mount /sys"))?;
    put(sys, fixed("/sys")?, "/sys")?;
    mount_groups(groups)?;
    for path in MASKED {
        mask(path)?;
    }
    for path in READ_ONLY {
        protect(path)?;
    }
    Ok(())
}

/// Its own groups, to read: one folder where v2 has all, one for each tree otherwise.
fn mount_groups(groups: Vec<(String, OwnedFd)>) -> Result<(), Refusal> {
    const PLACE: &str = "/sys/fs/cgroup";
    if !Path::new(PLACE).is_dir() || groups.is_empty() {
        return Ok(());
    }
    let several = groups.iter().any(|(name, _)| !name.is_empty());
    if several {
        let options = [("mode", "755"), ("size", "64k")];
        let folder = fresh("tmpfs", &options, HARMLESS).map_err(failed("mount its cgroups"))?;
        put(folder, fixed(PLACE)?, PLACE)?;
    }
    for (name, group) in groups {
        let path = if name.is_empty() { PLACE.to_owned() } else { format!("{PLACE}/{name}") };
        put(group, fixed(&path)?, &path)?;
        let flags = MountFlags::BIND
            | MountFlags::RDONLY
            | MountFlags::NOSUID
            | MountFlags::NODEV
            | MountFlags::NOEXEC;
        mount_remount(&path, flags, "").map_err(failed("protect its cgroups"))?;
    }
    if several {
        let flags = MountFlags::BIND
            | MountFlags::RDONLY
            | MountFlags::NOSUID
            | MountFlags::NODEV
            | MountFlags::NOEXEC;
        mount_remount(PLACE, flags, "").map_err(failed("protect its cgroups"))?;
    }
    Ok(())
}

/// Lays an empty folder, or a file that is always empty, over a path.
fn mask(path: &str) -> Result<(), Refusal> {
    let what = || failed(format!("hide {path}"));
    match rustix::fs::lstat(path) {
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(what()(error)),
        Ok(stat) if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() => {
            let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            mount("tmpfs", path, "tmpfs", flags, c"size=0k").map_err(what())
        }
        Ok(_) => mount_bind("/dev/null", path).map_err(what()),
    }
}

fn protect(path: &str) -> Result<(), Refusal> {
    let what = || failed(format!("protect {path}"));
    match mount_bind(path, path) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(what())?,
    }
    let flags =
        MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_remount(path, flags, "").map_err(what())
}

/// Makes a folder below one of these mounts.
pub(super) fn folder(path: &str) -> Result<(), Refusal> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) | Ok(()) => Ok(()),
        Err(error) => Err(failed(format!("make {path}"))(error)),
    }
}
