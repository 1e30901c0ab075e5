//! Policy: what changed of it, into the kernel, so that no packet sees half of a change.

use rustix::thread::{MembarrierCommand, membarrier};
use weft_kernel::Change;
use weft_kernel::conntrack::{self, Filter, Flow};
use weft_kernel::nflog::Logged;
use weft_kernel::nft::Diff;
use weft_model::api::{Denial, Error, ErrorKind, Judge};
use weft_plan::policy::matcher::Members;
use weft_plan::policy::resolve::Policies;
use weft_plan::policy::verdict::judge;
use weft_plan::policy::{Difference, Packet, Tables, explain, host};

use super::Engine;
use crate::{chain, flows};

/// What bringing policy in line with the world came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enforced {
    /// Nothing changed, and so no connection needs to be judged again.
    Nothing,
    /// The kernel took all of it.
    Done,
    /// It did not.
    Refused,
}

impl Engine {
    /// Has the plan follow what was touched of the world; says in what its policy differs.
    pub(super) fn follow_policy(&mut self) -> Difference {
        let touched = std::mem::take(&mut self.touched);
        let (plan, numbering) = (&mut self.plan.policy, &mut self.numbering);
        self.standing.follow(&self.world, &self.here.name, touched, plan, numbering)
    }

    /// The same; returns the steps from what was in force to what shall be.
    pub(super) fn replan_policy(&mut self) -> Diff {
        let difference = self.follow_policy();
        weft_dataplane::nft::policy::change(&difference, &self.plan.policy)
    }

    /// Brings policy in line with the world. Where the kernel does not take all of it, a repair is under way.
    pub(super) fn enforce(&mut self, operation: &str) -> Enforced {
        let diff = self.replan_policy();
        if diff.is_empty() {
            return Enforced::Nothing;
        }
        let mut answers = Vec::new();
        for ops in weft_dataplane::nft::policy::phases(diff) {
            if !answers.is_empty() {
                // What is permitted before and after must not fall between two batches, nor what is denied pass.
                settle();
            }
            answers.extend(self.apply(operation, &[Change::InstallRules(ops)]));
        }
        let refused: Vec<String> = answers.into_iter().filter_map(Result::err).map(|e| chain(&e)).collect();
        for problem in &refused {
            tracing::warn!(problem, "policy could not be changed by steps; all of the kernel is compared");
        }
        if refused.is_empty() {
            return Enforced::Done;
        }
        self.reap_and_resync();
        Enforced::Refused
    }

    /// Has the kernel forget connections that are denied now: their next packet begins anew, and is judged. Others are
    /// left alone, or translated ones would break.
    pub(super) fn end_denied_flows(&mut self) {
        if self.plan.policy.is_idle() {
            return;
        }
        let flows = match conntrack::flows(self.kernel.netfilter(), &Filter::default()) {
            Ok(flows) => flows,
            Err(error) => {
                tracing::warn!(error = chain(&error), "connections cannot be listed; those denied now go on");
                return;
            }
        };
        let tables = Tables::of(&self.plan.policy);
        let denied = |flow: &Flow| {
            // The real destination is where answers come from.
            let (destination, (port, _)) = (flow.reply.source, flow.reply.ports);
            let (source, protocol) = (flow.original.source, flow.original.protocol);
            !tables.pass(&Packet { source, destination, protocol, port })
        };
        let of_host = self.denied_of_host(&flows);
        let denied: Vec<Flow> = flows.iter().filter(|flow| denied(flow)).chain(of_host).cloned().collect();
        if denied.is_empty() {
            return;
        }
        match conntrack::forget(self.kernel.netfilter(), &denied) {
            Ok(count) => tracing::info!(count, "connections that policy denies now were ended"),
            Err(error) => {
                tracing::warn!(error = chain(&error), "failed to end connections that policy denies now");
            }
        }
    }

    /// Gives names to packets that rules have logged, and keeps them.
    pub(crate) fn denied(&mut self, logged: &[Logged]) {
        let ends = logged.iter().flat_map(|packet| [packet.source, packet.destination]).collect();
        let members = Members::at(&self.world, &ends);
        let policies = Policies::for_members(&self.world, &members);
        for packet in logged {
            let Some((audit, direction, host_end)) = flows::prefix(&packet.prefix) else { continue };
            let Some(subject) = self.plan.policy.all().find(|s| s.host_end.as_str() == host_end) else {
                continue;
            };
            let verdict = match host_end {
                host::HOST => self.judge_host(&members, direction, &flows::packet(packet)),
                _ => judge(&policies, &members, &flows::packet(packet)),
            };
            let by = subject.judged(direction).map(|j| &*j.by).unwrap_or_default();
            let by = flows::cause(&verdict, direction, audit, by);
            let names = [packet.source, packet.destination]
                .map(|address| members.end(address).workload.map(|w| w.name.clone()));
            let workload = (audit, direction, subject.name.clone());
            self.denials.add(flows::denial(packet, names, workload, by));
        }
    }

    /// The last denials with a higher number.
    pub(crate) fn denials(&self, after: u64) -> Vec<Denial> {
        self.denials.after(after)
    }

    /// What policy says of a connection.
    ///
    /// # Errors
    /// If one of its ends is not known.
    pub(crate) fn judge(&self, asked: &Judge) -> Result<String, Error> {
        let members = Members::of(&self.world);
        let [from, to] = [&asked.from, &asked.to].map(|end| self.called(end));
        let packets = explain::packets(&self.world, &members, &from, &to, asked.protocol, asked.port)
            .map_err(|why| Error::new(ErrorKind::NotFound, why).hint("`weft status` shows workloads"))?;
        let document = explain::document(&self.world, &packets);
        serde_json::to_string(&document).map_err(|e| Error::new(ErrorKind::Storage, e.to_string()))
    }

    fn reap_and_resync(&self) {
        self.reaper.send(crate::reaper::Retired::Resync).ok();
    }
}

/// The steps as changes: what is new, then what is obsolete.
pub(super) fn changes(diff: Diff) -> Vec<Change> {
    let mut changes = Vec::new();
    if !diff.install.is_empty() {
        changes.push(Change::InstallRules(diff.install));
    }
    if !diff.remove.is_empty() {
        changes.push(Change::RemoveRules(diff.remove));
    }
    changes
}

/// Waits until no packet is under way that has seen earlier rules. Rules are walked inside one RCU read-side section, and this
/// is `synchronize_rcu` (membarrier(2), `MEMBARRIER_CMD_GLOBAL`). Where the kernel has it not, nothing is lost but the wait.
fn settle() {
    if let Err(error) = membarrier(MembarrierCommand::Global) {
        tracing::debug!(%error, "the kernel cannot wait for packets under way");
    }
}
