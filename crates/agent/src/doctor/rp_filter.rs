//! Reverse path filtering where packets come and go by different interfaces (RFC 3704).

use super::{Facts, Finding, Severity};

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let number = |key: &str| facts.setting(key).and_then(|v| v.parse::<u32>().ok()).unwrap_or(0);
    let all = number("net/ipv4/conf/all/rp_filter");
    // The kernel takes the larger of the two (Documentation/networking/ip-sysctl.rst); 1 is strict, 2 loose.
    let strict = |link: &str| all.max(number(&format!("net/ipv4/conf/{link}/rp_filter"))) == 1;
    let finding = |link: &str, why: String| Finding {
        severity: Severity::Warning,
        kind: "rp-filter-strict",
        what: format!("{link} drops packets to whose sender the route leads elsewhere (rp_filter is 1)"),
        why,
        fix: vec![format!("sysctl -w net/ipv4/conf/{link}/rp_filter=2")],
    };
    let mut found = Vec::new();
    if facts.uplinks.len() > 1 {
        let names: Vec<&str> = facts.uplinks.iter().map(|l| l.as_str()).collect();
        let why = format!(
            "there are default routes by {}: what comes by one of them and is answered by another is lost, published ports first",
            names.join(" and ")
        );
        found.extend(names.iter().filter(|l| strict(l)).map(|l| finding(l, why.clone())));
    }
    let why = "hosts of one network may speak directly in one direction and through the tunnel in the other";
    found.extend(
        facts
            .tunnels
            .iter()
            .map(|(l, _)| l.as_str())
            .filter(|l| strict(l))
            .map(|l| finding(l, why.to_owned())),
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::tests::{facts, set};

    #[test]
    fn strict_hurts_only_where_paths_can_differ() {
        let mut host = facts(&["10.119.0.0/16"]);
        set(&mut host, "net/ipv4/conf/all/rp_filter", "1");
        assert_eq!(findings(&host), [], "one uplink");
        host.uplinks.push("eth1".parse().unwrap());
        assert_eq!(findings(&host).len(), 2);
        set(&mut host, "net/ipv4/conf/eth1/rp_filter", "2");
        let found = findings(&host);
        assert_eq!((found.len(), found[0].fix[0].as_str()), (1, "sysctl -w net/ipv4/conf/eth0/rp_filter=2"));
        host.uplinks.pop();
        let kind = weft_kernel::state::Kind::Tunnel { vni: 1, local: [192, 0, 2, 1].into() };
        host.tunnels.push(("weftt1".parse().unwrap(), kind));
        assert_eq!(findings(&host).len(), 1);
    }
}
