//! `weft lab`, as a person types it: a lab comes up, is broken and mended, and leaves nothing behind.

use std::process::Output;

use anyhow::{Context, Result, ensure};
use weft_tests::{Sandbox, programs, wait};

const WEFT: &str = "/opt/weft/weft";
const FOLDER: &str = "/run/weft-lab/lab";

/// A lab on a machine of its own.
struct Lab {
    machine: Sandbox,
}

impl Lab {
    fn new() -> Result<Self> {
        programs::require(&["ping", "busybox", "etcd"])?;
        let machine = Sandbox::new()?;
        machine.copy_in(&weft_tests::weft::programs_folder()?.join("weft"), WEFT)?;
        Ok(Lab { machine })
    }

    fn weft(&self, words: &[&str]) -> Result<Output> {
        Ok(self.machine.command(WEFT).arg("lab").args(words).output()?)
    }

    fn ok(&self, words: &[&str]) -> Result<String> {
        let output = self.weft(words)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{words:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        Ok(said)
    }

    fn reaches(&self, from: &str, to: &str) -> Result<()> {
        self.ok(&["exec", from, "--", "ping", "-c", "1", "-W", "1", to]).map(drop)
    }

    fn namespaces(&self) -> Result<Vec<String>> {
        let all = std::fs::read_dir(self.machine.path("/run/netns"))?;
        Ok(all.filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned())).collect())
    }

    /// After `down`, and the lab cannot be taken down twice.
    fn is_gone(&self) -> Result<()> {
        ensure!(self.namespaces()?.is_empty(), "{:?} are left", self.namespaces()?);
        ensure!(!self.machine.path(FOLDER).exists(), "the folder is left");
        let programs = "ps -e -o comm= | grep -E '^(weft|etcd|sleep)' || true";
        let left = self.machine.sh(programs)?;
        ensure!(left.trim().is_empty(), "programs are left: {left}");
        let again = self.weft(&["down"])?;
        ensure!(String::from_utf8_lossy(&again.stderr).contains("weft lab up"), "no hint");
        Ok(())
    }
}

/// The first address behind the colon of `NAME on HOST: 10…, fd…`.
fn address(said: &str) -> Result<String> {
    let addresses = said.trim().rsplit(": ").next().context("no addresses")?;
    Ok(addresses.split(", ").next().unwrap_or_default().to_owned())
}

#[test]
fn a_lab_from_up_to_down() -> Result<()> {
    let lab = Lab::new()?;
    let up = lab.ok(&["up", "--hosts", "3"])?;
    for row in ["host1  1", "host2  1", "host3  2"] {
        ensure!(up.contains(row), "{row} is not in\n{up}");
    }
    ensure!(up.contains("host2 direct, host3 vxlan"), "{up}");
    ensure!(!lab.weft(&["up"])?.status.success(), "a second lab was made in the place of the first");

    let web = address(&lab.ok(&["run", "host1", "web"])?)?;
    let near = address(&lab.ok(&["run", "host2", "near"])?)?;
    let far = address(&lab.ok(&["run", "host3", "far"])?)?;
    ensure!([&web, &near, &far] == ["10.101.0.2", "10.101.1.2", "10.101.2.2"], "{web} {near} {far}");
    for to in [&near, &far] {
        lab.reaches("web", to)?;
    }
    lab.reaches("far", &web)?;

    // Commands of weft itself speak to the host on which they are run.
    let explained = lab.ok(&["exec", "host1", "--", "weft", "explain", &web, &far])?;
    ensure!(explained.contains("192.0.2.11 to 203.0.113.13, UDP port 4789"), "{explained}");
    let nodes = lab.ok(&["exec", "host2", "--", "weft", "node", "ls"])?;
    ensure!(nodes.lines().filter(|l| l.contains(" alive ")).count() == 3, "{nodes}");
    let own = lab.ok(&["exec", "host1", "--", "weft", "ps"])?;
    ensure!(own.contains("lab-web") && !own.contains("lab-far"), "{own}");
    let status = lab.ok(&["exec", "host3", "--", "weft", "status"])?;
    ensure!(status.contains("host1  192.0.2.11"), "{status}");
    wait::until("the hosts to hear of each other", wait::LONG, || {
        let status = lab.ok(&["exec", "host3", "--", "weft", "status"])?;
        ensure!(!status.contains("never"), "{status}");
        Ok(())
    })?;

    lab.ok(&["cut", "host1", "host3"])?;
    ensure!(lab.reaches("web", &far).is_err(), "hosts that are cut off from each other hear each other");
    lab.reaches("near", &far)?;
    lab.ok(&["heal"])?;
    lab.reaches("web", &far)?;

    lab.ok(&["kill", "host2"])?;
    ensure!(lab.ok(&["status"])?.contains("gone"), "a lost host is not shown");
    ensure!(lab.reaches("web", &near).is_err(), "a workload of a lost host answers");
    lab.reaches("web", &far)?;
    lab.ok(&["heal"])?;
    wait::until("the lost host to come back", wait::LONG, || lab.reaches("web", &near))?;

    for (words, why) in [(["kill", "host9"], "there is no host 'host9'"), (["run", "host1"], "required")] {
        let output = lab.weft(&words)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains(why), "{words:?}: {said}");
    }
    ensure!(lab.namespaces()?.len() == 7, "{:?}", lab.namespaces()?);
    lab.ok(&["down"])?;
    lab.is_gone()
}

/// Without etcd: the lab writes a file that the agents follow.
#[test]
fn a_quick_lab() -> Result<()> {
    let lab = Lab::new()?;
    let up = lab.ok(&["up", "--hosts", "2", "--quick"])?;
    ensure!(up.contains("host2 vxlan"), "{up}");
    // More words are those of `weft run`, which says what it lacks.
    let rootless = lab.weft(&["run", "host2", "there", "--memory", "64m"])?;
    let said = String::from_utf8_lossy(&rootless.stderr).into_owned();
    ensure!(!rootless.status.success() && said.contains("neither an image nor --rootfs"), "{said}");
    lab.ok(&["run", "host1", "here"])?;
    let there = address(&lab.ok(&["run", "host2", "there"])?)?;
    lab.reaches("here", &there)?;
    lab.ok(&["kill", "host2"])?;
    ensure!(lab.reaches("here", &there).is_err(), "a container of a lost host answers");
    lab.ok(&["heal"])?;
    wait::until("the lost host to come back", wait::LONG, || lab.reaches("here", &there))?;
    lab.ok(&["down"])?;
    lab.is_gone()
}
