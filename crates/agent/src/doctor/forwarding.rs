//! Whether packets are forwarded between workloads and the world.

use super::{Facts, Finding, Severity};

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    for (ipv4, family, key) in
        [(true, "IPv4", "net/ipv4/ip_forward"), (false, "IPv6", "net/ipv6/conf/all/forwarding")]
    {
        let networks =
            facts.networks.iter().filter(|p| p.network.subnets().any(|s| s.addr().is_ipv4() == ipv4));
        let names: Vec<&str> = networks.map(|p| p.network.name.as_str()).collect();
        if names.is_empty() {
            continue;
        }
        if facts.setting(key) == Some("0") {
            all.push(off(family, key, &names));
        }
        let of_links = format!("net/ipv{}/conf/", if ipv4 { 4 } else { 6 });
        for link in facts.wires.iter().chain(facts.uplinks.iter()) {
            // IPv6 goes by the setting of all links alone (Documentation/networking/ip-sysctl.rst).
            let key = format!("{of_links}{link}/forwarding");
            if ipv4 && facts.setting("net/ipv4/ip_forward") == Some("1") && facts.setting(&key) == Some("0") {
                all.push(Finding {
                    severity: Severity::Error,
                    kind: "forwarding-off",
                    what: format!("{family} packets that arrive by {link} are not forwarded ({key} is 0)"),
                    why: "forwarding was switched off for this interface alone: answers or requests end here"
                        .to_owned(),
                    fix: vec![format!("sysctl -w {key}=1")],
                });
            }
        }
        all.extend(facts.sysctl_files.iter().filter(|(_, k, v)| same(k, key) && v == "0").map(|(path, _, _)| Finding {
            severity: Severity::Warning,
            kind: "forwarding-file",
            what: format!("{path} switches {family} forwarding off"),
            why: "at boot and at every `sysctl --system` workloads are cut off until the agent has switched it on again".to_owned(),
            fix: vec![format!("sed -i 's|^ *{}|# &|' {path}", dots(key))],
        }));
    }
    all
}

fn off(family: &str, key: &str, names: &[&str]) -> Finding {
    Finding {
        severity: Severity::Error,
        kind: "forwarding-off",
        what: format!("the host does not forward {family} packets ({key} is 0)"),
        why: format!("workloads of {} reach nobody but the host itself", names.join(", ")),
        fix: vec![format!("sysctl -w {key}=1   # the agent keeps it so, while it runs")],
    }
}

/// sysctl.conf(5) takes dots and slashes.
fn same(written: &str, key: &str) -> bool {
    written.replace('.', "/") == key
}

fn dots(key: &str) -> String {
    key.replace('/', ".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::tests::{facts, set};

    #[test]
    fn forwarding_is_wanted_in_the_families_of_networks() {
        let kinds = |facts: &Facts| findings(facts).iter().map(|f| (f.kind, f.severity)).collect::<Vec<_>>();
        let mut host = facts(&["10.119.0.0/16"]);
        set(&mut host, "net/ipv4/ip_forward", "1");
        set(&mut host, "net/ipv6/conf/all/forwarding", "0");
        assert_eq!(kinds(&host), []);
        set(&mut host, "net/ipv4/conf/eth0/forwarding", "0");
        assert_eq!(kinds(&host), [("forwarding-off", Severity::Error)]);
        set(&mut host, "net/ipv4/ip_forward", "0");
        assert_eq!(kinds(&host), [("forwarding-off", Severity::Error)]);
        host.sysctl_files = vec![("/etc/sysctl.d/9.conf".into(), "net.ipv4.ip_forward".into(), "0".into())];
        assert_eq!(kinds(&host).last(), Some(&("forwarding-file", Severity::Warning)));
        assert_eq!(kinds(&Facts::default()), []);
    }
}
