//! User namespaces: root of a container is nobody on the host, and all that a container needs works all the same.

use anyhow::{Context, Result, ensure};
use weft_tests::containers::Containers;
use weft_tests::images::BUSYBOX;
use weft_tests::wait;

const OWN: [&str; 4] = ["--userns", "300000:65536", "--network", "none"];

/// Runs a script in a container with users of its own; what it wrote.
fn says(c: &Containers, options: &[&str], script: &str) -> Result<String> {
    let (code, said) = c.inside(&[&OWN[..], options].concat(), script)?;
    ensure!(code == 0, "{options:?} {script}: {code} {said}");
    Ok(said.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[test]
fn root_inside_is_nobody_outside() -> Result<()> {
    let c = Containers::new()?;
    ensure!(
        says(&c, &[], "cat /proc/self/uid_map /proc/self/gid_map")? == "0 300000 65536 0 300000 65536",
        "maps"
    );
    // Its own files are root's, in an image, in what it writes, and in /dev.
    let owners = "echo x >/new; busybox stat -c %u:%g / /bin/busybox /new /etc/hosts /dev /dev/shm /dev/null";
    ensure!(says(&c, &[], owners)? == ["0:0"; 7].join(" "), "{}", says(&c, &[], owners)?);
    let user = "busybox id -u; busybox id -g; grep CapEff /proc/self/status; echo heard >/dev/stdout";
    ensure!(
        says(&c, &["--user", "1000:50"], user)? == "1000 50 CapEff: 0000000000000000 heard",
        "{}",
        says(&c, &["--user", "1000:50"], user)?
    );
    // A folder of the host as its root, and only a few users.
    c.host.sh(
        "mkdir -p /run/plain/bin; cp $(command -v busybox) /run/plain/bin/; chmod 700 /run/plain/bin/busybox",
    )?;
    let plain = ["run", "--rm", "--userns", "300000:10", "--network", "none", "--rootfs", "/run/plain"];
    let made = "busybox touch /made; busybox stat -c %u /made /bin/busybox";
    let said = c.ok(&[&plain[..], &["/bin/busybox", "sh", "-c", made]].concat())?;
    ensure!(said == "0\n0\n", "{said}");
    let beyond = c.weft(&[&plain[..], &["--user", "10", "/bin/busybox", "true"]].concat())?;
    let words = String::from_utf8_lossy(&beyond.stderr).into_owned();
    ensure!(beyond.status.code() != Some(0), "{words}");
    for (options, words) in [
        (&["--userns", "0:100"][..], "root outside"),
        (&["--userns", "5:5", "--user", "7"], "beyond the numbers"),
        (&["--userns", "auto", "--network", "container:web"], "no rights over the network"),
    ] {
        let (code, said) = c.inside(options, "true")?;
        ensure!(code != 0 && said.contains(words), "{options:?}: {code} {said}");
    }
    // On the host its processes are nobody's.
    c.ok(&[&["run", "-d", "--name", "own"], &OWN[..], &[BUSYBOX, "sleep", "300"]].concat())?;
    let pid = c.inspect("own")?["live"]["pid"].as_i64().context("no process")?;
    let seen = c.host.sh(&format!(
        "grep -E '^(Uid|Gid):' /proc/{pid}/status; readlink /proc/{pid}/ns/user /proc/self/ns/user"
    ))?;
    ensure!(seen.matches("300000").count() == 8, "{seen}");
    let spaces: Vec<&str> = seen.lines().filter(|line| line.starts_with("user:")).collect();
    ensure!(spaces.len() == 2 && spaces[0] != spaces[1], "{seen}");
    ensure!(c.ok(&["inspect", "own"])?.contains("300000:65536"), "inspect does not show its users");
    // Another command joins, also as another user.
    let joined = [
        "exec",
        "own",
        "sh",
        "-c",
        "cat /proc/self/uid_map; readlink /proc/self/ns/user; echo y >/y && ls -n /y",
    ];
    let joined = c.ok(&joined)?;
    ensure!(joined.contains("300000") && joined.contains(spaces[0]) && joined.contains(" 0 "), "{joined}");
    ensure!(c.ok(&["exec", "-u", "1000", "own", "busybox", "id", "-u"])?.trim() == "1000", "another user");
    // What it wrote lies on the disk as root's, and can be removed.
    ensure!(
        c.host.sh("stat -c %u /var/lib/weft/containers/own/upper/y")?.trim() == "0",
        "the layer of its own"
    );
    c.ok(&["rm", "-f", "own"])?;
    c.clean()
}

#[test]
fn what_is_the_hosts_stays_the_hosts() -> Result<()> {
    let c = Containers::new()?;
    c.host.sh(
        "mkdir -m 777 /run/data; echo kept >/run/data/file; echo secret >/run/data/secret; chmod 600 /run/data/secret
         mkdir -m 755 /run/data/closed",
    )?;
    let volume = ["-v", "/run/data:/data", "--cap-add", "ALL"];
    let tried = "echo y >/data/mine && echo made; cat /data/file; echo z >>/data/file || echo refused; \
                 cat /data/secret || echo refused; busybox touch /data/closed/x || echo refused; \
                 busybox chown 0 /data/file || echo refused; busybox chmod 777 /data/secret || echo refused";
    let said = says(&c, &volume, &format!("{{ {tried}; }} 2>/dev/null"))?;
    ensure!(said == "made kept refused refused refused refused refused", "{said}");
    ensure!(
        c.host.sh("stat -c %u:%g /run/data/mine; cat /run/data/file")? == "300000:300000\nkept\n",
        "the volume"
    );
    // With every capability there is: none of them counts on the host.
    let all = ["--cap-add", "ALL"];
    for (script, words) in [
        ("busybox date -s 2000-01-01", "not permitted"),
        ("busybox mknod /disk b 8 0", "not permitted"),
        ("busybox mount -o remount,rw /proc/sys; echo 1 >/proc/sys/kernel/panic", "read-only"),
        ("busybox umount /proc/sys", "invalid"),
        ("busybox mount -o remount,rw /sys", "not permitted"),
        ("busybox nice -n -5 true; busybox dmesg -c", "not permitted"),
        ("busybox chroot / busybox swapoff -a; busybox swapon /bin/busybox", "not permitted"),
    ] {
        let (_, said) = c.inside(&[&OWN[..], &all[..]].concat(), &format!("{{ {script}; }} 2>&1"))?;
        let said = said.to_lowercase().replace("permission denied (are you root?)", "not permitted");
        ensure!(said.contains(words), "{script}: {said}");
    }
    // Over what is its own they do.
    ensure!(
        says(
            &c,
            &all,
            "busybox mkdir -p /mnt && busybox mount -t tmpfs x /mnt && busybox hostname other && hostname"
        )? == "other",
        "its own"
    );
    c.clean()
}

#[test]
fn its_network_is_its_own() -> Result<()> {
    let c = Containers::new()?;
    // Ports below 1024, raw sockets, and with the capability its interfaces.
    let serve = "mkdir -p /www; hostname >/www/index.html; exec busybox httpd -f -h /www";
    c.ok(&["run", "-d", "--name", "web", "--userns", "auto", "-p", "8080:80", BUSYBOX, "sh", "-c", serve])?;
    wait::until("a page", wait::LONG, || {
        let page = c.ok(&["run", "--rm", BUSYBOX, "wget", "-q", "-O", "-", "http://10.77.0.2/"])?;
        ensure!(page.trim() == "web", "{page}");
        Ok(())
    })?;
    ensure!(
        c.ok(&["exec", "web", "ping", "-c", "1", "-W", "5", "10.77.0.1"])?.contains("1 packets received"),
        "ping"
    );
    let (code, said) =
        c.inside(&["--userns", "auto", "--cap-add", "net_admin"], "ip link set lo down && echo done")?;
    ensure!((code, said.trim()) == (0, "done"), "{code} {said}");
    // On the host's network it has rights over nothing.
    let (code, said) = c.inside(
        &["--userns", "auto", "--network", "host", "--cap-add", "net_admin"],
        "ip link set lo down 2>&1 || echo refused",
    )?;
    ensure!(code == 0 && said.contains("refused"), "{code} {said}");
    // Each has numbers of its own, and the same again under the same name.
    let users = |name: &str| -> Result<String> { Ok(c.inspect(name)?["spec"]["users"].to_string()) };
    c.ok(&[
        "run",
        "-d",
        "--name",
        "other",
        "--userns",
        "auto",
        "--network",
        "none",
        BUSYBOX,
        "sleep",
        "300",
    ])?;
    let (web, other) = (users("web")?, users("other")?);
    ensure!(web.contains("range") && web != other, "{web} {other}");
    c.ok(&["rm", "-f", "other"])?;
    // It starts again in what it had.
    let again = "test -e /once && exec sleep 300; touch /once; exit 1";
    let again = again.replace("touch", "busybox touch").replace("test", "busybox test");
    c.ok(&[
        "run",
        "-d",
        "--name",
        "other",
        "--userns",
        "auto",
        "--restart",
        "on-failure",
        BUSYBOX,
        "sh",
        "-c",
        &again,
    ])?;
    ensure!(users("other")? == other, "other numbers than before");
    wait::until("its second start", wait::LONG, || {
        ensure!(c.inspect("other")?["live"]["restarts"] == 1, "not yet");
        ensure!(
            c.ok(&["exec", "other", "ping", "-c", "1", "-W", "5", "10.77.0.1"])?
                .contains("1 packets received"),
            "ping"
        );
        Ok(())
    })?;
    c.ok(&["rm", "-f", "web", "other"])?;
    c.clean()
}
