//! Which system calls a container may make: Docker's default profile (moby, `profiles/seccomp/default_linux.go`).
//!
//! What is not on the list is answered with EPERM, `clone3` with ENOSYS, so that C libraries fall back to `clone`,
//! whose flags can be looked at. As in Docker's newer releases, io_uring is not on the list. Programs of another
//! architecture (32 bits on a machine of 64) are killed, where Docker lets them run.

mod calls;

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use weft_kernel::filter::{self, Instruction};

use crate::spec::Capabilities;

/// The filter could not be made or put in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It could not be made.
    #[error("failed to write the filter of system calls")]
    Write(#[from] seccompiler::BackendError),
    /// The kernel refused it.
    #[error("failed to put the filter of system calls in force")]
    Install(#[from] std::io::Error),
}

/// Flags of `clone` that make namespaces: `CLONE_NEW…` of sched.h.
const NAMESPACES: u64 = 0x7e02_0000;
/// Virtual machines' sockets lead to the hypervisor, past all namespaces.
const AF_VSOCK: u64 = 40;
/// What `personality` may be asked for: Linux, with or without 32-bit pages and an old `uname`, or what it is.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// What a capability opens beyond the list.
const BY_CAPABILITY: [(&str, &[i64]); 14] = [
    ("DAC_READ_SEARCH", &[libc::SYS_open_by_handle_at]),
    (
        "SYS_ADMIN",
        &[
            libc::SYS_bpf,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_fanotify_init,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fsopen,
            libc::SYS_fspick,
            libc::SYS_mount,
            libc::SYS_mount_setattr,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_perf_event_open,
            libc::SYS_quotactl,
            libc::SYS_quotactl_fd,
            libc::SYS_setdomainname,
            libc::SYS_sethostname,
            libc::SYS_setns,
            libc::SYS_syslog,
            libc::SYS_umount2,
            libc::SYS_unshare,
        ],
    ),
    ("SYS_BOOT", &[libc::SYS_reboot]),
    ("SYS_CHROOT", &[libc::SYS_chroot]),
    ("SYS_MODULE", &[libc::SYS_delete_module, libc::SYS_init_module, libc::SYS_finit_module]),
    ("SYS_PACCT", &[libc::SYS_acct]),
    ("SYS_PTRACE", &[libc::SYS_kcmp, libc::SYS_pidfd_getfd, libc::SYS_process_madvise]),
    #[cfg(target_arch = "x86_64")]
    ("SYS_RAWIO", &[libc::SYS_iopl, libc::SYS_ioperm]),
    #[cfg(not(target_arch = "x86_64"))]
    ("SYS_RAWIO", &[]),
    ("SYS_TIME", &[libc::SYS_settimeofday, libc::SYS_clock_settime]),
    ("SYS_TTY_CONFIG", &[libc::SYS_vhangup]),
    ("SYS_NICE", &[libc::SYS_get_mempolicy, libc::SYS_mbind, libc::SYS_set_mempolicy]),
    ("SYSLOG", &[libc::SYS_syslog]),
    ("BPF", &[libc::SYS_bpf]),
    ("PERFMON", &[libc::SYS_perf_event_open]),
];

/// The filters for a container with these capabilities; they are put in force in this order.
///
/// # Errors
/// [`Error::Write`].
pub(crate) fn filters(capabilities: Capabilities) -> Result<Vec<BpfProgram>, Error> {
    let mut filters = vec![list(capabilities)?];
    if !capabilities.has("SYS_ADMIN") {
        filters.push(no_clone3()?);
    }
    Ok(filters)
}

fn list(capabilities: Capabilities) -> Result<BpfProgram, Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let free = [calls::COMMON, calls::RECENT, calls::OWN].into_iter().flatten();
    let bought = BY_CAPABILITY.iter().filter(|(name, _)| capabilities.has(name));
    let bought: Vec<i64> = bought.flat_map(|(_, calls)| calls.iter().copied()).collect();
    rules.extend(free.copied().chain(bought).map(|call| (call, Vec::new())));
    let mut only = |call: i64, argument: u8, operation: SeccompCmpOp, value: u64| {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operation, value)?;
        let rule = SeccompRule::new(vec![condition])?;
        // A call that is free already is not narrowed again.
        rules
            .entry(call)
            .and_modify(|all| {
                if !all.is_empty() {
                    all.push(rule.clone());
                }
            })
            .or_insert_with(|| vec![rule]);
        Ok::<(), Error>(())
    };
    only(libc::SYS_socket, 0, SeccompCmpOp::Ne, AF_VSOCK)?;
    only(libc::SYS_clone, 0, SeccompCmpOp::MaskedEq(NAMESPACES), 0)?;
    for value in PERSONALITIES {
        only(libc::SYS_personality, 0, SeccompCmpOp::Eq, value)?;
    }
    rules.entry(libc::SYS_clone3).or_default(); // answered by the other filter
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

fn no_clone3() -> Result<BpfProgram, Error> {
    let rules = [(libc::SYS_clone3, Vec::new())].into_iter().collect();
    let answer = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

/// Puts them in force for the calling thread and all that it becomes. Without `CAP_SYS_ADMIN` the thread must
/// have given up new privileges before.
///
/// # Errors
/// [`Error::Install`].
pub(crate) fn enforce(filters: &[BpfProgram]) -> Result<(), Error> {
    for filter in filters {
        // Not by the library, which always gives up new privileges, too: set-user-id programs work as with Docker.
        let own = |i: &seccompiler::sock_filter| Instruction {
            code: i.code,
            jump_true: i.jt,
            jump_false: i.jf,
            value: i.k,
        };
        filter::install(&filter.iter().map(own).collect::<Vec<_>>())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketType};

    use super::*;

    #[test]
    fn the_filters_fit_the_kernel() {
        for (add, count) in [("", 2), ("ALL", 1)] {
            let add: Vec<_> = add.parse().into_iter().collect();
            let filters = filters(Capabilities::with(&add, &[])).unwrap();
            assert_eq!(filters.len(), count);
            // BPF_MAXINSNS of linux/bpf_common.h.
            assert!(
                filters.iter().all(|f| f.len() < 4096),
                "{:?}",
                filters.iter().map(Vec::len).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn they_hold_for_a_thread() {
        let errors = std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            enforce(&filters(Capabilities::default()).unwrap()).unwrap();
            let vsock = AddressFamily::from_raw(40);
            let kind = SocketType::STREAM;
            [
                rustix::mount::unmount("/nonexistent", rustix::mount::UnmountFlags::empty()).unwrap_err(),
                rustix::net::socket(vsock, kind, None).unwrap_err(),
                rustix::net::socket(AddressFamily::UNIX, kind, None).err().unwrap_or(Errno::XDEV),
            ]
        });
        assert_eq!(errors.join().unwrap(), [Errno::PERM, Errno::PERM, Errno::XDEV]);
    }
}
