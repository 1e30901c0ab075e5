//! What a container must not be able to do, tried from inside; and what must not be left when something is killed.

use std::fs;

use anyhow::{Context, Result, ensure};
use weft_tests::containers::Containers;
use weft_tests::images::BUSYBOX;
use weft_tests::wait;
use weft_tests::weft::programs_folder;

const QUIET: [&str; 2] = ["--network", "none"];

/// Runs what must be refused, or shows nothing.
fn refused(c: &Containers, script: &str, words: &str) -> Result<()> {
    let (code, said) = c.inside(&QUIET, script)?;
    // busybox has words of its own for "not permitted".
    let said = said.to_lowercase().replace("permission denied (are you root?)", "not permitted");
    ensure!(said.contains(words), "{script}: {code} {said}");
    Ok(())
}

#[test]
fn a_container_is_shut_in() -> Result<()> {
    let c = Containers::new()?;
    // Processes of the host: neither seen nor signalled.
    let (_, seen) = c.inside(&QUIET, "cd /proc; echo [0-9]*")?;
    ensure!(seen.trim() == "1", "it sees the processes {seen}");
    let victim = c.host.sh("sleep 300 >/dev/null 2>&1 & echo $!")?;
    refused(&c, &format!("kill -9 {} 2>&1", victim.trim()), "no such process")?;
    c.host.sh(&format!("kill -0 {0} && kill {0}", victim.trim()))?;
    // Mounts, namespaces, devices, the kernel's settings.
    for (script, words) in [
        ("busybox mount -t tmpfs tmpfs /tmp 2>&1", "not permitted"),
        ("busybox mount -o remount,rw /proc/sys 2>&1", "not permitted"),
        ("busybox umount /proc/sys 2>&1", "not permitted"),
        ("busybox unshare -U true 2>&1", "not permitted"),
        ("busybox unshare -m true 2>&1", "not permitted"),
        ("busybox nsenter -t 1 -n true 2>&1", "not permitted"),
        ("busybox mknod /dev/disk b 8 0; busybox dd if=/dev/disk of=/dev/null count=1 2>&1", "not permitted"),
        ("busybox mknod /dev/mem c 1 1; busybox dd if=/dev/mem of=/dev/null count=1 2>&1", "not permitted"),
        ("echo 1 2>&1 >/proc/sys/kernel/panic", "read-only"),
        ("echo b 2>&1 >/proc/sysrq-trigger", "can't create"),
        ("echo 1 2>&1 >/sys/kernel/mm/ksm/run", "can't create"),
        ("busybox hostname other 2>&1", "not permitted"),
        ("busybox chroot / busybox date -s 2000-01-01 2>&1", "not permitted"),
        ("busybox dmesg 2>&1", "not permitted"),
        ("busybox wc -c /proc/kcore /proc/keys /proc/timer_list 2>&1", "0 total"),
        ("busybox ls /run/weft /run/weft/agent.sock 2>&1", "no such file"),
        (
            "grep -E 'Seccomp:|CapEff|CapInh' /proc/self/status | busybox tr '\\n\\t' '  '",
            "capeff: 00000000a80425fb",
        ),
        ("grep Seccomp: /proc/self/status", "2"),
    ] {
        refused(&c, script, words)?;
    }
    // Nothing of the host's is open in it but its own three.
    let (_, open) = c.inside(&QUIET, "ls -l /proc/1/fd")?;
    ensure!(!open.contains("/var") && !open.contains("/run") && !open.contains("socket"), "open: {open}");
    c.clean()
}

#[test]
fn calls_that_reach_the_kernel_are_refused() -> Result<()> {
    // The host's own files below: perl can make any call by its number.
    let c = Containers::new()?;
    let calls: &[(&str, u32, i32)] = if cfg!(target_arch = "x86_64") {
        &[
            ("bpf", 321, 1),
            ("keyctl", 250, 1),
            ("io_uring_setup", 425, 1),
            ("clone3", 435, 38),
            ("open_tree", 428, 1),
        ]
    } else {
        &[
            ("bpf", 280, 1),
            ("keyctl", 219, 1),
            ("io_uring_setup", 425, 1),
            ("clone3", 435, 38),
            ("open_tree", 428, 1),
        ]
    };
    for (name, number, errno) in calls {
        let script = format!("syscall({number}, 0, 0, 0); print $!+0");
        let args = ["run", "--rm", "--network", "none", "--rootfs", "/", "perl", "-e", &script];
        let said = c.ok(&args)?;
        ensure!(said == errno.to_string(), "{name} gave error {said} and not {errno}");
    }
    c.clean()
}

#[test]
fn the_program_of_the_host_cannot_be_overwritten() -> Result<()> {
    // CVE-2019-5736: whoever enters a container is seen there as /proc/PID/exe for a moment.
    let c = Containers::new()?;
    let attack = "while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || { \
                  echo owned 2>/dev/null >$p/exe && echo opened >>/hit; }; done; done";
    c.ok(&["run", "-d", "--name", "trap", "--network", "none", BUSYBOX, "sh", "-c", attack])?;
    for _ in 0..30 {
        c.ok(&["exec", "trap", "true"])?;
    }
    // An entry point that is the runner itself.
    c.weft(&["run", "--rm", "--network", "none", BUSYBOX, "/proc/self/exe", "version"])?;
    c.ok(&["rm", "-f", "trap"])?;
    let before = fs::read(programs_folder()?.join("weft"))?;
    let after = fs::read(c.host.sandbox().path("/opt/weft/weft"))?;
    ensure!(before == after, "the program was changed");
    c.clean()
}

#[test]
fn a_shim_that_is_killed() -> Result<()> {
    let c = Containers::new()?;
    for (name, keep) in [("kept", true), ("gone", false)] {
        let mut run = vec!["run", "-d", "--name", name];
        if !keep {
            run.push("--rm");
        }
        c.ok(&[&run[..], &[BUSYBOX, "sleep", "300"]].concat())?;
    }
    let pids = |name: &str| -> Result<(i64, i64)> {
        let live = c.inspect(name)?["live"].clone();
        Ok((live["shim"].as_i64().context("no shim")?, live["pid"].as_i64().context("no process")?))
    };
    let (kept, gone) = (pids("kept")?, pids("gone")?);
    c.host.sh(&format!("kill -9 {} {}", kept.0, gone.0))?;
    wait::until("the processes to follow their shims", wait::LONG, || {
        let alive = c.host.sh(&format!("kill -0 {} 2>&1 || kill -0 {} 2>&1 || echo none", kept.1, gone.1))?;
        ensure!(alive.contains("none"), "still there");
        Ok(())
    })?;
    // The next command, whatever it is, takes down what is left.
    let shown = c.ok(&["ps", "-a"])?;
    ensure!(
        shown.contains("kept") && shown.contains("its shim was killed") && !shown.contains("gone"),
        "{shown}"
    );
    ensure!(!c.attached("kept")? && !c.attached("gone")?, "they are still connected");
    ensure!(!c.host.sh("ip netns list")?.contains("kept"), "its namespace is left");
    c.ok(&["rm", "kept"])?;
    c.clean()
}

#[test]
fn a_host_that_was_restarted_with_containers_half_made() -> Result<()> {
    let c = Containers::new()?;
    // As an older boot left them: one that ran, one to be removed, one of which only the folder is there.
    c.ok(&["run", "--name", "model", "--network", "none", BUSYBOX, "true"])?;
    c.host.sh(
        "cd /var/lib/weft/containers
         for n in ran once; do
             mkdir -p $n/upper $n/work /run/weft/containers/$n
             sed \"s/\\\"name\\\":\\\"model\\\"/\\\"name\\\":\\\"$n\\\"/\" model/spec.json >$n/spec.json
             echo kept >$n/upper/file
         done
         sed -i 's/\"remove\":false/\"remove\":true/' once/spec.json
         mkdir .new-half-77 broken; echo '{' >broken/spec.json
         echo '{\"boot\":\"older\",\"phase\":\"running\",\"shim\":1,\"pid\":1,\"started\":1,\"restarts\":0,\"group\":{\"unified\":null},\
\"netns\":\"/run/netns/ran\",\"addresses\":[],\"root\":{\"lowerdirs\":[],\"upperdir\":\"\",\"workdir\":\"\",\"merged\":\"\"}}' >/run/weft/containers/ran/live.json",
    )?;
    let shown = c.ok(&["ps", "-a"])?;
    ensure!(shown.contains("ran") && shown.contains("the host was restarted"), "{shown}");
    ensure!(!shown.contains("once") && !shown.contains("broken"), "{shown}");
    let folders = c.host.sh("ls -A /var/lib/weft/containers; ls -A /run/weft/containers")?;
    ensure!(folders.split_whitespace().eq(["model", "ran"]), "{folders}");
    ensure!(
        c.host.sh("cat /var/lib/weft/containers/ran/upper/file")?.trim() == "kept",
        "what it wrote is kept"
    );
    c.ok(&["rm", "ran", "model"])?;
    c.clean()
}

#[test]
fn after_a_boot_those_start_that_are_to() -> Result<()> {
    let c = Containers::new()?;
    let once = "echo run >>/count; exec sleep 300";
    for (name, policy) in
        [("always", "always"), ("mine", "unless-stopped"), ("halted", "unless-stopped"), ("plain", "no")]
    {
        c.ok(&[
            "run",
            "-d",
            "--name",
            name,
            "--stop-signal",
            "KILL",
            "--restart",
            policy,
            "--network",
            "none",
            BUSYBOX,
            "sh",
            "-c",
            once,
        ])?;
    }
    // The host goes down: two are stopped by hand before, the others by whoever ends all processes.
    c.ok(&["stop", "-t", "0", "halted", "plain"])?;
    for name in ["always", "mine"] {
        let shim = c.inspect(name)?["live"]["shim"].as_i64().context("no shim")?;
        c.host.sh(&format!("kill {shim}; while kill -0 {shim} 2>/dev/null; do sleep 0.05; done"))?;
        ensure!(c.inspect(name)?["end"]["stopped"] == false, "{}", c.inspect(name)?);
    }
    ensure!(c.inspect("halted")?["end"]["stopped"] == true, "{}", c.inspect("halted")?);
    // In the same boot nothing is started that is over.
    ensure!(c.ok(&["start", "--after-boot"])?.is_empty(), "something was started");
    c.host.sh("sed -i 's/\"boot\":\"[^\"]*\"/\"boot\":\"older\"/' /var/lib/weft/containers/*/end.json")?;
    let started = c.ok(&["start", "--after-boot"])?;
    ensure!(started.split_whitespace().eq(["always", "mine"]), "{started}");
    ensure!(c.ok(&["start", "--after-boot"])?.is_empty(), "they were started twice");
    // With what they had written; by hand the others do, too.
    ensure!(c.ok(&["exec", "always", "cat", "/count"])? == "run\nrun\n", "it began anew");
    c.ok(&["start", "plain"])?;
    ensure!(c.ok(&["exec", "plain", "cat", "/count"])? == "run\nrun\n", "it began anew");
    let again = c.weft(&["start", "plain"])?;
    ensure!(String::from_utf8_lossy(&again.stderr).contains("'plain' runs"), "{again:?}");
    // One that cannot be made keeps what it wrote, and says why.
    c.host.sh("ip netns add halted")?;
    let refused = c.weft(&["start", "halted"])?;
    ensure!(String::from_utf8_lossy(&refused.stderr).contains("network namespace 'halted'"), "{refused:?}");
    let said = c.inspect("halted")?;
    ensure!(said["end"]["error"].as_str().is_some_and(|e| e.contains("'halted'")), "{said}");
    c.host.sh("ip netns delete halted; cat /var/lib/weft/containers/halted/upper/count")?;
    c.ok(&["rm", "-f", "always", "mine", "halted", "plain"])?;
    c.clean()
}

#[test]
fn a_root_that_is_busy() -> Result<()> {
    let c = Containers::new()?;
    c.ok(&["run", "-d", "--rm", "--name", "busy", "--network", "none", BUSYBOX, "sleep", "300"])?;
    let merged = c.inspect("busy")?["live"]["root"]["merged"].as_str().context("no root")?.to_owned();
    let holder =
        c.host.sh(&format!("cd {merged}; ls bin/busybox >/dev/null; sleep 300 >/dev/null 2>&1 & echo $!"))?;
    c.ok(&["rm", "-f", "busy"])?;
    c.clean()?;
    c.host.sh(&format!("kill {}", holder.trim()))?;
    Ok(())
}
