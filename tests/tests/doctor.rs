//! `weft doctor` on a host that is made ill on purpose: it names each illness, and what it says against it helps when it
//! is typed (docs/doctor.md). What it says of firewalls is tested beside them, in `company_plugins.rs`.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_model::Mode;
use weft_tests::host::Net;
use weft_tests::{Host, outside};

const NETWORKS: [Net<'static>; 1] = [("default", Mode::Routed, &["10.77.0.0/24", "fd77::/64"])];

/// Nothing is wrong but what each case does.
const HEALTHY: &str = r#"
    rm -rf /etc/sysctl.d/* /etc/sysctl.conf /run/sysctl.d /etc/systemd/network /run/systemd /etc/NetworkManager
    mkdir -p /etc/sysctl.d /etc/systemd/network /run/systemd/netif /etc/cni/net.d
    echo '{"cniVersion":"1.0.0","name":"weft","plugins":[{"type":"weft"}]}' >/etc/cni/net.d/10-weft.conflist
    sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.uplink0.rp_filter=0"#;

/// What is looked for, what makes the host ill, and what takes away what the remedy leaves.
const CASES: [(&str, &str, &str); 11] = [
    ("forwarding-off", "sysctl -qw net.ipv4.ip_forward=0", ""),
    ("forwarding-off", "sysctl -qw net.ipv6.conf.all.forwarding=0", ""),
    ("forwarding-off", "sysctl -qw net.ipv4.conf.uplink0.forwarding=0", ""),
    (
        "forwarding-file",
        "echo net.ipv4.ip_forward=0 >/etc/sysctl.d/99-theirs.conf",
        "rm /etc/sysctl.d/99-theirs.conf",
    ),
    (
        "rp-filter-strict",
        "ip link add uplink1 type veth peer name far1; ip addr add 198.51.100.1/24 dev uplink1
         ip link set uplink1 up; ip link set far1 up; ip route add default via 198.51.100.2 metric 500
         sysctl -qw net.ipv4.conf.uplink1.rp_filter=1",
        "ip link del uplink1",
    ),
    (
        "cni-precedes",
        r#"echo '{"cniVersion":"1.0.0","name":"b","plugins":[{"type":"bridge"}]}' >/etc/cni/net.d/00-theirs.conflist
           cp /usr/lib/cni/bridge /opt/cni/bin/"#,
        "rm /etc/cni/net.d/00-theirs.conflist.disabled",
    ),
    (
        "cni-other",
        r#"echo '{"cniVersion":"1.0.0","name":"b","plugins":[{"type":"bridge"}]}' >/etc/cni/net.d/90-theirs.conflist"#,
        "rm /etc/cni/net.d/90-theirs.conflist.disabled",
    ),
    ("cni-broken", "echo '{' >/etc/cni/net.d/00-theirs.conf", "rm /etc/cni/net.d/00-theirs.conf.disabled"),
    // Of these the remedy is words, or a program that is not here.
    (
        "cni-program",
        r#"echo '{"cniVersion":"1.0.0","name":"b","plugins":[{"type":"nowhere"}]}' >/etc/cni/net.d/00-theirs.conflist"#,
        "rm /etc/cni/net.d/00-theirs.conflist",
    ),
    (
        "links-claimed",
        "printf '[Match]\nName=*\n[Network]\nDHCP=yes\n' >/etc/systemd/network/10-all.network",
        "rm /etc/systemd/network/10-all.network",
    ),
    ("links-unprotected", "touch /run/systemd/netif/state", "rm /run/systemd/netif/state"),
];

/// The exit code, and what was found.
fn examine(host: &Host) -> Result<(i32, Vec<Value>)> {
    let text = host.sh("/opt/weft/weft doctor --json && echo code 0 || echo code $?")?;
    let (document, code) = text.rsplit_once("code ").context("no code")?;
    let document: Value = serde_json::from_str(document)?;
    Ok((code.trim().parse()?, document["findings"].as_array().context("no findings")?.clone()))
}

fn of_kind<'a>(found: &'a [Value], kind: &str) -> Vec<&'a Value> {
    found.iter().filter(|f| f["kind"] == kind).collect()
}

#[test]
fn each_illness_is_named_and_its_remedy_helps() -> Result<()> {
    let host = Host::new()?;
    outside::put(host.sandbox())?;
    let agent = host.start(&[])?;
    host.create_network(&NETWORKS[0])?;
    host.namespaces(&["c1".to_owned()])?;
    host.attach("default", "c1")?;
    // It would mend half of them before they are seen.
    agent.kill();
    host.sh(HEALTHY)?;
    for (kind, cause, tidy) in CASES {
        let (_, before) = examine(&host)?;
        ensure!(of_kind(&before, kind).is_empty(), "{kind} before anything was done: {before:#?}");
        host.sh(cause)?;
        let (code, found) = examine(&host)?;
        let named = of_kind(&found, kind);
        ensure!(!named.is_empty(), "`{cause}` was not noticed: {found:#?}");
        ensure!(code == 1, "the code is {code}"); // the agent is away, at the least
        let mut remedies = Vec::new();
        for finding in &named {
            ensure!(finding["what"].is_string() && finding["why"].is_string(), "{finding:#}");
            let fix: Vec<&str> =
                finding["fix"].as_array().context("no fix")?.iter().filter_map(Value::as_str).collect();
            ensure!(!fix.is_empty(), "no remedy: {finding:#}");
            remedies
                .extend(fix.into_iter().filter(|line| !line.starts_with('#') && !line.starts_with("weft")));
        }
        for line in &remedies {
            host.sh(line).with_context(|| format!("{kind}: {line}"))?;
        }
        if !remedies.is_empty() {
            let (_, after) = examine(&host)?;
            ensure!(of_kind(&after, kind).is_empty(), "{remedies:?} did not help: {after:#?}");
        }
        host.sh(tidy)?;
    }
    Ok(())
}
