//! Programs that configure interfaces and would take weft's for theirs (PAINS: addresses and routes vanish).

use super::{Facts, Finding, Managed, Severity};

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    for (name, manager) in [("systemd-networkd", &facts.networkd), ("NetworkManager", &facts.network_manager)]
    {
        let Managed { runs, excluded, claims } = manager;
        for path in claims {
            all.push(Finding {
                severity: if *runs { Severity::Error } else { Severity::Warning },
                kind: "links-claimed",
                what: format!("{path} makes {name} configure weft's interfaces"),
                why: "it removes addresses and routes that it did not set, whenever it starts or reloads"
                    .to_owned(),
                fix: vec![format!("# in {path}, exclude weft's interfaces: {}", exclusion(name))],
            });
        }
        if *runs && !excluded && claims.is_empty() {
            all.push(Finding {
                severity: Severity::Warning,
                kind: "links-unprotected",
                what: format!("{name} runs, and nothing keeps it off weft's interfaces"),
                why:
                    "a broad match in its configuration makes it take them over: addresses, routes and MTU go"
                        .to_owned(),
                fix: vec!["weft install   # writes the exclusion; then reload it".to_owned()],
            });
        }
    }
    all
}

fn exclusion(name: &str) -> &'static str {
    if name == "NetworkManager" { "unmanaged-devices+=interface-name:weft*" } else { "[Match] Name=!weft*" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_that_runs_must_be_kept_off() {
        let judged = |runs, excluded, claims: &[&str]| {
            let claims = claims.iter().map(|c| (*c).to_owned()).collect();
            let facts = Facts { networkd: Managed { runs, excluded, claims }, ..Facts::default() };
            findings(&facts).iter().map(|f| (f.kind, f.severity)).collect::<Vec<_>>()
        };
        assert_eq!(judged(false, false, &[]), []);
        assert_eq!(judged(true, true, &[]), []);
        assert_eq!(judged(true, false, &[]), [("links-unprotected", Severity::Warning)]);
        assert_eq!(
            judged(true, true, &["/etc/systemd/network/01-all.network"]),
            [("links-claimed", Severity::Error)]
        );
        assert_eq!(
            judged(false, true, &["/etc/systemd/network/01-all.network"]),
            [("links-claimed", Severity::Warning)]
        );
    }
}
