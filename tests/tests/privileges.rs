//! BAR.md security 28: the agent's whole life under exactly the privileges that its unit leaves it, and what fails
//! without each of them.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use weft_lab::traffic::WebServer;
use weft_model::Mode;
use weft_model::api::{Attach, Request};
use weft_tests::host::{Net, REPAIR};
use weft_tests::scene::anywhere;
use weft_tests::{Agent, Confinement, Host, wait};

const NETWORKS: [Net<'static>; 2] = [
    ("routed", Mode::Routed, &["10.77.0.0/24", "fd77::/64"]),
    ("bridge", Mode::Bridge, &["10.78.0.0/24", "fd78::/64"]),
];
/// A namespace that only a process names, which has every privilege that a container's root may have: the capabilities
/// of the agent are no superset. And one below a folder of another user's.
const HARD_TO_REACH: &str = "
    ip netns add named
    ip netns exec named sleep 100 >/dev/null 2>&1 </dev/null & echo $! >/run/hard.pid
    mkdir -p /run/user/1000/netns && chown -R 1000:1000 /run/user/1000 && chmod 700 /run/user/1000 /run/user/1000/netns
    touch /run/user/1000/netns/theirs
    unshare --net=/run/user/1000/netns/theirs true";

/// A host with weft's unit, and the limits that it sets.
fn host() -> Result<(Host, Confinement)> {
    let host = Host::new()?;
    host.sh("cp -r /opt/weft /opt/image && cp /opt/cni/bin/weft /opt/image/weft-cni && /opt/image/weft install --no-cni >/dev/null")?;
    let unit = host.sh("cat /etc/systemd/system/weft.service")?;
    let limits = Confinement::of_unit(&unit)?;
    Ok((host, limits))
}

fn start(host: &Host, limits: &Confinement) -> Result<Agent> {
    let agent = host.start_confined(limits)?;
    for network in &NETWORKS {
        host.create_network(network)?;
    }
    Ok(agent)
}

/// What the kernel says of the running agent, by the name of the line.
fn said(agent: &Agent, key: &str) -> Result<String> {
    let status = agent.proc("status")?;
    let line = status.lines().find_map(|l| l.strip_prefix(key)).context("no such line")?;
    Ok(line.trim_start_matches(':').trim().to_owned())
}

fn bits(limits: &Confinement) -> Result<u64> {
    // linux/capability.h
    let number = |name: &str| match name {
        "CAP_DAC_READ_SEARCH" => Some(2),
        "CAP_NET_ADMIN" => Some(12),
        "CAP_SYS_PTRACE" => Some(19),
        "CAP_SYS_ADMIN" => Some(21),
        _ => None,
    };
    limits.capabilities.iter().try_fold(0, |all, name| {
        Ok(all | 1 << number(name).with_context(|| format!("{name} is not in this test: what needs it?"))?)
    })
}

#[test]
fn the_whole_life_works_under_the_units_limits() -> Result<()> {
    let (host, limits) = host()?;
    // Its programs at the loopback, too: the control groups that it sees are the sandbox's own.
    host.sh("mount -t bpf bpf /sys/fs/bpf")?;
    host.sandbox().write("/etc/weft/config.toml", "default_network = false\n")?;
    host.sandbox().copy_in(Path::new(env!("CARGO_BIN_EXE_sock")), "/run/sock")?;
    let before = host.dump()?;
    let agent = start(&host, &limits)?;
    host.namespaces(&["r1", "r2", "b1"].map(str::to_owned))?;
    let mut wish = Host::wish("routed", "r1")?;
    wish.profile.bandwidth = "100M/50M".parse()?;
    wish.profile.ports = vec!["8080:80".parse()?];
    host.attach_as(wish)?;
    host.attach("routed", "r2")?;
    host.attach("bridge", "b1")?;
    host.ping("r1", "10.77.0.1".parse()?)?;
    host.ping("b1", "fd78::1".parse()?)?;
    for (network, container) in [("routed", "r1"), ("bridge", "b1")] {
        let wrong = host.check(network, container)?;
        ensure!(wrong.is_empty(), "{wrong:?}");
    }
    let web = WebServer::start(&host.netns("r1")?, anywhere(80))?;
    let published = || host.sandbox().run(&["/run/sock", "tcp", "127.0.0.1:8080"]);
    published()?;
    // Repair of what others break.
    let good = host.dump()?;
    host.sh("nft flush ruleset; ip link del weft-bridge; sysctl -qw net.ipv4.ip_forward=0")?;
    host.sh("rm /sys/fs/bpf/weft/*/connect4")?;
    host.await_dump("the repair", &good, REPAIR)?;
    wait::until("the programs at the loopback", REPAIR, published)?;
    // Another life: what is there is read and kept.
    agent.terminate()?;
    let agent = host.start_confined(&limits)?;
    ensure!(host.diff()?.is_empty() && host.status()?.workloads.len() == 3);
    published()?;
    drop(web);
    for (network, container) in [("routed", "r1"), ("routed", "r2"), ("bridge", "b1")] {
        host.detach(network, container)?;
    }
    wait::until("the reaper", REPAIR, || {
        let left = host.sh("ip -o link | grep -c -e 'weft[0-9a-f]\\{10\\}' -e wefti || true")?;
        ensure!(left.trim() == "0", "{left}");
        Ok(())
    })?;
    wait::until("the programs' end", REPAIR, || {
        let left = host.sh("ls -R /sys/fs/bpf/weft 2>/dev/null || true")?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })?;
    for (name, _, _) in NETWORKS {
        host.ask(&Request::NetworkRemove { name: name.parse()?, explain: false })?;
    }
    let log = agent.log();
    ensure!(!log.contains("not permitted") && !log.contains("denied"), "{log}");
    agent.terminate()?;
    host.sh("/opt/weft/weft uninstall >/dev/null; for n in r1 r2 b1; do ip netns del $n; done")?;
    let after = host.dump()?;
    ensure!(after == before, "{}", weft_tests::host::difference(&before, &after));
    Ok(())
}

/// Started by hand as root, with everything, the agent keeps the same and no more.
#[test]
fn however_it_is_started_it_keeps_no_more() -> Result<()> {
    let (host, limits) = host()?;
    let wanted = bits(&limits)?;
    let agent = host.start(&[])?;
    for line in ["CapEff", "CapPrm", "CapBnd"] {
        let kept = u64::from_str_radix(&said(&agent, line)?, 16)?;
        ensure!(kept == wanted, "{line} is {kept:#x} instead of {wanted:#x}");
    }
    ensure!(u64::from_str_radix(&said(&agent, "CapInh")?, 16)? == 0);
    ensure!(said(&agent, "NoNewPrivs")? == "1");
    agent.terminate()
}

/// The two that are hard to reach, and a plain one.
fn attach_all(host: &Host) -> Result<[Result<()>; 3]> {
    host.sh(&format!("{HARD_TO_REACH}; ip netns add plain"))?;
    let pid = host.sh("cat /run/hard.pid")?;
    let wish = |path: String| -> Result<Attach> {
        Ok(Attach { netns: path.into(), ..Host::wish("routed", "plain")? })
    };
    let try_one = |path: String| -> Result<()> {
        host.attach_as(wish(path)?)?;
        host.detach("routed", "plain")
    };
    Ok([
        try_one("/run/netns/plain".to_owned()),
        try_one(format!("/proc/{}/ns/net", pid.trim())),
        try_one("/run/user/1000/netns/theirs".to_owned()),
    ])
}

#[test]
fn namespaces_that_are_hard_to_reach_are_reached() -> Result<()> {
    let (host, limits) = host()?;
    let _agent = start(&host, &limits)?;
    attach_all(&host)?.into_iter().collect()
}

#[test]
fn none_of_the_capabilities_is_there_in_vain() -> Result<()> {
    let (_, limits) = host()?;
    for capability in &limits.capabilities {
        let (host, limits) = host()?;
        let fewer = limits.without(capability);
        if capability == "CAP_NET_ADMIN" {
            ensure!(start(&host, &fewer).is_err(), "the agent works without {capability}");
            continue;
        }
        let _agent = start(&host, &fewer)?;
        let works = attach_all(&host)?.map(|result| result.is_ok());
        let wanted = match capability.as_str() {
            "CAP_SYS_ADMIN" => [false, false, false],
            "CAP_SYS_PTRACE" => [true, false, true],
            "CAP_DAC_READ_SEARCH" => [true, true, false],
            other => anyhow::bail!("{other} is not in this test: what fails without it?"),
        };
        ensure!(works == wanted, "without {capability}: {works:?} instead of {wanted:?}");
    }
    Ok(())
}

/// Seccomp mode 2 is a filter.
#[test]
fn system_calls_are_filtered() -> Result<()> {
    let (host, limits) = host()?;
    let agent = start(&host, &limits)?;
    let filtered = said(&agent, "Seccomp")?;
    ensure!(filtered == "2", "Seccomp is {filtered}");
    Ok(())
}
