//! Room in the kernel's table of neighbours: each host on the segment takes an entry (PAINS.md 24).
//!
//! Permanent entries, which weft makes for workloads and behind tunnels, do not count (net/core/neighbour.c,
//! `neigh_alloc`, since 5.0); those of hosts on the same segment are learnt, and do.

use super::{Facts, Finding, Severity};

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    for v4 in [true, false] {
        let direct = facts.peers.iter().filter(|p| {
            p.reaches.iter().any(|r| r.path == "direct") && p.addresses.iter().any(|a| a.is_ipv4() == v4)
        });
        let (count, family) = (direct.count() as u64, if v4 { "ipv4" } else { "ipv6" });
        let key = |n: u8| format!("net/{family}/neigh/default/gc_thresh{n}");
        let Some(most) = facts.setting(&key(3)).and_then(|v| v.parse::<u64>().ok()) else { continue };
        // What else the host speaks to has its entries in the same table.
        let severity = match count * 100 / most.max(1) {
            100.. => Severity::Error,
            50.. => Severity::Warning,
            _ => continue,
        };
        let wanted = (count * 4).next_power_of_two();
        all.push(Finding {
            severity,
            kind: "neighbours-few",
            what: format!("{count} other hosts are on this host's segment, and the kernel keeps at most {most} neighbours ({} is {most})", key(3)),
            why: "when the table is full new neighbours are not reached (\"neighbour: arp_cache: neighbor table overflow!\")".to_owned(),
            fix: [(1, wanted / 4), (2, wanted / 2), (3, wanted)]
                .map(|(n, value)| format!("sysctl -w {}={value}", key(n)))
                .into(),
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::tests::{facts, peer, set};

    #[test]
    fn hosts_of_the_segment_must_find_room() {
        let judged = |hosts: u8, path: &str, most: &str| {
            let peers = (0..hosts).map(|n| peer(&format!("host{n}"), n, path)).collect();
            let mut host = Facts { peers, ..facts(&[]) };
            set(&mut host, "net/ipv4/neigh/default/gc_thresh3", most);
            findings(&host).into_iter().map(|f| (f.severity, f.fix)).collect::<Vec<_>>()
        };
        assert_eq!(judged(100, "direct", "1024"), []);
        assert_eq!(judged(200, "vxlan", "128"), [], "those behind tunnels are permanent");
        assert_eq!(judged(100, "direct", "128")[0].0, Severity::Warning);
        let found = judged(200, "direct", "128");
        assert_eq!(found[0].0, Severity::Error);
        assert_eq!(found[0].1[2], "sysctl -w net/ipv4/neigh/default/gc_thresh3=1024");
    }
}
