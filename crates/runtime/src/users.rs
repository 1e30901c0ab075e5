//! User namespaces of containers: numbers that nobody else has, and the namespaces that must belong to them.
//!
//! A namespace belongs to the user namespace in which it was made, and only who is root there has rights over it.
//! So a short-lived process, born into a new user namespace, makes those of network, IPC and host name:
//!
//! ```text
//! shim (root of the host) ── keeper: born into user, network, IPC, host name ── shim writes its maps, opens all, ends it
//!   └ the container's process: root of the host while it mounts; then it joins, and is root of nothing else
//! ```

mod choice;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use rustix::thread::{
    CapabilitiesSecureBits, Gid, LinkNameSpaceType, Uid, capabilities_secure_bits, move_into_link_name_space,
    set_capabilities_secure_bits, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use weft_kernel::netns::Netns;
use weft_kernel::process::{Born, fork, namespace, use_files_as};

use crate::report::{Refusal, chain};
use crate::spec::users::Range;

pub(crate) use choice::settle;

/// A user namespace with what belongs to it.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) range: Range,
    user: OwnedFd,
    ipc: OwnedFd,
    hostname: OwnedFd,
}

impl Space {
    /// Makes one, and a network namespace that belongs to it if it is to have its `own_network`.
    pub(crate) fn create(range: Range, own_network: bool) -> Result<(Space, Option<Netns>), Refusal> {
        supported()?;
        let network = if own_network { namespace::NETWORK } else { 0 };
        let flags = namespace::USER | namespace::IPC | namespace::HOSTNAME | network;
        let keeper = fork(flags, None, wait).map_err(|error| {
            let hint = "the kernel must know user namespaces (CONFIG_USER_NS), and /proc/sys/user/max_user_namespaces must \
                        not be 0; --userns host does without";
            chain(&error).hint(hint)
        })?;
        let opened = Space::of(&keeper, range, own_network);
        end(&keeper);
        opened
    }

    fn of(keeper: &Born, range: Range, own_network: bool) -> Result<(Space, Option<Netns>), Refusal> {
        let process = process(keeper.pid);
        let map = format!("0 {} {}\n", range.first, range.count);
        for file in ["uid_map", "gid_map"] {
            let path = process.join(file);
            fs::write(&path, &map).map_err(|e| failed(&format!("write {}", path.display()), &e))?;
        }
        let space = Space::open(&process, range)?;
        let net = process.join("ns/net");
        let net = own_network.then(|| Netns::open(&net)).transpose().map_err(|e| chain(&e))?;
        Ok((space, net))
    }

    /// That of a process.
    pub(crate) fn of_process(pid: Pid, range: Range) -> Result<Space, Refusal> {
        Space::open(&process(pid), range)
    }

    fn open(process: &Path, range: Range) -> Result<Space, Refusal> {
        let open = |kind: &str| {
            let path = process.join("ns").join(kind);
            let opened = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            opened.map_err(|e| failed(&format!("open {}", path.display()), &e.into()))
        };
        Ok(Space { range, user: open("user")?, ipc: open("ipc")?, hostname: open("uts")? })
    }

    /// The user namespace itself.
    pub(crate) fn user(&self) -> impl AsFd + '_ {
        self.user.as_fd()
    }

    /// Moves the calling process into its IPC and host name, while it still is root of the host.
    pub(crate) fn enter_parts(&self) -> io::Result<()> {
        let ipc = LinkNameSpaceType::InterProcessCommunication;
        move_into_link_name_space(self.ipc.as_fd(), Some(ipc))?;
        let hostname = LinkNameSpaceType::HostNameAndNISDomainName;
        Ok(move_into_link_name_space(self.hostname.as_fd(), Some(hostname))?)
    }

    /// What the calling process makes from here on belongs to the container's root; it stays root of the host with
    /// all capabilities.
    pub(crate) fn make_files_as_root(&self) -> io::Result<()> {
        set_capabilities_secure_bits(capabilities_secure_bits()? | CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
        use_files_as(self.range.first, self.range.first)
    }

    /// Becomes the root of this namespace, with all capabilities in it and none on the host. There is no way back.
    pub(crate) fn join(&self) -> io::Result<()> {
        move_into_link_name_space(self.user.as_fd(), Some(LinkNameSpaceType::User))?;
        // The numbers of the host's root mean nobody here.
        set_thread_groups(&[])?;
        set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
        Ok(set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?)
    }
}

/// overlayfs shows layers with other owners since Linux 5.19; everything else that is needed is older.
fn supported() -> Result<(), Refusal> {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    if version(&release).is_some_and(|v| v < (5, 19)) {
        let message = format!("a user namespace needs Linux 5.19 or later, and this is {release}");
        return Err(Refusal::new(message).hint("leave --userns out"));
    }
    Ok(())
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The keeper: holds its namespaces until it is ended, or the shim is.
fn wait() -> i32 {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    loop {
        rustix::event::pause();
    }
}

fn end(keeper: &Born) {
    let _ = pidfd_send_signal(&keeper.pidfd, Signal::KILL);
    let _ = waitid(WaitId::PidFd(keeper.pidfd.as_fd()), WaitIdOptions::EXITED);
}

fn process(pid: Pid) -> PathBuf {
    PathBuf::from("/proc").join(pid.to_string())
}

fn failed(what: &str, error: &io::Error) -> Refusal {
    Refusal::new(format!("the user namespace of the container: failed to {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_name_begins_with_its_version() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.10.0"), Some((5, 10)));
        assert_eq!(version("5.19-rc1"), Some((5, 19)));
        assert_eq!(version("next"), None);
    }
}
