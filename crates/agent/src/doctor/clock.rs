//! Clocks: certificates are good from one time to another, and what hosts tell of the same event is to be compared.

use super::{Facts, Finding, Severity};

/// Clocks that differ by more than this are wrong; NTP keeps them within milliseconds.
const FAR: u64 = 5_000;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    let differ = facts.peers.iter().filter_map(|p| Some((&p.node, p.clock?)));
    for (node, ahead) in differ.filter(|(_, ahead)| ahead.unsigned_abs() > FAR) {
        let way = if ahead > 0 { "ahead of" } else { "behind" };
        all.push(Finding {
            severity: Severity::Warning,
            kind: "clock-differs",
            what: format!("the clock of host {node} is {} s {way} this host's", ahead.unsigned_abs() / 1000),
            why: "a new host's certificate is \"not yet valid\" where the clock is behind, and logs of the two cannot be compared".to_owned(),
            fix: vec![
                "date; timedatectl   # on both: which of them is wrong?".to_owned(),
                "apt-get install chrony   # on that one".to_owned(),
            ],
        });
    }
    if facts.clock_kept == Some(false) && !facts.peers.is_empty() {
        all.push(Finding {
            severity: Severity::Note,
            kind: "clock-unkept",
            what: "nobody keeps this host's clock right (the kernel calls it unsynchronised)".to_owned(),
            why:
                "clocks drift apart by a second in some days; the hosts of a cluster should agree on the time"
                    .to_owned(),
            fix: vec!["apt-get install chrony   # or, with systemd: timedatectl set-ntp true".to_owned()],
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use weft_model::api::PeerStatus;

    use super::*;
    use crate::doctor::facts::tests::{facts, peer};

    #[test]
    fn clocks_that_are_seconds_apart_are_a_finding() {
        let judged = |clock: Option<i64>, kept: Option<bool>| {
            let host = Facts {
                peers: vec![PeerStatus { clock, ..peer("host2", 12, "direct") }],
                clock_kept: kept,
                ..facts(&[])
            };
            findings(&host).into_iter().map(|f| (f.kind, f.what)).collect::<Vec<_>>()
        };
        assert_eq!(judged(None, Some(true)), []);
        assert_eq!(judged(Some(-4_000), None), []);
        let found = judged(Some(-37_400), Some(true));
        assert_eq!((found.len(), found[0].0), (1, "clock-differs"));
        assert!(found[0].1.contains("host2 is 37 s behind"), "{found:?}");
        assert_eq!(judged(Some(0), Some(false))[0].0, "clock-unkept");
        assert_eq!(findings(&Facts { clock_kept: Some(false), ..facts(&[]) }), [], "a host alone");
    }
}
