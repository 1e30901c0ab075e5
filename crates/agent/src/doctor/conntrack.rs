//! Room in the table of connections: when it is full, new connections are dropped.

use super::{Facts, Finding, Severity};

/// Fewer entries than this are used up by one busy workload.
const SMALL: u64 = 32_768;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let number = |key: &str| facts.setting(key).and_then(|v| v.parse::<u64>().ok());
    let Some(most) = number("net/netfilter/nf_conntrack_max").filter(|most| *most > 0) else {
        return Vec::new();
    };
    let used = number("net/netfilter/nf_conntrack_count").unwrap_or(0);
    let fix = vec![format!("sysctl -w net/netfilter/nf_conntrack_max={}", most.max(SMALL) * 4)];
    let why = "when the table is full the kernel drops every new connection, of the host's too (\"nf_conntrack: table full\")";
    let percent = used * 100 / most;
    let severity = match percent {
        90.. => Severity::Error,
        70.. => Severity::Warning,
        _ if most < SMALL => {
            return vec![Finding {
                severity: Severity::Note,
                kind: "conntrack-small",
                what: format!("the host can track {most} connections, which is few"),
                why: why.to_owned(),
                fix,
            }];
        }
        _ => return Vec::new(),
    };
    let what = format!("{used} of {most} connections are being tracked ({percent} %)");
    vec![Finding { severity, kind: "conntrack-full", what, why: why.to_owned(), fix }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::tests::{facts, set};

    #[test]
    fn the_table_is_judged_by_what_is_left() {
        let judged = |count: &str, most: &str| {
            let mut host = facts(&[]);
            set(&mut host, "net/netfilter/nf_conntrack_count", count);
            set(&mut host, "net/netfilter/nf_conntrack_max", most);
            findings(&host).first().map(|f| (f.kind, f.severity))
        };
        assert_eq!(judged("10", "262144"), None);
        assert_eq!(judged("10", "0"), None, "no limit");
        assert_eq!(judged("200000", "262144"), Some(("conntrack-full", Severity::Warning)));
        assert_eq!(judged("262144", "262144"), Some(("conntrack-full", Severity::Error)));
        assert_eq!(judged("10", "8192"), Some(("conntrack-small", Severity::Note)));
        assert_eq!(findings(&Facts::default()), []);
    }
}
