//! BAR.md R7: calls to the kernel that are interrupted, and answers that are lost. Interrupted calls are resumed and
//! nobody sees it; what lost an answer is refused as a whole or made good, never left half applied.

#![allow(clippy::print_stdout, reason = "measured figures belong into the test's output")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use weft_model::Mode;
use weft_tests::host::{Net, REPAIR};
use weft_tests::{Agent, Host, programs, wait};

const NETWORKS: [Net<'static>; 2] = [
    ("routed", Mode::Routed, &["10.80.0.0/24", "fd80::/64"]),
    ("bridge", Mode::Bridge, &["10.81.0.0/24", "fd81::/64"]),
];
const COUNT: usize = 24;

/// Lets system calls of a process fail. Dropping it ends that.
struct Saboteur {
    strace: Child,
    log: PathBuf,
}

impl Saboteur {
    /// `what` is a list of `CALL:error=ERROR:when=FIRST+STEP`, counted for each thread by itself.
    fn attach(host: &Host, agent: &Agent, what: &[&str]) -> Result<Saboteur> {
        programs::require(&["strace"])?;
        let log = host.sandbox().path("/run/strace.log");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", "trace=recvfrom,sendto", "-o"]).arg(&log);
        for inject in what {
            command.args(["-e", &format!("inject={inject}")]);
        }
        command.args(["-p", &agent.pid().to_string()]).stderr(Stdio::null());
        Ok(Saboteur { strace: command.spawn().context("failed to start strace")?, log })
    }

    /// Ends it; returns how many calls have failed by it.
    fn end(mut self) -> Result<usize> {
        self.stop();
        let log = std::fs::read_to_string(&self.log)?;
        Ok(log.lines().filter(|line| line.ends_with("(INJECTED)")).count())
    }

    fn stop(&mut self) {
        // It detaches on SIGTERM; SIGKILL would leave the agent stopped.
        if let Some(pid) = i32::try_from(self.strace.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.strace.wait();
    }
}

impl Drop for Saboteur {
    fn drop(&mut self) {
        self.stop();
    }
}

fn network(at: usize) -> &'static str {
    if at.is_multiple_of(3) { "bridge" } else { "routed" }
}

/// Attaches and detaches while calls fail. Returns how many calls failed, and how many operations.
fn under(what: &[&str]) -> Result<(usize, usize)> {
    let (host, agent) = Host::with_networks(&NETWORKS)?;
    let names: Vec<String> = (0..COUNT).map(|n| format!("c{n}")).collect();
    host.namespaces(&names)?;
    let empty = host.dump()?;
    let saboteur = Saboteur::attach(&host, &agent, what)?;
    wait::until("the first failure", wait::LONG, || {
        let _ = host.status();
        ensure!(std::fs::read_to_string(&saboteur.log)?.contains("(INJECTED)"), "none yet");
        Ok(())
    })?;
    let mut refused = 0;
    for (at, name) in names.iter().enumerate() {
        refused += usize::from(host.attach(network(at), name).is_err());
    }
    for (at, name) in names.iter().enumerate().take(COUNT / 2) {
        refused += usize::from(host.detach(network(at), name).is_err());
    }
    let failed = saboteur.end()?;

    // Whoever is on record is whole, whoever is not has left nothing.
    let known: Vec<String> = host.status()?.workloads.iter().map(|w| w.id.container.to_string()).collect();
    for (at, name) in names.iter().enumerate().filter(|(_, name)| known.contains(name)) {
        wait::until("an attachment to be whole", REPAIR, || {
            let wrong = host.check(network(at), name)?;
            ensure!(wrong.is_empty(), "{name}: {wrong:?}");
            Ok(())
        })?;
        host.ping(name, if network(at) == "bridge" { "10.81.0.1" } else { "10.80.0.1" }.parse()?)?;
    }
    for (at, name) in names.iter().enumerate() {
        host.detach(network(at), name)?;
    }
    host.await_dump("nothing to be left", &empty, REPAIR)?;
    wait::until("health", REPAIR, || {
        let status = host.status()?;
        ensure!(status.health.is_empty() && status.workloads.is_empty(), "{:?}", status.health);
        Ok(())
    })?;
    ensure!(failed > COUNT, "only {failed} calls failed: that proves nothing");
    println!("{what:?}: {failed} calls failed, {refused} operations of {} were refused", COUNT + COUNT / 2);
    Ok((failed, refused))
}

#[test]
fn interrupted_calls_are_resumed() -> Result<()> {
    let (_, refused) = under(&["recvfrom:error=EINTR:when=1+3", "sendto:error=EINTR:when=2+3"])?;
    ensure!(refused == 0, "{refused} operations failed because a call was interrupted");
    Ok(())
}

#[test]
fn lost_answers_leave_nothing_half_applied() -> Result<()> {
    under(&["recvfrom:error=ENOBUFS:when=4+7"]).map(|_| ())
}

#[test]
fn requests_that_cannot_be_sent_leave_nothing_half_applied() -> Result<()> {
    under(&["sendto:error=ENOBUFS:when=4+7"]).map(|_| ())
}
