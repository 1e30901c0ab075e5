//! The fixtures themselves: a sandbox hides what happens inside, leaves nothing, and the checks can fail.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use weft_tests::snapshot::Snapshot;
use weft_tests::{Network, Sandbox};

fn cgroups(tag: &str) -> Result<Vec<String>> {
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    let points =
        mounts.lines().filter(|line| line.split(' ').nth(2).is_some_and(|kind| kind.starts_with("cgroup")));
    let dirs = points.filter_map(|line| line.split(' ').nth(1)).map(|point| format!("{point}/{tag}"));
    Ok(dirs.filter(|dir| Path::new(dir).exists()).collect())
}

#[test]
fn nothing_is_left_and_nothing_leaks_out() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let tag = sandbox.tag().to_owned();
    let links = sandbox.links()?;
    ensure!(links.iter().eq(["lo"]), "a new sandbox has {links:?}");
    for dir in ["/etc", "/opt", "/run", "/var/lib", "/var/log", "/var/tmp", "/dev/shm"] {
        sandbox.write(&format!("{dir}/{tag}"), "inside")?;
        ensure!(!Path::new(&format!("{dir}/{tag}")).exists(), "{dir} is the machine's own");
    }
    ensure!(!cgroups(&tag)?.is_empty(), "no cgroups of its own");
    let inside = sandbox.sh("cat /proc/self/cgroup")?;
    let own = |line: &str| line.ends_with(":/") || line.ends_with(":/init");
    ensure!(inside.lines().all(own), "its programs run in others' cgroups:\n{inside}");

    sandbox.sh("sleep 1000 >/dev/null 2>&1 &")?;
    let namespace = sandbox.netns()?.inode();
    drop(sandbox);
    let left = cgroups(&tag)?;
    ensure!(left.is_empty(), "cgroups are left: {left:?}");
    for process in std::fs::read_dir("/proc")?.flatten() {
        let Ok(link) = std::fs::read_link(process.path().join("ns/net")) else { continue };
        ensure!(link != Path::new(&format!("net:[{namespace}]")), "{process:?} is left in the namespace");
    }
    Ok(())
}

#[test]
fn a_snapshot_tells_what_came_and_went() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let network = Network::reference();
    let before = Snapshot::take(&sandbox, &network)?;
    Snapshot::take(&sandbox, &network)?.same_as(&before)?;
    let trials = [
        ("ip link add left0 type veth peer name left1", "ip link delete left0", "link left0"),
        ("ip addr add 192.0.2.1/32 dev lo", "ip addr delete 192.0.2.1/32 dev lo", "192.0.2.1/32"),
        ("ip rule add pref 7 lookup main", "ip rule delete pref 7", "rule 7:"),
        ("nft add table inet left", "nft delete table inet left", "table inet left"),
        ("ip netns add left", "ip netns delete left", "namespace left"),
        (
            "mkdir -p /var/lib/cni/networks/reference; touch /var/lib/cni/networks/reference/10.98.0.2",
            "rm /var/lib/cni/networks/reference/10.98.0.2",
            "leak address 10.98.0.2",
        ),
    ];
    for (make, unmake, word) in trials {
        sandbox.sh(make)?;
        let told = Snapshot::take(&sandbox, &network)?.same_as(&before);
        let told = told.err().with_context(|| format!("missed: {make}"))?.to_string();
        ensure!(told.contains(word), "`{make}` was told as: {told}");
        sandbox.sh(unmake)?;
        Snapshot::take(&sandbox, &network)?.same_as(&before)?;
    }
    Ok(())
}
