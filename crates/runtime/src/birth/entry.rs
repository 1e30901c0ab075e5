//! What a new process does to get into a container that runs, and to become a program in it.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use seccompiler::BpfProgram;
use weft_kernel::signal;

use super::{Way, execute, failed};
use crate::cgroup;
use crate::report::{Refusal, Report};
use crate::spec::Spec;
use crate::users::Space;

/// What such a process needs to know and to hold.
pub(crate) struct Entry<'a> {
    /// The container, with what shall be executed now.
    pub(crate) spec: &'a Spec,
    /// Its first process.
    pub(crate) pidfd: &'a OwnedFd,
    pub(crate) doors: Vec<OwnedFd>,
    pub(crate) filters: &'a [BpfProgram],
    pub(crate) stdio: Option<[OwnedFd; 3]>,
    pub(crate) report: &'a Report,
    /// The container's user namespace, if it has one.
    pub(crate) space: Option<&'a Space>,
}

impl Entry<'_> {
    /// Becomes the program; the number is the exit code if that fails, which has been reported.
    pub(crate) fn run(self) -> i32 {
        let report = self.report;
        let Err(refusal) = self.enter();
        report.refuse(&refusal);
        refusal.code
    }

    fn enter(self) -> Result<Infallible, Refusal> {
        signal::default_all();
        // Until the program is executed, nobody inside may look into this process (CVE-2016-9962).
        set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("be closed to others"))?;
        cgroup::join(&self.doors).map_err(failed("join its cgroups"))?;
        drop(self.doors);
        // Its process namespace came with the birth.
        let namespaces = ThreadNameSpaceType::MOUNT
            | ThreadNameSpaceType::CONTROL_GROUP
            | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
            | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
            | ThreadNameSpaceType::NETWORK;
        move_into_thread_name_spaces(self.pidfd.as_fd(), namespaces).map_err(failed("be entered"))?;
        if let Some(space) = self.space {
            space.make_files_as_root().map_err(failed("make files as its root"))?;
        }
        execute(self.spec, self.space, self.stdio, self.report, self.filters, Way::Entry)
    }
}
