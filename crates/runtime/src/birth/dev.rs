//! `/dev`: the few devices that every program expects, and its own terminal.

use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, Uid, chmod, makedev, mknodat, symlink};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, mount_bind};
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use weft_kernel::device::{Kind, Rule, access};

use super::kernelfs::{HARMLESS, folder, fresh};
use super::root::{fixed, put};
use super::{failed, outside, surrender};
use crate::report::{Refusal, Report};
use crate::users::Space;

/// The character devices in every container: name, major, minor (Documentation/admin-guide/devices.txt).
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/kcore", "/dev/core"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// What a container may do with devices: make any node, and use those in `/dev` and its terminals.
pub(crate) fn rules() -> Vec<Rule> {
    let node = |kind| Rule { kind, major: None, minor: None, access: access::MKNOD };
    let use_of =
        |major, minor| Rule { kind: Kind::Character, major: Some(major), minor, access: access::ALL };
    let mut rules = vec![node(Kind::Character), node(Kind::Block)];
    rules.extend(NODES.iter().map(|(_, major, minor)| use_of(*major, Some(*minor))));
    // The console, /dev/ptmx, and terminals of devpts.
    rules.extend([use_of(5, Some(1)), use_of(5, Some(2)), use_of(136, None)]);
    rules
}

/// Mounts `/dev` and fills it.
pub(super) fn populate(space: Option<&Space>) -> Result<(), Refusal> {
    let options = [("mode", "755"), ("size", "65536k")];
    let dev = fresh("tmpfs", &options, MountAttrFlags::MOUNT_ATTR_NOSUID).map_err(failed("mount /dev"))?;
    put(dev, fixed("/dev")?, "/dev")?;
    for (name, major, minor) in NODES {
        let path = format!("/dev/{name}");
        let everybody = Mode::from_raw_mode(0o666);
        let node = mknodat(CWD, &path, FileType::CharacterDevice, everybody, makedev(major, minor));
        node.and_then(|()| chmod(&path, everybody)).map_err(failed(format!("make {path}")))?;
    }
    for (to, at) in LINKS {
        symlink(to, at).map_err(failed(format!("make {at}")))?;
    }
    for path in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
        folder(path)?;
    }
    let tty = outside(space, 5).unwrap_or(0).to_string();
    let options = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", tty.as_str())];
    let no_programs = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let pts = fresh("devpts", &options, no_programs).map_err(failed("mount /dev/pts"))?;
    put(pts, fixed("/dev/pts")?, "/dev/pts")?;
    let options = [("mode", "1777"), ("size", "65536k")];
    let shm = fresh("tmpfs", &options, HARMLESS).map_err(failed("mount /dev/shm"))?;
    put(shm, fixed("/dev/shm")?, "/dev/shm")?;
    match fresh("mqueue", &[], HARMLESS) {
        Err(Errno::NODEV) => Ok(()), // a kernel without POSIX message queues
        other => put(other.map_err(failed("mount /dev/mqueue"))?, fixed("/dev/mqueue")?, "/dev/mqueue"),
    }
}

/// Makes a terminal of the container's own, takes it as standard input, output and error, and sends the shim its
/// other end. A container's first terminal is its console, too.
pub(super) fn terminal(report: &Report, owner: Uid, console: bool) -> Result<(), Refusal> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open("/dev/ptmx", flags, Mode::empty()).map_err(failed("open a terminal"))?;
    rustix::pty::unlockpt(&master).map_err(failed("open a terminal"))?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).map_err(failed("open a terminal"))?;
    rustix::fs::fchown(&slave, Some(owner), None).map_err(failed("own its terminal"))?;
    report.send(&master).map_err(failed("send its terminal"))?;
    drop(master);
    if console {
        let made =
            rustix::fs::open("/dev/console", OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC, Mode::RUSR);
        made.map_err(failed("make /dev/console"))?;
        let from = format!("/proc/self/fd/{}", slave.as_fd().as_raw_fd());
        mount_bind(from.as_str(), "/dev/console").map_err(failed("mount /dev/console"))?;
    }
    ioctl_tiocsctty(&slave).map_err(failed("take its terminal"))?;
    surrender::take(&slave, &slave, &slave)
}
