//! Containers of `weft run` as a person uses them, and what is left when they are over: nothing.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use weft_tests::containers::Containers;
use weft_tests::images::BUSYBOX;
use weft_tests::{programs, wait};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

#[test]
fn a_container_from_its_birth_to_its_end() -> Result<()> {
    let c = Containers::new()?;
    // Exit codes as of a shell, and of Docker where there is no program.
    for (script, code) in [("true", 0), ("exit 7", 7), ("kill -9 $$; exec sleep 5", 0), ("exit 255", 255)] {
        let (ended, said) = c.inside(&["--network", "none"], script)?;
        // The first process does not hear a KILL from inside (pid_namespaces(7)).
        ensure!(ended == code || script.starts_with("kill"), "{script}: {ended} {said}");
    }
    let run = |command: &[&str]| c.weft(&[&["run", "--rm", "--network", "none", BUSYBOX], command].concat());
    for (command, code, words) in [
        (&["nope"][..], 127, "cannot execute 'nope': no such program in"),
        (&["/nope"], 127, "cannot execute '/nope': no such file"),
        (&["/etc/passwd"], 126, "permission denied"),
        (&["/etc"], 126, "cannot execute '/etc'"),
    ] {
        let output = run(command)?;
        let said = text(&output.stderr);
        ensure!(
            output.status.code() == Some(code) && said.contains(words),
            "{command:?}: {} {said}",
            output.status
        );
    }
    let both = run(&["sh", "-c", "echo out; echo err >&2"])?;
    ensure!((text(&both.stdout), text(&both.stderr)) == ("out".into(), "err".into()), "{both:?}");
    // Standard input.
    let mut command = c.host.sandbox().command("/opt/weft/weft");
    command.args(["run", "-i", "--rm", "--network", "none", BUSYBOX, "busybox", "wc", "-c"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    child.stdin.take().context("no input")?.write_all(&vec![b'x'; 300_000])?;
    ensure!(text(&child.wait_with_output()?.stdout) == "300000", "input was lost");
    // A megabyte of output.
    let long = run(&["busybox", "head", "-c", "1000000", "/dev/zero"])?;
    ensure!(long.stdout.len() == 1_000_000, "{} bytes", long.stdout.len());
    c.clean()
}

#[test]
fn what_is_asked_for_is_what_it_is() -> Result<()> {
    let c = Containers::new()?;
    c.host.sh("mkdir -p /run/data; echo from-host >/run/data/file; ln -s /etc /run/data/link")?;
    let says = |options: &[&str], script: &str, words: &str| -> Result<()> {
        let (code, said) = c.inside(options, script)?;
        ensure!(code == 0 && said.contains(words), "{options:?} {script}: {code} {said}");
        Ok(())
    };
    says(&["--hostname", "other"], "hostname; cat /etc/hostname", "other\nother")?;
    says(&["-e", "A=b c", "-w", "/made/here"], "echo $A; pwd", "b c\n/made/here")?;
    says(&["--user", "1000:50"], "id -u; id -g; busybox touch /x 2>&1 || echo no", "1000\n50\n")?;
    says(&["-v", "/run/data:/data"], "cat /data/file; echo new >/data/new && echo done", "from-host\ndone")?;
    ensure!(c.host.sh("cat /run/data/new")?.trim() == "new", "the volume was not written through");
    says(&["-v", "/run/data:/data:ro"], "echo x >/data/x || echo refused", "refused")?;
    says(
        &["--read-only"],
        "echo x >/x || echo refused; echo y >/dev/shm/y && echo written",
        "refused\nwritten",
    )?;
    says(&["--cap-drop", "all"], "grep CapEff /proc/self/status", "0000000000000000")?;
    says(&["--cap-add", "net_admin"], "ip link set lo down && echo done", "done")?;
    says(&[], "ip link set lo down 2>&1 || echo refused", "refused")?;
    // A symbolic link in the image is the image's own affair, and one on the host is followed once, at the door.
    says(&["-v", "/run/data/link:/mnt"], "busybox test -f /mnt/passwd && echo real", "real")?;
    for (options, words) in [
        (&["-v", "/run/none:/x"][..], "make it first"),
        (&["-v", "/run/data:/proc/x"], "kernel's own file systems"),
        (&["--user", "nobody-here"], "there is no user 'nobody-here'"),
        (&["--network", "nowhere"], "nowhere"),
        (&["--network", "none", "--ip", "10.77.0.9"], "--network none"),
    ] {
        let (code, said) = c.inside(options, "true")?;
        ensure!([125, 2].contains(&code) && said.contains(words), "{options:?}: {code} {said}");
    }
    c.clean()
}

#[test]
fn a_terminal_is_a_terminal() -> Result<()> {
    programs::require(&["script"])?;
    let c = Containers::new()?;
    let inner = "tty; busybox stty size; test -t 0 && echo terminal; ls /dev/console";
    for users in ["host", "auto"] {
        let run =
            format!("/opt/weft/weft run -it --rm --network none --userns {users} {BUSYBOX} sh -c '{inner}'");
        let said =
            c.host.sh(&format!("script -qec \"stty rows 33 cols 111; {run}\" /dev/null </dev/null"))?;
        for words in ["/dev/pts/0", "33 111", "terminal", "/dev/console"] {
            ensure!(said.contains(words), "--userns {users}: no '{words}' in {said}");
        }
    }
    c.clean()
}

#[test]
fn in_the_background() -> Result<()> {
    let c = Containers::new()?;
    let script = "echo out; echo err >&2; trap 'echo bye; exit 3' TERM; while :; do sleep 0.1; done";
    ensure!(
        c.ok(&["run", "-d", "--name", "web", "-l", "app=web", BUSYBOX, "sh", "-c", script])?.trim() == "web",
        "its name"
    );
    ensure!(c.ok(&["ps", "-q"])?.trim() == "web", "it is listed");
    ensure!(c.host.sh("ip netns list")?.contains("web"), "its namespace has its name");
    wait::until("its output", wait::LONG, || {
        let output = c.weft(&["logs", "web"])?;
        ensure!((text(&output.stdout), text(&output.stderr)) == ("out".into(), "err".into()), "{output:?}");
        Ok(())
    })?;
    let again = c.weft(&["run", "-d", "--name", "web", BUSYBOX, "true"])?;
    ensure!(text(&again.stderr).contains("there is a container 'web' already"), "{}", text(&again.stderr));
    let inside = c.weft(&["exec", "-e", "X=y", "web", "sh", "-c", "echo $X; hostname; exit 9"])?;
    ensure!(inside.status.code() == Some(9) && text(&inside.stdout) == "y\nweb", "{inside:?}");
    ensure!(c.weft(&["exec", "web", "nope"])?.status.code() == Some(127), "no such program");
    let busy = c.weft(&["rm", "web"])?;
    ensure!(text(&busy.stderr).contains("runs"), "{}", text(&busy.stderr));
    c.ok(&["stop", "web"])?;
    ensure!(c.inspect("web")?["end"]["code"] == 3, "it ended by itself: {}", c.inspect("web")?);
    ensure!(c.ok(&["logs", "--tail", "1", "web"])?.trim() == "bye", "its last word");
    ensure!(c.ok(&["wait", "web"])?.trim() == "3", "its exit code");
    ensure!(!c.attached("web")? && c.ok(&["ps", "-q"])?.is_empty(), "it is over");
    c.ok(&["rm", "web"])?;
    // It starts again, and stops when it is told to.
    c.ok(&[
        "run",
        "-d",
        "--name",
        "again",
        "--restart",
        "on-failure:2",
        "--network",
        "none",
        BUSYBOX,
        "sh",
        "-c",
        "exit 1",
    ])?;
    c.ok(&["wait", "again"])?;
    ensure!(c.inspect("again")?["end"]["restarts"] == 2, "{}", c.inspect("again")?);
    c.ok(&["run", "-d", "--name", "always", "--restart", "always", "--network", "none", BUSYBOX, "true"])?;
    wait::until("a restart", wait::LONG, || {
        ensure!(c.inspect("always")?["live"]["restarts"].as_u64() > Some(1), "none yet");
        Ok(())
    })?;
    c.ok(&["stop", "always"])?;
    c.ok(&["rm", "again", "always"])?;
    c.clean()
}

#[test]
fn on_a_network() -> Result<()> {
    let mut c = Containers::new()?;
    let serve = "mkdir -p /www; hostname >/www/index.html; exec busybox httpd -f -h /www";
    c.ok(&["run", "-d", "--name", "one", "--ip", "10.77.0.50", BUSYBOX, "sh", "-c", serve])?;
    c.ok(&["run", "-d", "--name", "two", BUSYBOX, "sh", "-c", serve])?;
    ensure!(c.ok(&["status"])?.contains("one"), "status has names");
    ensure!(c.attached("one")? && c.attached("two")?, "the agent has both");
    let fetch = |c: &Containers, from: &str, url: &str| {
        c.ok(&["exec", from, "busybox", "timeout", "5", "wget", "-q", "-O", "-", url])
    };
    wait::until("a page", wait::LONG, || {
        ensure!(fetch(&c, "two", "http://10.77.0.50/")?.trim() == "one", "another page");
        Ok(())
    })?;
    ensure!(c.ok(&["exec", "one", "cat", "/etc/hosts"])?.contains("10.77.0.50\tone"), "it knows itself");
    // Another in the same namespace.
    let shared =
        ["run", "--rm", "--network", "container:one", BUSYBOX, "wget", "-q", "-O", "-", "http://127.0.0.1/"];
    ensure!(c.ok(&shared)?.trim() == "one", "it shares");
    let host = c.ok(&["run", "--rm", "--network", "host", BUSYBOX, "ls", "/sys/class/net"])?;
    ensure!(host.contains("weft-default"), "the host's links: {host}");
    let none = c.ok(&["run", "--rm", "--network", "none", BUSYBOX, "ip", "-o", "addr"])?;
    ensure!(none.contains("127.0.0.1") && !none.contains("eth0"), "{none}");
    // The agent may go: they live, and one of them ends meanwhile.
    c.agent.take().context("no agent")?.kill();
    ensure!(fetch(&c, "two", "http://10.77.0.50/")?.trim() == "one", "without an agent");
    c.ok(&["rm", "-f", "two"])?;
    ensure!(c.host.sh("ls /run/weft/journal")?.contains("default@two@eth0"), "word was left");
    let refused = c.weft(&["run", "--rm", BUSYBOX, "true"])?;
    ensure!(refused.status.code() == Some(125), "{refused:?}");
    ensure!(text(&refused.stderr).contains("agent is not running"), "{}", text(&refused.stderr));
    c.agent = Some(c.host.start(&[])?);
    wait::until("the agent to know", wait::LONG, || {
        ensure!(!c.attached("two")? && c.attached("one")?, "not yet");
        Ok(())
    })?;
    c.ok(&["rm", "-f", "one"])?;
    c.clean()
}

#[test]
fn what_it_would_do_is_printed_and_not_done() -> Result<()> {
    let c = Containers::new()?;
    let options =
        ["--explain", "--name", "box", "--memory", "64m", "-v", "/run:/mnt:ro", "--user", "7", "-e", "A=b c"];
    let script = c.ok(&[&["run"], &options[..], &[BUSYBOX, "sh", "-c", "echo it's"]].concat())?;
    for line in [
        "mount -t overlay weft -o lowerdir=/var/lib/weft/images/layers/",
        "ip netns add box",
        "10.77.0.",
        "67108864",
        "nsenter --net=/run/netns/box unshare --mount --pid --uts --ipc --cgroup --fork",
        "mount --rbind /run mnt",
        "mount -o remount,bind,ro mnt",
        "pivot_root . old",
        "--reuid=7",
        "'A=b c' ",
        "sh -c 'echo it'\\''s'",
    ] {
        ensure!(script.contains(line), "no '{line}' in:\n{script}");
    }
    c.host.sandbox().write("/run/script", &script)?;
    c.host.sh("sh -n /run/script")?;
    c.clean()
}

#[test]
fn a_hundred_at_once() -> Result<()> {
    let c = Containers::new()?;
    let name = |n: usize| format!("crowd-{n}");
    let run =
        |n: usize| c.weft(&["run", "--rm", "--name", &name(n), BUSYBOX, "ip", "addr", "show", "dev", "eth0"]);
    let run = &run;
    let failed: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..100).map(|n| scope.spawn(move || run(n))).collect();
        let ended = threads.into_iter().map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
        let said = ended.filter_map(|output| match output {
            Ok(output) if output.status.success() && text(&output.stdout).contains("inet 10.77.") => None,
            other => Some(format!("{other:?}")),
        });
        said.collect()
    });
    ensure!(failed.is_empty(), "{} of 100 failed:\n{}", failed.len(), failed.join("\n"));
    c.clean()
}
