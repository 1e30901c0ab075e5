//! docs/by-hand.md is true: what it types by hand and what weft does leave the kernel in the same state.
//!
//! The page's blocks are executed in two fresh hosts. What differs on purpose is in the page's last table,
//! and is left out here: names, groups and aliases of links, the protocol of routes, `onlink`, and tables
//! of nftables (of which it is seen that packets leave masqueraded). Neighbours that the kernel learnt by
//! itself come and go and are no part of the comparison.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_tests::weft::programs_folder;
use weft_tests::{Sandbox, programs, wait};

const WORKLOADS: [&str; 2] = ["one", "two"];
const OUTSIDE: &str = "192.0.2.80";

/// The page's blocks that bear exactly these words after `sh`, one after the other.
fn blocks(tag: &str) -> Result<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/by-hand.md");
    let page = fs::read_to_string(&page).with_context(|| format!("failed to read {}", page.display()))?;
    let (start, mut inside, mut script) = (format!("```sh {tag}"), false, String::new());
    for line in page.lines() {
        match line {
            "```" => inside = false,
            _ if line == start => inside = true,
            _ if inside => script.extend([line, "\n"]),
            _ => {}
        }
    }
    ensure!(!script.is_empty(), "docs/by-hand.md has no block '{start}'");
    Ok(script)
}

/// Runs blocks of the page in a host, to the first command that fails.
fn follow(host: &Sandbox, tag: &str) -> Result<()> {
    let script = format!("export PATH=/run/weft-bin:$PATH\n{}", blocks(tag)?);
    host.sh(&script).map(|_| ()).with_context(|| format!("the blocks '{tag}' of docs/by-hand.md failed"))
}

/// A host as the page begins with, and a web server outside that tells who asks.
fn practice_host() -> Result<Sandbox> {
    programs::require(&["ip", "nft", "ping", "sysctl", "busybox"])?;
    let host = Sandbox::new()?;
    follow(&host, "host")?;
    host.write(
        "/run/www/cgi-bin/who",
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s\\n' \"$REMOTE_ADDR\"\n",
    )?;
    host.sh("chmod 755 /run/www/cgi-bin/who; ip netns exec outside busybox httpd -p 80 -h /run/www")?;
    Ok(host)
}

fn json(host: &Sandbox, namespace: Option<&str>, what: &str) -> Result<Vec<Value>> {
    let inside = namespace.map(|n| format!("-n {n} ")).unwrap_or_default();
    let text = host.sh(&format!("ip {inside}-d -j {what}"))?;
    let text = if text.trim().is_empty() { "[]" } else { &text };
    serde_json::from_str(text).with_context(|| format!("not JSON: {text}"))
}

/// Words for what is named by chance: `wire of one`, `device`, `address of two`.
struct Names {
    links: BTreeMap<String, String>,
    macs: BTreeMap<String, String>,
}

impl Names {
    fn learn(host: &Sandbox) -> Result<Names> {
        let (mut links, mut macs) = (BTreeMap::new(), BTreeMap::new());
        let on_host = json(host, None, "link")?;
        for workload in WORKLOADS {
            let inside = json(host, Some(workload), "link show eth0")?;
            let inside = inside.first().context("no eth0")?;
            macs.insert(text(inside, "address"), format!("address of {workload}"));
            let wire = on_host.iter().find(|l| l["ifindex"] == inside["link_index"]);
            let wire = wire.with_context(|| format!("{workload}'s eth0 has no other end on the host"))?;
            links.insert(text(wire, "ifname"), format!("wire of {workload}"));
            macs.entry(text(wire, "address")).or_insert_with(|| format!("address of the wire of {workload}"));
        }
        for device in on_host.iter().filter(|l| l["linkinfo"]["info_kind"] == "bridge") {
            links.insert(text(device, "ifname"), "device".to_owned());
            macs.insert(text(device, "address"), "address of the device".to_owned());
        }
        Ok(Names { links, macs })
    }

    fn link(&self, name: &str) -> String {
        self.links.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }

    fn mac(&self, mac: &str) -> String {
        self.macs.get(mac).cloned().unwrap_or_else(|| mac.to_owned())
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// What the kernel holds in one namespace, a line for each fact.
fn facts(host: &Sandbox, namespace: Option<&str>, names: &Names) -> Result<Vec<String>> {
    let mut facts = Vec::new();
    let word = |l: &Value, key: &str| l[key].as_str().map(|v| format!(" {key} {v}")).unwrap_or_default();
    for link in json(host, namespace, "addr")? {
        let name = names.link(&text(&link, "ifname"));
        if name == "uplink" || name == "lo" && namespace.is_none() {
            continue; // the host's own, the same before
        }
        let master = link["master"].as_str().map(|m| format!(" in {}", names.link(m))).unwrap_or_default();
        let (mac, kind) = (names.mac(&text(&link, "address")), &link["linkinfo"]["info_kind"]);
        // The flag and not `operstate`, which follows the carrier some moments later.
        let up =
            if link["flags"].as_array().is_some_and(|f| f.iter().any(|f| f == "UP")) { "up" } else { "down" };
        facts.push(format!("link {name}: {kind}, {mac}, mtu {}, {up}{master}", link["mtu"]));
        for a in link["addr_info"].as_array().into_iter().flatten() {
            let more = word(a, "broadcast") + &word(a, "scope");
            facts.push(format!("address {}/{} on {name}{more}", a["local"], a["prefixlen"]));
        }
    }
    for family in ["-4", "-6"] {
        for route in json(host, namespace, &format!("{family} route"))? {
            let device = names.link(&text(&route, "dev"));
            if device == "uplink" {
                continue;
            }
            let more = word(&route, "gateway") + &word(&route, "prefsrc") + &word(&route, "scope");
            facts.push(format!("route {} by {device}{more}", route["dst"]));
        }
    }
    for neighbour in json(host, namespace, "neigh")? {
        if neighbour["state"].as_array().is_some_and(|s| s.iter().any(|s| s == "PERMANENT")) {
            let (device, mac) =
                (names.link(&text(&neighbour, "dev")), names.mac(&text(&neighbour, "lladdr")));
            facts.push(format!("neighbour {} is {mac} on {device}", neighbour["dst"]));
        }
    }
    let inside = namespace.map(|n| format!("ip netns exec {n} ")).unwrap_or_default();
    // The shell must be inside already when it looks for the names of settings.
    let look =
        "cd /proc/sys/net; grep -H . ipv4/ip_forward ipv6/conf/all/forwarding ipv6/conf/*/disable_ipv6";
    let settings = format!("{inside}sh -ec '{look}'");
    for line in host.sh(&settings)?.lines().filter(|l| !l.contains("/uplink/")) {
        let name = |part: &str| names.links.get(part).cloned().unwrap_or_else(|| part.to_owned());
        facts.push(format!("setting {}", line.split('/').map(name).collect::<Vec<_>>().join("/")));
    }
    let place = namespace.unwrap_or("host");
    let mut facts: Vec<String> = facts.into_iter().map(|fact| format!("{place}: {fact}")).collect();
    facts.sort();
    Ok(facts)
}

/// Both namespaces and the host.
fn kernel(host: &Sandbox) -> Result<Vec<String>> {
    let names = Names::learn(host)?;
    let mut all = facts(host, None, &names)?;
    for workload in WORKLOADS {
        all.extend(facts(host, Some(workload), &names)?);
    }
    Ok(all)
}

/// Everybody reaches everybody, and outside sees the host.
fn works(host: &Sandbox, mode: &str) -> Result<()> {
    follow(host, &format!("see {mode}"))?;
    for workload in WORKLOADS {
        let ask = format!("ip netns exec {workload} busybox wget -q -O - http://{OUTSIDE}/cgi-bin/who");
        let seen = wait::until("the server outside", wait::LONG / 6, || host.sh(&ask))?;
        // The server listens with an IPv6 socket, which shows IPv4 as mapped.
        let seen = seen.trim().trim_start_matches("[::ffff:").trim_end_matches(']');
        ensure!(seen == "192.0.2.1", "{workload} is seen outside as {seen}");
    }
    Ok(())
}

/// The host without any workload.
fn bare(host: &Sandbox) -> Result<String> {
    host.sh("ip -o link | sed 's/^[0-9]*: //' | awk '{ print $1 }' | sort; ip -4 route; ip -o -4 addr | awk '{ print $2, $4 }'
             nft list tables; cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding; ls /var/lib /run/netns")
}

fn page_is_true(mode: &str) -> Result<()> {
    let folder = programs_folder()?;
    let mut kernels = Vec::new();
    for way in ["by-hand", "weft"] {
        let host = practice_host()?;
        let before = bare(&host)?;
        if way == "weft" {
            host.copy_in(&folder.join("weft"), "/run/weft-bin/weft")?;
            follow(&host, "weft start")?;
        }
        follow(&host, &format!("{way} {mode}"))?;
        kernels.push(kernel(&host)?);
        works(&host, mode).with_context(|| format!("set up by {way}"))?;
        follow(&host, &format!("{way} {mode} clean"))?;
        let after = bare(&host)?;
        ensure!(before == after, "{way} left the host changed: before\n{before}\nand after\n{after}");
    }
    let only = |a: &[String], b: &[String]| -> Vec<String> {
        a.iter().filter(|fact| !b.contains(fact)).cloned().collect()
    };
    let (by_hand, weft) = (&kernels[0], &kernels[1]);
    ensure!(by_hand.len() > 20, "too few facts were found to compare: {by_hand:#?}");
    let (left, right) = (only(by_hand, weft), only(weft, by_hand));
    ensure!(left.is_empty() && right.is_empty(), "only by hand: {left:#?}\nonly with weft: {right:#?}");
    Ok(())
}

#[test]
fn a_routed_wire_by_hand_is_weft_s() -> Result<()> {
    page_is_true("routed")
}

#[test]
fn a_bridge_segment_by_hand_is_weft_s() -> Result<()> {
    page_is_true("bridge")
}

#[test]
fn a_container_by_hand_is_weft_s() -> Result<()> {
    programs::require(&["busybox", "unshare", "nsenter", "pivot_root", "tar", "sha256sum"])?;
    let folder = programs_folder()?;
    let mut said = Vec::new();
    for way in ["by-hand", "weft"] {
        let host = Sandbox::new()?;
        host.copy_in(&folder.join("weft"), "/run/weft-bin/weft")?;
        let look = "ls /run/netns /run /var/lib; find /sys/fs/cgroup -mindepth 2 -type d -name '[bw]*' | sort
                    grep -e /run/lab -e /containers/ /proc/self/mountinfo || true";
        let before = host.sh(look)?;
        follow(&host, "container layers")?;
        follow(&host, &format!("{way} container"))?;
        said.push(host.sh("cat /run/lab/said")?);
        follow(&host, &format!("{way} container clean"))?;
        let after = host.sh(look)?;
        ensure!(before == after, "{way} left the host changed: before\n{before}\nand after\n{after}");
    }
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/by-hand.md"))?;
    let refused = "can't fork: Resource temporarily unavailable";
    ensure!(said[0].contains("page: woven") && said[0].contains(refused), "by hand it said:\n{}", said[0]);
    ensure!(said[0] == said[1], "by hand it said\n{}\nand with weft\n{}", said[0], said[1]);
    ensure!(page.contains(said[0].trim()), "the page shows something else than\n{}", said[0]);
    Ok(())
}
