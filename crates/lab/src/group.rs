//! A control group and a BPF file system of a test's own, for what weft attaches to the sockets of a host's processes.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use weft_kernel::netns::Netns;

use crate::Error;

/// Where cgroups of version 2 may be.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
/// How long processes that have ended may take to leave the group.
const PATIENCE: Duration = Duration::from_secs(10);

/// Processes that are started in here meet the programs of whatever agents have attached some. Dropping it removes
/// the group; the file system, which is mounted nowhere, ends with it.
#[derive(Debug)]
pub struct Group {
    cgroup: PathBuf,
    bpf: OwnedFd,
}

impl Group {
    /// Makes both.
    ///
    /// # Errors
    /// [`Error::File`] where there are no cgroups of version 2, or no BPF file systems.
    pub fn new() -> Result<Group, Error> {
        let is_root = |root: &&Path| root.join("cgroup.controllers").exists();
        let root = ROOTS.iter().map(Path::new).find(is_root).unwrap_or(Path::new(ROOTS[1]));
        let cgroup = root.join(format!("weft-lab-{}", crate::tag()));
        let bpf =
            mount_bpf().map_err(|e| Error::File { path: "a BPF file system".into(), source: e.into() })?;
        fs::create_dir(&cgroup).map_err(|source| Error::File { path: cgroup.clone(), source })?;
        Ok(Group { cgroup, bpf })
    }

    /// The group's folder.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// weft's folder in the BPF file system.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        format!("/proc/{}/fd/{}/weft", std::process::id(), self.bpf.as_raw_fd()).into()
    }

    /// The lines of an agent's configuration that make it work here.
    #[must_use]
    pub fn lines(&self) -> [String; 3] {
        [
            "publish_on_loopback = true".to_owned(),
            format!("cgroup = {:?}", self.cgroup),
            format!("bpf_dir = {:?}", self.pins()),
        ]
    }

    /// A program in the group and in a namespace, to be given arguments and started.
    #[must_use]
    pub fn command(&self, netns: &Netns, program: &Path) -> Command {
        let mut command = netns.command("/bin/sh");
        let join = r#"echo $$ >"$0/cgroup.procs" && exec "$@""#;
        command.arg("-c").arg(join).arg(&self.cgroup).arg(program);
        command
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let begin = Instant::now();
        while fs::remove_dir(&self.cgroup).is_err() && self.cgroup.exists() && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn mount_bpf() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("bpf", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}
