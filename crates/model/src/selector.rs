//! Selectors: which labelled things are meant (Kubernetes' `LabelSelector`).
//!
//! An empty selector means everything; that a selector is absent is for whoever holds it to say.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::label::{LabelKey, LabelValue, Labels};

/// All conditions must hold; none at all hold for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Selector {
    /// Labels that must have exactly these values.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub match_labels: Labels,
    /// Further conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requirement {
    /// The label.
    pub key: LabelKey,
    /// How it is looked at.
    pub operator: Operator,
    /// With what; for `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub values: BTreeSet<LabelValue>,
}

/// How a label is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Operator {
    /// The label is there, with one of the values.
    In,
    /// The label is absent, or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

impl Selector {
    /// Whether something with these labels is meant.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }

    /// Whether it means everything.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// What is wrong with it, with the path to the field below the selector's own.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), (String, String)> {
        for (index, requirement) in self.match_expressions.iter().enumerate() {
            let wants_values = matches!(requirement.operator, Operator::In | Operator::NotIn);
            if wants_values == requirement.values.is_empty() {
                let operator = requirement.operator;
                let why = if wants_values { "needs at least one value" } else { "takes no values" };
                return Err((format!(".matchExpressions[{index}].values"), format!("{operator:?} {why}")));
            }
        }
        Ok(())
    }
}

impl Requirement {
    fn matches(&self, labels: &Labels) -> bool {
        let found = labels.get(&self.key);
        match self.operator {
            Operator::In => found.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => found.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => found.is_some(),
            Operator::DoesNotExist => found.is_none(),
        }
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_everything() {
            return f.write_str("everything");
        }
        let mut parts: Vec<String> =
            self.match_labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        for Requirement { key, operator, values } in &self.match_expressions {
            let shown: Vec<&str> = values.iter().take(4).map(LabelValue::as_str).collect();
            let more = if values.len() > 4 { ",…" } else { "" };
            let list = format!("({}{more})", shown.join(","));
            parts.push(match operator {
                Operator::In => format!("{key} in {list}"),
                Operator::NotIn => format!("{key} notin {list}"),
                Operator::Exists => key.to_string(),
                Operator::DoesNotExist => format!("!{key}"),
            });
        }
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        text.split(',').filter(|t| !t.is_empty()).map(|t| crate::label::pair(t).unwrap()).collect()
    }

    #[test]
    fn operators_do_as_kubernetes_says() {
        let selector = |json: &str| serde_json::from_str::<Selector>(json).unwrap();
        let one = |operator: &str| {
            selector(&format!(
                r#"{{"matchExpressions":[{{"key":"a","operator":"{operator}","values":["1","2"]}}]}}"#
            ))
        };
        assert!(selector("{}").matches(&labels("")));
        assert!(one("In").matches(&labels("a=1")) && !one("In").matches(&labels("a=3")));
        assert!(!one("In").matches(&labels("")));
        assert!(one("NotIn").matches(&labels("")) && one("NotIn").matches(&labels("a=3")));
        assert!(!one("NotIn").matches(&labels("a=2")));
        let exists = selector(r#"{"matchExpressions":[{"key":"a","operator":"Exists"}]}"#);
        assert!(exists.matches(&labels("a=9")) && !exists.matches(&labels("b=9")));
        let absent = selector(r#"{"matchExpressions":[{"key":"a","operator":"DoesNotExist"}]}"#);
        assert!(!absent.matches(&labels("a=9")) && absent.matches(&labels("b=9")));
        assert!(one("Exists").validate().is_err());
    }

    #[test]
    fn ten_thousand_values_are_no_trouble() {
        let values: BTreeSet<LabelValue> = (0..10_000).map(|n| format!("v{n}").parse().unwrap()).collect();
        let requirement = Requirement { key: "a".parse().unwrap(), operator: Operator::In, values };
        let selector = Selector { match_expressions: vec![requirement], ..Selector::default() };
        assert!(selector.matches(&labels("a=v9999")) && !selector.matches(&labels("a=v10000")));
    }
}
