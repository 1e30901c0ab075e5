//! What a new process does to become a container: everything between `clone3` and `execve`.
//!
//! ```text
//! born into new mount, process, host name and IPC namespaces (and the cgroup of v2; the network is the shim's)
//!   └ joins its cgroups of v1 ─ cgroup namespace ─ opens what it will see of the host ─ pivot_root
//!       └ /proc /dev /sys, masks ─ volumes ─ host name ─ terminal ─ user ─ system calls ─ capabilities ─ execve
//! ```
//!
//! With a user namespace ([`crate::users`]) all of it up to the terminal is done by the host's root, who makes files in the
//! name of the container's; then the process joins and is the container's root, and goes on from there.
//!
//! From `pivot_root` on every path means the container's own files, so a symbolic link in an image leads nowhere else.

pub(crate) mod dev;
pub(crate) mod entry;
mod identity;
mod kernelfs;
mod program;
pub(crate) mod root;
mod surrender;

use std::convert::Infallible;
use std::fmt::Display;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Signal, set_parent_process_death_signal};
use seccompiler::BpfProgram;
use weft_kernel::netns::unshare;
use weft_kernel::process::namespace;
use weft_kernel::signal;

use crate::cgroup::{self, Group};
use crate::report::{Refusal, Report};
use crate::spec::Spec;
use crate::users::Space;

pub(crate) use identity::Identity;

/// Everything that a new process needs to know and to hold.
pub(crate) struct Birth<'a> {
    pub(crate) spec: &'a Spec,
    /// Where the container's files are, in the namespace of the one who calls.
    pub(crate) merged: &'a Path,
    /// The folder with the files that are laid over `/etc`.
    pub(crate) etc: &'a Path,
    pub(crate) group: &'a Group,
    /// What to write to in order to join the groups of v1.
    pub(crate) doors: Vec<OwnedFd>,
    pub(crate) filters: &'a [BpfProgram],
    /// Standard input, output and error; `None`: a terminal, which is made here and sent to the shim.
    pub(crate) stdio: Option<[OwnedFd; 3]>,
    /// Where to say what failed, and to wait for the network.
    pub(crate) report: &'a Report,
    /// Its user namespace, if it has one.
    pub(crate) space: Option<&'a Space>,
}

/// The namespaces that a container is born into; a user namespace has two of them already.
pub(crate) fn namespaces(space: Option<&Space>) -> i32 {
    let own = namespace::MOUNT | namespace::PROCESS;
    if space.is_some() { own } else { own | namespace::HOSTNAME | namespace::IPC }
}

impl Birth<'_> {
    /// Becomes the container's program; the number is the exit code if that fails, which has been reported.
    pub(crate) fn run(self) -> i32 {
        let report = self.report;
        let Err(refusal) = self.become_container();
        report.refuse(&refusal);
        refusal.code
    }

    fn become_container(self) -> Result<Infallible, Refusal> {
        let spec = self.spec;
        signal::default_all();
        cgroup::join(&self.doors).map_err(failed("join its cgroups"))?;
        drop(self.doors);
        unshare(namespace::CGROUP).map_err(failed("make a cgroup namespace"))?;
        private()?;
        let view = root::View::open(spec, self.etc, self.group)?;
        if let Some(space) = self.space {
            space.enter_parts().map_err(failed("enter what belongs to its user namespace"))?;
            space.make_files_as_root().map_err(failed("make files as its root"))?;
        }
        root::pivot(self.merged)?;
        dev::populate(self.space)?;
        kernelfs::mount_all(view.groups)?;
        root::lay_etc(view.etc)?;
        root::lay_volumes(view.volumes)?;
        rustix::system::sethostname(spec.hostname.as_bytes()).map_err(failed("set the host name"))?;
        execute(spec, self.space, self.stdio, self.report, self.filters, Way::Birth)
    }
}

/// How a process has come into its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It is the first one.
    Birth,
    /// It joined others.
    Entry,
}

/// Everything that `weft run` and `weft exec` have in common: inside already, becoming the program.
pub(crate) fn execute(
    spec: &Spec,
    space: Option<&Space>,
    stdio: Option<[OwnedFd; 3]>,
    report: &Report,
    filters: &[BpfProgram],
    way: Way,
) -> Result<Infallible, Refusal> {
    let identity = Identity::find(&spec.user).map_err(failed("find its user"))?;
    let owner = identity.outside(space)?;
    rustix::process::setsid().map_err(failed("begin a session"))?;
    match stdio {
        Some(stdio) => surrender::take_stdio(&stdio, owner)?,
        None => dev::terminal(report, owner.0, way == Way::Birth)?,
    }
    root::enter(&spec.workdir, owner)?;
    if way == Way::Birth && spec.read_only {
        root::freeze()?;
    }
    let environment = program::environment(spec, &identity);
    // Found while this is root: whether the user may execute it is the kernel's to say.
    let program = program::find(spec, &environment)?;
    // The last moment: from here on nothing waits.
    report.await_go().map_err(failed("hear from its shim"))?;
    if let Some(space) = space {
        space.join().map_err(failed("join its user namespace"))?;
        if way == Way::Birth {
            // Its mounts belong to its root now; what the host's root has mounted cannot be taken off.
            unshare(namespace::MOUNT).map_err(failed("own its mounts"))?;
        }
    }
    surrender::privileges(spec.capabilities, spec.no_new_privileges, filters, &identity)?;
    // After the change of user, which forgets it.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed("follow its shim"))?;
    Err(program::execute(&program, spec, &environment))
}

/// What a number of the container is on the host.
pub(crate) fn outside(space: Option<&Space>, number: u32) -> Option<u32> {
    space.map_or(Some(number), |space| space.range.outside(number))
}

/// Keeps every mount made from here on to this namespace.
fn private() -> Result<(), Refusal> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", flags).map_err(failed("keep its mounts to itself"))
}

/// A step that failed, with the code that Docker ends with when a container cannot be made.
pub(crate) fn failed<E: Display>(what: impl Into<String>) -> impl FnOnce(E) -> Refusal {
    let what = what.into();
    move |error| Refusal::new(format!("the container could not {what}: {error}"))
}
