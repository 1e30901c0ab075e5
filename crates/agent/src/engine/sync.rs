//! Making the kernel agree with the plan, after something changed behind our back or by our wish.

use weft_dataplane::SyncError;
use weft_kernel::netns::Netns;
use weft_kernel::{Change, Kernel, ReadError, State};
use weft_model::api::{Error, ErrorKind};
use weft_model::{AttachmentId, Workload};

use super::Engine;
use crate::chain;

/// One round shows the next what it could not see: a refusal is the echo of what a neighbouring change has
/// mended by now; a link whose MTU was less than IPv6 needs has its settings back, and not ours.
const ROUNDS: usize = 3;

/// Whether a workload's namespace is gone, or another one is at its place. One whose file is not known
/// (rebuilt from the kernel) counts as alive: its wire says more.
pub(super) fn is_dead(workload: &Workload) -> bool {
    let netns = &workload.netns;
    !netns.path.as_os_str().is_empty() && !Netns::open(&netns.path).is_ok_and(|n| n.inode() == netns.inode)
}

impl Engine {
    /// Reads the kernel, compares it with the plan and mends what differs. Never fails as a whole: what
    /// could not be mended is in the health report and is tried again at the next occasion. Returns whether
    /// all is well now.
    pub(crate) fn sync(&mut self) -> bool {
        let mut wanted = self.wanted();
        self.remember_settings(&wanted);
        for _ in 0..ROUNDS {
            let found = match self.read(&wanted) {
                Ok(found) => self.spared(&wanted, found),
                Err(error) => {
                    self.health = vec![chain(&SyncError::Read(error))];
                    break;
                }
            };
            if self.bury(&found) {
                wanted = self.wanted();
            }
            let report = weft_dataplane::sync_from(&mut self.kernel, &wanted, &found);
            self.health = report.refused.iter().map(|e| chain(e)).collect();
            if report.made.is_empty() {
                break;
            }
            tracing::info!(changes = report.made.len(), "kernel brought in line with the plan");
        }
        for problem in &self.health {
            tracing::warn!(problem, "the kernel differs from the plan");
        }
        self.health.is_empty()
    }

    /// Whether the last comparison left nothing to mend.
    pub(crate) fn is_mended(&self) -> bool {
        self.health.is_empty()
    }

    /// The kernel's state with the settings that are wanted.
    fn read(&mut self, wanted: &weft_dataplane::Wanted) -> Result<State, ReadError> {
        let keys: Vec<_> = wanted.state.sysctls.keys().cloned().collect();
        match self.early.take() {
            Some(survey) => Ok(survey.with_settings(&keys)),
            None => self.kernel.read(&keys),
        }
    }

    /// Like [`sync`](Self::sync), for somebody who waits for the result.
    pub(super) fn sync_strictly(&mut self) -> Result<(), Error> {
        self.sync();
        match self.health.first() {
            None => Ok(()),
            Some(problem) => Err(Error::new(ErrorKind::Kernel, problem.clone())),
        }
    }

    /// What the kernel should hold, as far as this one can.
    fn wanted(&self) -> weft_dataplane::Wanted {
        let mut wanted = weft_dataplane::render(&self.plan);
        self.fit_loopback(&mut wanted);
        wanted
    }

    /// What a sync would change now.
    pub(super) fn outstanding(&mut self) -> Result<Vec<Change>, Error> {
        let wanted = self.wanted();
        let found = self.read(&wanted).map_err(|e| Error::new(ErrorKind::Kernel, chain(&e)))?;
        let found = self.spared(&wanted, found);
        Ok(weft_dataplane::steps(&wanted, &found))
    }

    /// Without what leads to other hosts, as long as nobody has said which there are.
    fn spared(&self, wanted: &weft_dataplane::Wanted, mut found: State) -> State {
        if self.unheard {
            weft_dataplane::spare(&wanted.state, &mut found);
        }
        found
    }

    /// What a sync would change now, as commands.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub(crate) fn diff(&mut self) -> Result<Vec<String>, Error> {
        Ok(self.outstanding()?.iter().flat_map(Change::commands).collect())
    }

    /// Forgets workloads whose wire and namespace are both gone: nobody will ever detach them. Returns whether
    /// there were any.
    fn bury(&mut self, found: &State) -> bool {
        let lost = |w: &&Workload| !found.links.contains_key(&w.host_end) && is_dead(w);
        let dead: Vec<AttachmentId> =
            self.world.workloads.values().filter(lost).map(|w| w.id.clone()).collect();
        dead.iter().for_each(|id| self.forget(id));
        !dead.is_empty()
    }
}
