//! What a process gives up before it becomes the container's program.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Gid, Uid};
use rustix::io::Errno;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};
use seccompiler::BpfProgram;
use weft_kernel::process::keep_descriptors_private;

use super::{Identity, failed};
use crate::report::Refusal;
use crate::seccomp;
use crate::spec::Capabilities;

/// Takes these as standard input, output and error. Pipes become its user's, who may want to open `/dev/stdout`.
pub(super) fn take_stdio(stdio: &[OwnedFd; 3], owner: (Uid, Gid)) -> Result<(), Refusal> {
    for fd in stdio {
        let stat = rustix::fs::fstat(fd).map_err(failed("look at its standard input and output"))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo {
            rustix::fs::fchown(fd, Some(owner.0), Some(owner.1))
                .map_err(failed("own its standard input and output"))?;
        }
    }
    take(&stdio[0], &stdio[1], &stdio[2])
}

pub(super) fn take(input: impl AsFd, output: impl AsFd, error: impl AsFd) -> Result<(), Refusal> {
    let taken = dup2_stdin(input).and_then(|()| dup2_stdout(output)).and_then(|()| dup2_stderr(error));
    taken.map_err(failed("take its standard input and output"))
}

/// Gives up everything that the program shall not have, in an order in which each step is still permitted:
/// the bounding set, then the filter (which needs root or no new privileges), the user, the rest.
pub(super) fn privileges(
    keep: Capabilities,
    no_new_privileges: bool,
    filters: &[BpfProgram],
    identity: &Identity,
) -> Result<(), Refusal> {
    keep_descriptors_private().map_err(failed("close its descriptors"))?;
    for capability in keep.missing() {
        match remove_capability_from_bounding_set(capability) {
            // This kernel has no capability of that number.
            Err(Errno::INVAL) => break,
            other => other.map_err(failed("give up capabilities"))?,
        }
    }
    if no_new_privileges {
        set_no_new_privs(true).map_err(failed("give up new privileges"))?;
    }
    seccomp::enforce(filters).map_err(|error| {
        let source = std::error::Error::source(&error).map(|s| format!(": {s}")).unwrap_or_default();
        failed("limit its system calls")(format!("{error}{source}"))
    })?;
    become_user(identity).map_err(failed("become its user"))?;
    let now = capabilities(None).map_err(failed("read its capabilities"))?;
    let keep = keep.set() & now.permitted;
    // A user other than root has none by now, and gets none back: nothing is inheritable (CVE-2022-24769) or ambient.
    let sets = CapabilitySets {
        effective: keep & now.effective,
        permitted: keep,
        inheritable: CapabilitySet::empty(),
    };
    clear_ambient_capability_set().map_err(failed("give up capabilities"))?;
    set_capabilities(None, sets).map_err(failed("give up capabilities"))
}

fn become_user(identity: &Identity) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    let groups: Vec<_> = identity.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}
