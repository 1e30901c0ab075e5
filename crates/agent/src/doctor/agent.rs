//! Whether the agent is there, and what it says of itself.

use super::{Facts, Finding, Severity};

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let Some(health) = &facts.health else {
        return vec![Finding {
            severity: Severity::Error,
            kind: "agent-away",
            what: "the agent does not answer".to_owned(),
            why: "traffic flows on, but nothing new is attached and nothing that others break is mended"
                .to_owned(),
            fix: vec!["systemctl start weft   # or, without systemd: weft agent".to_owned()],
        }];
    };
    let told = |problem: &String| Finding {
        severity: Severity::Error,
        kind: "agent-health",
        what: format!("the agent could not mend something: {problem}"),
        why: "the kernel differs from what weft wants, so some workloads may be cut off".to_owned(),
        fix: vec!["weft diff   # what is outstanding, as commands".to_owned()],
    };
    health.iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_is_well_is_no_finding() {
        let kinds = |health: Option<Vec<String>>| {
            let found = findings(&Facts { health, ..Facts::default() });
            found.iter().map(|f| f.kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(Some(Vec::new())), Vec::<&str>::new());
        assert_eq!(kinds(None), ["agent-away"]);
        assert_eq!(kinds(Some(vec!["x".into(), "y".into()])), ["agent-health", "agent-health"]);
    }
}
