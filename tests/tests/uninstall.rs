//! After `weft uninstall` the host is as it was: files, links, routes, rules and every network setting
//! (DESIGN.md, invariant 11), also when the agent was killed before and workloads are left.

use anyhow::{Result, ensure};
use weft_tests::weft::programs_folder;
use weft_tests::{Sandbox, wait};

const WEFT: &str = "/opt/weft/bin/weft";

/// Everything that weft could have changed. Settings of every interface are among them; neighbours that the kernel
/// has learnt by itself are not.
const LIST: &str = "
    ip -o link | sed 's/^[0-9]*: //' | awk '{ print \"link\", $0 }' | sort
    ip -o addr | awk '{ print \"address\", $2, $4 }' | sort
    ip route show table all | sort; ip -6 route show table all | sed 's/ expires.*//' | sort
    ip neigh show nud permanent; ip rule; ip -6 rule; nft list ruleset
    find /proc/sys/net -type f -readable | grep -v -e /nf_conntrack_count -e /stable_secret -e random | sort |
        while read -r f; do printf '%s ' \"$f\"; tr '\\n' ' ' <\"$f\" 2>/dev/null || true; echo; done
    { find /etc /opt /var/lib /run -xdev -type d -printf '%p %y %m\\n'
      find /etc /opt /var/lib /run -xdev ! -type d -printf '%p %y %m %s %l\\n'; } 2>/dev/null |
        grep -v -e ^/run/agent[.] -e ^/run/netns -e ^/run/layer -e ^/run/tmp -e '^/run d' -e ^/run/logs | sort";

fn round(kill: bool) -> Result<()> {
    let folder = programs_folder()?;
    let host = Sandbox::new()?;
    host.copy_in(&folder.join("weft"), "/run/tmp/weft")?;
    host.copy_in(&folder.join("weft-cni"), "/run/tmp/weft-cni")?;
    // An uplink that learns its route from a router, which forwarding must not end.
    host.sh(
        "ip link add uplink mtu 1400 type veth peer name far && ip link set far up && ip link set uplink up
        ip addr add 192.0.2.1/24 dev uplink && ip route add default via 192.0.2.254
        for n in one two three; do ip netns add $n; done",
    )?;
    wait::until("the uplink's own addresses", wait::LONG / 6, || {
        let settled = host.sh("ip -6 addr show tentative | wc -l")?;
        ensure!(settled.trim() == "0", "still tentative");
        Ok(())
    })?;
    let before = host.sh(LIST)?;

    host.sh("/run/tmp/weft install --prefix /opt/weft --plugin /run/tmp/weft-cni")?;
    let mut agent = host.daemon("agent", &[], &[WEFT, "agent"])?;
    wait::until("the agent", wait::LONG, || host.run(&[WEFT, "status"]).map(|_| ()))?;
    host.sh(&format!(
        "{WEFT} network create lan --mode bridge && {WEFT} attach one && {WEFT} attach two --network lan &&
         {WEFT} network connect lan one && {WEFT} attach three --ip 10.119.7.7 --peer-name weft-mine"
    ))?;
    host.sh(&format!(
        "mkdir -p /run/tmp/root/bin && cp $(command -v busybox) /run/tmp/root/bin/ &&
         {WEFT} run -d --name box --rootfs /run/tmp/root /bin/busybox sleep 300"
    ))?;
    let inventory = host.sh(&format!("{WEFT} inventory"))?;
    for line in ["container  box", "namespace  /run/netns/box", "containers/box/merged", "weft/box"] {
        ensure!(inventory.contains(line), "no '{line}' in:\n{inventory}");
    }
    let forwarding = host.sh("cat /proc/sys/net/ipv4/ip_forward")?;
    ensure!(forwarding.trim() == "1", "the agent has not switched forwarding on");
    let learning = host.sh("cat /proc/sys/net/ipv6/conf/uplink/accept_ra")?;
    ensure!(learning.trim() == "2", "the uplink would forget its router: accept_ra is {learning}");
    if kill {
        host.sh("kill -9 $(pgrep -x weft)")?;
        ensure!(agent.wait(wait::LONG / 6).is_ok(), "the agent is not dead");
    }
    let said = host.sh(&format!("{WEFT} uninstall 2>&1 || /run/tmp/weft uninstall 2>&1"))?;
    ensure!(said.contains("container box stopped"), "nothing of the container:\n{said}");

    let inventory = host.sh("/run/tmp/weft inventory --offline")?;
    ensure!(inventory.contains("nothing"), "weft still finds:\n{inventory}");
    let after = host.sh(LIST)?;
    let gone = before.lines().filter(|line| !after.contains(line)).map(|line| format!("- {line}"));
    let come = after.lines().filter(|line| !before.contains(line)).map(|line| format!("+ {line}"));
    let changes: Vec<String> = gone.chain(come).collect();
    ensure!(changes.is_empty(), "the host is not as it was:\n{}", changes.join("\n"));
    Ok(())
}

#[test]
fn the_host_is_as_it_was_when_the_agent_runs() -> Result<()> {
    round(false)
}

#[test]
fn the_host_is_as_it_was_when_the_agent_was_killed() -> Result<()> {
    round(true)
}
