//! Other people's rules that drop what weft lets pass: every base chain of a hook must agree, so that one
//! drop anywhere is enough.
//!
//! A packet of each kind that workloads send is walked through each foreign chain (see [`walk`]).

mod packet;
mod walk;

use weft_kernel::nft::{Hook, TableName};

use self::packet::{Packet, packets};
use self::walk::{Fate, fate};
use super::{Facts, Finding, Severity};

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all: Vec<Finding> = Vec::new();
    for packet in packets(facts) {
        for (name, table) in &facts.tables {
            for (chain, base) in table.chains.iter().filter_map(|(n, c)| Some((n, c.base.as_ref()?))) {
                if base.hook != packet.hook || !packet.is_seen_by(name.family) {
                    continue;
                }
                let found = finding(&packet, name, chain, &fate(table, chain, &packet));
                // One chain says the same of every network and family.
                all.extend(found.filter(|f| !all.iter().any(|known| known.what == f.what)));
            }
        }
    }
    if !facts.legacy_tables.is_empty() && !facts.networks.is_empty() {
        all.push(Finding {
            severity: Severity::Note,
            kind: "firewall-legacy",
            what: format!(
                "the older iptables has tables here ({}), which are not examined",
                facts.legacy_tables.join(", ")
            ),
            why: "a drop there counts like any other".to_owned(),
            fix: vec!["iptables-legacy-save; ip6tables-legacy-save   # look for DROP in FORWARD".to_owned()],
        });
    }
    all
}

fn finding(packet: &Packet, table: &TableName, chain: &str, fate: &Fate) -> Option<Finding> {
    let (rule, sure) = match fate {
        Fate::Passes => return None,
        Fate::Dropped { by } => (by, true),
        Fate::Perhaps { by } => (by, false),
    };
    let severity = match (packet.hook, sure) {
        // What reaches the host itself is often refused on purpose.
        (Hook::Input, _) if !packet.tunnelled => Severity::Note,
        (_, true) => Severity::Error,
        (_, false) => Severity::Warning,
    };
    let verb = if sure { "drops" } else { "may drop" };
    let family = packet::words(table.family);
    Some(Finding {
        severity,
        kind: "firewall-drop",
        what: format!("{rule} of table {family} {} {verb} {}", table.name, packet.what),
        why: "a packet must pass every table's chains: that weft accepts it does not help".to_owned(),
        fix: fix(packet, table, chain),
    })
}

/// What mends it, in the words of whoever keeps the table.
fn fix(packet: &Packet, table: &TableName, chain: &str) -> Vec<String> {
    if packet.tunnelled {
        return fix_for_tunnels(packet, table, chain);
    }
    let subnets: Vec<String> = packet.subnets.iter().map(ToString::to_string).collect();
    let forwarded = packet.hook == Hook::Forward;
    if table.name == "firewalld" {
        let add = |s: &String| format!("firewall-cmd --permanent --zone=trusted --add-source={s}");
        return subnets.iter().map(add).chain(["firewall-cmd --reload".to_owned()]).collect();
    }
    let v6 = table.family == weft_kernel::nft::Family::Ip6;
    if chain.chars().all(|c| c.is_ascii_uppercase()) && table.name == "filter" {
        let program = if v6 { "ip6tables" } else { "iptables" };
        let mut lines = vec![format!("{program} -I {chain} -i weft+ -j ACCEPT")];
        if forwarded {
            lines.push(format!("{program} -I {chain} -o weft+ -j ACCEPT"));
            lines.push(
                "# with ufw instead: ufw route allow in on weft+; ufw route allow out on weft+".to_owned(),
            );
        }
        return lines;
    }
    let family = packet::words(table.family);
    let add = |direction: &str| {
        format!("nft insert rule {family} {} {chain} {direction} \"weft*\" accept", table.name)
    };
    let mut lines = vec![add("iifname")];
    if forwarded {
        lines.push(add("oifname"));
    }
    lines.push(
        "# and the same in the file that loads this table, or it is gone at the next reload".to_owned(),
    );
    lines
}

/// Opens the port of tunnels, to the other host that was named.
fn fix_for_tunnels(packet: &Packet, table: &TableName, chain: &str) -> Vec<String> {
    let (from, family) = (packet.from, packet::words(table.family));
    let (program, ip) = if from.is_ipv4() { ("iptables", "ip") } else { ("ip6tables", "ip6") };
    let open = if table.name == "firewalld" {
        "firewall-cmd --permanent --add-port=4789/udp; firewall-cmd --reload".to_owned()
    } else if chain.chars().all(|c| c.is_ascii_uppercase()) && table.name == "filter" {
        format!("{program} -I {chain} -p udp --dport 4789 -s {from} -j ACCEPT")
    } else {
        format!("nft insert rule {family} {} {chain} {ip} saddr {from} udp dport 4789 accept", table.name)
    };
    vec![
        open,
        "# and so for every other host, or their whole subnet; weft itself refuses encapsulated packets of strangers"
            .to_owned(),
    ]
}

#[cfg(test)]
mod tests;
