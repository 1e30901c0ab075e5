//! `weft lab`, as a person types it: a lab comes up, is broken and mended, and leaves nothing behind.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use weft_tests::scene::program;
use weft_tests::{programs, wait};

/// A lab with a name of its own; dropping it takes it down.
struct Lab {
    folder: String,
}

impl Lab {
    fn new() -> Self {
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 7);
        Lab { folder: format!("/tmp/weft-test-{random:016x}/l{:08x}", random >> 32) }
    }

    fn name(&self) -> &str {
        self.folder.rsplit('/').next().unwrap_or_default()
    }

    fn weft(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(program()?);
        Ok(command.args(["lab", "--folder", &self.folder]).args(words).output()?)
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
        let all = std::fs::read_dir("/run/netns")?
            .filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned()));
        Ok(all.filter(|n| n.starts_with(self.name())).collect())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.weft(&["down"]);
        if let Some(parent) = Path::new(&self.folder).parent() {
            let _ = std::fs::remove_dir_all(parent);
        }
    }
}

/// The first address behind the colon of `NAME on HOST: 10…, fd…`.
fn address(said: &str) -> Result<String> {
    let addresses = said.trim().rsplit(": ").next().context("no addresses")?;
    Ok(addresses.split(", ").next().unwrap_or_default().to_owned())
}

#[test]
fn a_lab_from_up_to_down() -> Result<()> {
    programs::require(&["ping"])?;
    let lab = Lab::new();
    let up = lab.ok(&["up", "--hosts", "3"])?;
    for row in ["host1  1", "host2  1", "host3  2"] {
        ensure!(up.contains(row), "{row} is not in\n{up}");
    }
    ensure!(up.contains("host2 direct, host3 vxlan"), "{up}");
    ensure!(!lab.weft(&["up"])?.status.success(), "a second lab was made in the place of the first");

    let web = address(&lab.ok(&["run", "host1", "web"])?)?;
    let near = address(&lab.ok(&["run", "host2", "near"])?)?;
    let far = address(&lab.ok(&["run", "host3", "far"])?)?;
    for to in [&near, &far] {
        lab.reaches("web", to)?;
    }
    lab.reaches("far", &web)?;

    // Commands of weft itself speak to the host on which they are run.
    let explained = lab.ok(&["exec", "host1", "--", "weft", "explain", &web, &far])?;
    ensure!(explained.contains("VXLAN 101, 192.0.2.11 to 203.0.113.13"), "{explained}");
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
    ensure!(lab.namespaces()?.is_empty(), "{:?} are left", lab.namespaces()?);
    ensure!(!Path::new(&lab.folder).exists(), "the folder is left");
    let again = lab.weft(&["down"])?;
    ensure!(String::from_utf8_lossy(&again.stderr).contains("weft lab up"), "no hint");
    Ok(())
}
