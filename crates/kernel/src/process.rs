//! Processes born into namespaces and a cgroup of their own, and what one sheds before it becomes another program.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::Pid;

/// Which new namespaces a process is born into: `CLONE_NEW…` of sched.h, or-ed.
pub mod namespace {
    /// Mount points.
    pub const MOUNT: i32 = libc::CLONE_NEWNS;
    /// Process numbers.
    pub const PROCESS: i32 = libc::CLONE_NEWPID;
    /// Host name.
    pub const HOSTNAME: i32 = libc::CLONE_NEWUTS;
    /// System V IPC and POSIX message queues.
    pub const IPC: i32 = libc::CLONE_NEWIPC;
    /// The root of the cgroup tree.
    pub const CGROUP: i32 = libc::CLONE_NEWCGROUP;
    /// Numbers of users and groups.
    pub const USER: i32 = libc::CLONE_NEWUSER;
    /// Interfaces, addresses, routes, sockets.
    pub const NETWORK: i32 = libc::CLONE_NEWNET;
}

/// A process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Only the calling thread lives on in a fork, and locks held by others stay locked in it.
    #[error("a process of {count} threads cannot be forked")]
    Threads {
        /// How many there are.
        count: usize,
    },
    /// The kernel refused.
    #[error("failed to start a process (clone3)")]
    Clone(#[source] io::Error),
}

/// A child.
#[derive(Debug)]
pub struct Born {
    /// Its number in the caller's process namespace.
    pub pid: Pid,
    /// Becomes readable when it has ended; cannot mean another process by then.
    pub pidfd: OwnedFd,
}

/// As of linux/sched.h, up to `cgroup` (Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000; // linux/sched.h

/// Starts a child in new `namespaces` and, if one is given, in the cgroup (v2) whose folder is `cgroup`. The child
/// runs `body`, ends with the number it returns, and never returns from here; a panic ends it with 101.
///
/// # Errors
/// [`Error::Threads`] in a process that has more than one thread.
pub fn fork(
    namespaces: i32,
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce() -> i32,
) -> Result<Born, Error> {
    // A thread that was joined a moment ago may be listed still.
    let mut tries = 0;
    loop {
        let count = std::fs::read_dir("/proc/self/task").map_err(Error::Clone)?.count();
        if count == 1 {
            break;
        }
        tries += 1;
        if tries == 100 {
            return Err(Error::Threads { count });
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: u64::from((namespaces | libc::CLONE_PIDFD).cast_unsigned()),
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(cgroup.as_raw_fd()).expect("descriptors are not negative");
    }
    // SAFETY: without CLONE_VM this is a fork: the child has a copy of all memory, and as the process has one thread
    // no lock in it is held by somebody who is not there. `args` and `pidfd` outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    if result == 0 {
        let code = catch_unwind(AssertUnwindSafe(body)).unwrap_or(101);
        // SAFETY: ends this process at once; nothing of the parent's is run twice.
        unsafe { libc::_exit(code) };
    }
    let pid = i32::try_from(result).ok().and_then(Pid::from_raw).filter(|_| result > 0);
    let pid = pid.ok_or_else(|| Error::Clone(io::Error::last_os_error()))?;
    // SAFETY: the kernel put a fresh descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Born { pid, pidfd })
}

/// Lets no descriptor but the three standard ones pass into the next program.
///
/// # Errors
/// The kernel's.
pub fn keep_descriptors_private() -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4; // linux/close_range.h
    // SAFETY: with this flag nothing is closed, only marked.
    let marked = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    if marked == 0 {
        return Ok(());
    }
    // Linux before 5.11.
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(fd) = entry?.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        if fd > 2 {
            // SAFETY: marking changes no memory; a number that is no descriptor by now is refused.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// As whom the calling thread uses files from here on; nothing else about it changes (setfsuid(2)). The kernel takes
/// capabilities over files away from one who was root, unless `SECBIT_NO_SETUID_FIXUP` is set before.
///
/// # Errors
/// `EPERM`, if it may not.
pub fn use_files_as(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: both only change credentials of this thread. They return what was before; asked with a number that
    // nobody can have they change nothing.
    let now = unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        (libc::setfsuid(u32::MAX).cast_unsigned(), libc::setfsgid(u32::MAX).cast_unsigned())
    };
    if now == (uid, gid) { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EPERM)) }
}

/// Takes over a descriptor that the program was started with and that nobody in it owns yet.
///
/// # Errors
/// `EBADF`, if there is none of that number, or it is one of the three standard ones.
pub fn inherited(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: asks only; a number that is no descriptor is refused.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    // Whatever this program opens itself is closed on exec: such a one is not inherited.
    if number < 3 || flags < 0 || flags & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, was inherited, and from here on marked, so that it is given out only once.
    unsafe {
        libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
        Ok(OwnedFd::from_raw_fd(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_many_threads_is_not_forked() {
        // The test runner has at least two.
        let refused = fork(0, None, || 0);
        assert!(matches!(refused, Err(Error::Threads { count }) if count > 1), "{refused:?}");
    }

    #[test]
    fn what_this_program_opened_is_not_inherited() {
        let own = std::fs::File::open("/dev/null").unwrap();
        for number in [-1, 0, 2, own.as_raw_fd(), 100_000] {
            assert_eq!(inherited(number).unwrap_err().raw_os_error(), Some(libc::EBADF), "{number}");
        }
    }
}
