//! Limits of containers, each met by something that goes beyond it.

#![allow(clippy::print_stdout, reason = "measured figures belong into the test's output")]

use anyhow::{Context, Result, ensure};
use weft_tests::containers::Containers;
use weft_tests::images::BUSYBOX;

#[test]
fn a_fork_bomb_ends_at_its_limit() -> Result<()> {
    let c = Containers::new()?;
    // The shell and one more: the second child of the same moment is refused.
    let bomb = "sleep 2 & sleep 2 & sleep 2; wait; echo survived";
    let (_, said) = c.inside(&["--pids", "2", "--network", "none"], bomb)?;
    ensure!(said.contains("can't fork"), "nothing was refused: {said}");
    let (code, said) = c.inside(&["--pids", "20", "--network", "none"], bomb)?;
    ensure!(code == 0 && said.trim() == "survived", "with room it works: {said}");
    c.clean()
}

#[test]
fn a_memory_hog_is_killed_and_reported() -> Result<()> {
    let c = Containers::new()?;
    let hog = "x=x; while :; do x=$x$x; done";
    let run = ["run", "--name", "hog", "--memory", "32m", "--network", "none", BUSYBOX, "sh", "-c", hog];
    let output = c.weft(&run)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(137), "{} {said}", output.status);
    ensure!(said.contains("beyond its memory"), "{said}");
    ensure!(c.inspect("hog")?["end"]["oom"] == true, "{}", c.inspect("hog")?);
    ensure!(c.ok(&["ps", "-a"])?.contains("OOM"), "{}", c.ok(&["ps", "-a"])?);
    c.ok(&["rm", "hog"])?;
    let modest = c.inside(&["--memory", "32m", "--network", "none"], "echo enough")?;
    ensure!(modest == (0, "enough\n".to_owned()), "{modest:?}");
    c.clean()
}

#[test]
fn a_share_of_a_processor_is_kept() -> Result<()> {
    let c = Containers::new()?;
    c.ok(&[
        "run",
        "-d",
        "--name",
        "busy",
        "--cpus",
        "0.2",
        "--network",
        "none",
        BUSYBOX,
        "sh",
        "-c",
        "while :; do :; done",
    ])?;
    let used = |c: &Containers| -> Result<f64> {
        let pid = c.inspect("busy")?["live"]["pid"].as_i64().context("no process")?;
        let stat = c.host.sh(&format!("cut -d' ' -f14,15 /proc/{pid}/stat"))?;
        let ticks: Vec<f64> = stat.split_whitespace().filter_map(|t| t.parse().ok()).collect();
        Ok(ticks.iter().sum::<f64>() / 100.0)
    };
    let (before, clock) = (used(&c)?, std::time::Instant::now());
    std::thread::sleep(std::time::Duration::from_secs(3));
    let (used, passed) = (used(&c)? - before, clock.elapsed().as_secs_f64());
    let share = used / passed;
    println!("computing time {used:.2} s in {passed:.2} s: {share:.3} of a processor, 0.2 allowed");
    // Downwards a busy machine may give less; upwards a period of 100 ms at most comes on top.
    ensure!(share > 0.0 && used <= 0.2 * passed + 0.15, "{share:.3} of a processor");
    c.ok(&["rm", "-f", "busy"])?;
    c.clean()
}

#[test]
fn inspect_shows_where_the_limits_are() -> Result<()> {
    let c = Containers::new()?;
    let limits = ["--memory", "64m", "--cpus", "0.5", "--pids", "7"];
    let command = [BUSYBOX, "sleep", "60"];
    c.ok(&[&["run", "-d", "--name", "kept", "--network", "none"], &limits[..], &command[..]].concat())?;
    let groups = c.inspect("kept")?["cgroups"].clone();
    let groups: Vec<(String, String)> = serde_json::from_value(groups)?;
    ensure!(!groups.is_empty(), "no cgroup");
    let value = |names: &[&str]| -> Result<String> {
        let files = groups.iter().flat_map(|(_, folder)| names.iter().map(move |n| format!("{folder}/{n}")));
        let files: Vec<String> = files.collect();
        c.host.sh(&format!("for f in {}; do if [ -e $f ]; then cat $f; fi; done", files.join(" ")))
    };
    ensure!(value(&["memory.max", "memory.limit_in_bytes"])?.trim() == "67108864", "memory");
    ensure!(value(&["pids.max"])?.trim() == "7", "processes");
    ensure!(value(&["cpu.max", "cpu.cfs_quota_us"])?.starts_with("50000"), "computing time");
    let all = c.ok(&["inspect", "kept"])?;
    for word in ["cgroup", "lowerdir", "upperdir", "merged", "/run/netns/kept"] {
        ensure!(all.contains(word), "no '{word}' in\n{all}");
    }
    c.ok(&["rm", "-f", "kept"])?;
    c.clean()
}
