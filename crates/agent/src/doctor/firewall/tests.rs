//! Real rules, loaded by the programs that people load them with, read from the kernel and judged.

use std::io::Write;
use std::process::Stdio;

use weft_kernel::netns::Netns;
use weft_kernel::{Linux, nft};

use super::*;
use crate::doctor::facts::tests::facts;

/// What is found after a shell script has been at work in a namespace of its own.
fn judged(script: &str, subnets: &[&str]) -> Vec<(Severity, String)> {
    let netns = Netns::anonymous().unwrap();
    let mut shell = netns.command("sh");
    let mut child = shell.args(["-e"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    let tables =
        netns.run(|| nft::foreign(Linux::open().unwrap().netfilter(), &weft_kernel::ours::tables()).unwrap());
    let found = findings(&Facts { tables: tables.unwrap(), ..facts(subnets) });
    found.into_iter().map(|f| (f.severity, f.what)).collect()
}

const OUTSIDE: &str = "what workloads of 'shop' send to the outside";

#[track_caller]
fn expect(script: &str, wanted: &[(Severity, &str)]) {
    let found = judged(script, &["10.119.0.0/16"]);
    let found: Vec<(Severity, &str)> = found.iter().map(|(s, w)| (*s, w.as_str())).collect();
    assert_eq!(found, wanted, "{script}");
}

#[test]
fn rules_that_let_pass_are_no_finding() {
    expect("", &[]);
    expect("nft add table inet x", &[]);
    expect(
        "nft 'table inet x { chain f { type filter hook forward priority 0; policy accept; ip saddr 192.0.2.0/24 drop; ct state established accept; tcp dport 1-1024 counter; }; }'",
        &[],
    );
    expect(
        "nft 'table inet x { chain f { type filter hook forward priority 0; policy drop; iifname \"weft*\" accept; oifname \"weft*\" accept; }; }'",
        &[],
    );
    expect(
        "nft 'table inet x { chain f { type filter hook forward priority 0; policy drop; ip saddr 10.0.0.0/8 accept; }; }'",
        &[],
    );
    expect("nft 'table ip6 x { chain f { type filter hook forward priority 0; policy drop; }; }'", &[]);
    expect(
        "nft 'table inet x { flags dormant; chain f { type filter hook forward priority 0; policy drop; }; }'",
        &[],
    );
    expect(
        "iptables -P FORWARD DROP; iptables -A FORWARD -i weft+ -j ACCEPT; iptables -A FORWARD -o weft+ -j ACCEPT",
        &[],
    );
    // What Docker leaves on a host: only its own interfaces.
    expect(
        "iptables -N D; iptables -A FORWARD -j D; iptables -A D -i docker0 ! -o docker0 -j DROP; iptables -A D -j RETURN; iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP",
        &[],
    );
}

#[test]
fn drops_are_named_with_what_does_it() {
    let each = |by: &str, table: &str, verb: &str| {
        [OUTSIDE, "what workloads of 'shop' send each other"]
            .map(|what| format!("{by} of table {table} {verb} {what}"))
    };
    let both = |script: &str, severity: Severity, by: &str, table: &str, verb: &str| {
        let [outside, other] = each(by, table, verb);
        expect(script, &[(severity, outside.as_str()), (severity, other.as_str())]);
    };
    both(
        "nft 'table inet host { chain forward { type filter hook forward priority 0; policy drop; }; }'",
        Severity::Error,
        "the policy of chain forward",
        "inet host",
        "drops",
    );
    both(
        "nft 'table inet host { chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; iifname \"lan0\" accept; }; }'",
        Severity::Error,
        "the policy of chain forward",
        "inet host",
        "drops",
    );
    both(
        "nft 'table ip host { chain c { ip saddr 10.64.0.0/10 counter reject comment \"private\"; }; chain f { type filter hook forward priority -5; jump c; }; }'",
        Severity::Error,
        "rule 1 (\"private\") of chain c",
        "ip host",
        "drops",
    );
    // Docker's, and what distributions ship for iptables.
    both(
        "iptables -P FORWARD DROP; iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -A FORWARD -i docker0 -j ACCEPT",
        Severity::Error,
        "the policy of chain FORWARD",
        "ip filter",
        "drops",
    );
    both(
        "iptables -A FORWARD -j LOG; iptables -A FORWARD -s 10.119.0.0/16 -j REJECT",
        Severity::Error,
        "rule 2 of chain FORWARD",
        "ip filter",
        "drops",
    );
    // As firewalld has it: zones by interface, then a rejection of what no zone took.
    both(
        "nft 'table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; ct state { established, related } accept; ct status dnat accept; iifname lo accept; jump zones; reject with icmpx admin-prohibited; }; chain zones { iifname \"eth0\" goto public; goto public; }; chain public { return; }; }'",
        Severity::Error,
        "rule 5 of chain filter_FORWARD",
        "inet firewalld",
        "drops",
    );
}

#[test]
fn what_is_not_understood_wholly_is_said_so() {
    let outside = |by: &str, table: &str| format!("{by} of table {table} may drop {OUTSIDE}");
    let first = |script: &str| judged(script, &["10.119.0.0/16"]).into_iter().next();
    let policy = outside("the policy of chain f", "inet x");
    for script in [
        // A set that may have the address, and a map of verdicts.
        "nft 'table inet x { set s { type ipv4_addr; }; chain f { type filter hook forward priority 0; policy drop; ip saddr @s accept; }; }'",
        "nft 'table inet x { chain f { type filter hook forward priority 0; policy drop; tcp dport vmap { 80 : accept, 443 : accept }; }; }'",
        "nft 'table inet x { chain f { type filter hook forward priority 0; policy drop; tcp dport 443 accept; }; }'",
    ] {
        assert_eq!(first(script), Some((Severity::Warning, policy.clone())), "{script}");
    }
    let script = "iptables -A FORWARD -p tcp -m multiport --dports 25,465 -j DROP";
    assert_eq!(first(script), Some((Severity::Warning, outside("rule 1 of chain FORWARD", "ip filter"))));
    let script = "iptables -A FORWARD -m mark --mark 0x4 -j DROP";
    assert_eq!(first(script).unwrap().0, Severity::Warning);
}

#[test]
fn the_host_may_refuse_what_is_for_itself() {
    let found = judged("iptables -P INPUT DROP; iptables -A INPUT -i lo -j ACCEPT", &["10.119.0.0/16"]);
    assert_eq!(found, [(Severity::Note, "the policy of chain INPUT of table ip filter drops what workloads of 'shop' send to the host itself".to_owned())]);
    let found = judged("ip6tables -P FORWARD DROP", &["10.119.0.0/16", "fd77::/64"]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].1.starts_with("the policy of chain FORWARD of table ip6 filter"));
}

#[test]
fn a_fix_speaks_the_words_of_whoever_keeps_the_table() {
    let fix = |table: &str, chain: &str| {
        let packet = packets(&facts(&["10.119.0.0/16"])).remove(0);
        fix(&packet, &TableName::new(nft::Family::Inet, table), chain)
    };
    assert_eq!(
        fix("firewalld", "filter_FORWARD")[0],
        "firewall-cmd --permanent --zone=trusted --add-source=10.119.0.0/16"
    );
    assert_eq!(fix("filter", "FORWARD")[0], "iptables -I FORWARD -i weft+ -j ACCEPT");
    assert_eq!(fix("host", "forward")[0], "nft insert rule inet host forward iifname \"weft*\" accept");
}

#[test]
fn the_port_of_tunnels_must_be_open_to_other_hosts() {
    use crate::doctor::facts::tests::peer;
    let judged = |rules: &str, path: &str| {
        let netns = Netns::anonymous().unwrap();
        let output = netns.command("sh").args(["-ec", rules]).output().unwrap();
        assert!(output.status.success(), "{rules}: {}", String::from_utf8_lossy(&output.stderr));
        let read = || nft::foreign(Linux::open().unwrap().netfilter(), &weft_kernel::ours::tables()).unwrap();
        let tables = netns.run(read).unwrap();
        let peers = vec![peer("host2", 12, path)];
        let found = findings(&Facts { tables, peers, ..facts(&["10.119.0.0/16"]) });
        let about = found.into_iter().filter(|f| f.what.contains("4789"));
        about.map(|f| (f.severity, f.fix[0].clone())).collect::<Vec<_>>()
    };
    let shut = "nft 'table inet x { chain in { type filter hook input priority 0; policy drop; tcp dport 22 accept; }; }'";
    let fix = "nft insert rule inet x in ip saddr 192.0.2.12 udp dport 4789 accept";
    assert_eq!(judged(shut, "vxlan"), [(Severity::Error, fix.to_owned())]);
    assert_eq!(judged(shut, "direct"), []);
    let open = format!("{shut}; {}", fix.replace("ip saddr", "'ip saddr").replace("accept", "accept'"));
    assert_eq!(judged(&open, "vxlan"), []);
    let tables = "iptables -P INPUT DROP";
    let fix = "iptables -I INPUT -p udp --dport 4789 -s 192.0.2.12 -j ACCEPT";
    assert_eq!(judged(tables, "vxlan"), [(Severity::Error, fix.to_owned())]);
    assert_eq!(judged(&format!("{tables}; {fix}"), "vxlan"), []);
}
