//! Labels: what selectors find workloads and namespaces by. The syntax is Kubernetes'.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The labels of one thing.
pub type Labels = BTreeMap<LabelKey, LabelValue>;

/// A label's key: `name` or `prefix/name`. The name has at most 63 of `[a-zA-Z0-9._-]`, letters or digits at both
/// ends; the prefix is a DNS subdomain of at most 253 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabelKey(Box<str>);

/// A label's value: at most 63 of `[a-zA-Z0-9._-]`, letters or digits at both ends; may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabelValue(Box<str>);

/// A string is no label's key or value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLabel {
    /// The key.
    #[error(
        "'{0}' is not a label key: [prefix/]name, the name 1 to 63 of [a-zA-Z0-9._-] with letters or digits at both ends"
    )]
    Key(String),
    /// The value.
    #[error("'{0}' is not a label value: at most 63 of [a-zA-Z0-9._-] with letters or digits at both ends")]
    Value(String),
    /// `key=value` was meant.
    #[error("'{0}' is not a label such as app=web")]
    Pair(String),
}

fn is_name(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=63).contains(&bytes.len()) && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner)
}

fn is_prefix(text: &str) -> bool {
    let lower = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let part = |part: &str| {
        let bytes = part.as_bytes();
        let edges = bytes.first().is_some_and(lower) && bytes.last().is_some_and(lower);
        edges && bytes.iter().all(|b| lower(b) || *b == b'-')
    };
    (1..=253).contains(&text.len()) && text.split('.').all(part)
}

macro_rules! text {
    ($name:ident, $valid:expr, $invalid:expr) => {
        impl $name {
            /// As text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidLabel;
            fn from_str(text: &str) -> Result<$name, InvalidLabel> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok($name(text.into())) } else { Err($invalid(shown(text))) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidLabel;
            fn try_from(text: String) -> Result<$name, InvalidLabel> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(label: $name) -> String {
                label.0.into_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(
    LabelKey,
    |text| match text.split_once('/') {
        Some((prefix, name)) => is_prefix(prefix) && is_name(name),
        None => is_name(text),
    },
    InvalidLabel::Key
);
text!(LabelValue, |text| text.is_empty() || is_name(text), InvalidLabel::Value);

/// Long or strange text, made fit for a line.
fn shown(text: &str) -> String {
    text.chars().take(80).collect::<String>().escape_default().to_string()
}

/// Reads `key=value`.
///
/// # Errors
/// [`InvalidLabel`].
pub fn pair(text: &str) -> Result<(LabelKey, LabelValue), InvalidLabel> {
    let (key, value) = text.split_once('=').ok_or_else(|| InvalidLabel::Pair(shown(text)))?;
    Ok((key.parse()?, value.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_kubernetes() {
        for good in ["app", "app.kubernetes.io/name", "a_b.c-d", "x/y"] {
            assert!(good.parse::<LabelKey>().is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", "-a", "a-", "a/b/c", "/a", "a/", "A.b/c", "a b", "é", "a\0", long.as_str()] {
            assert!(bad.parse::<LabelKey>().is_err(), "{bad:?}");
        }
        for good in ["", "a", "v1.2_3-x", "0"] {
            assert!(good.parse::<LabelValue>().is_ok(), "{good}");
        }
        for bad in ["-a", "a.", "a b", "a/b", "\n", long.as_str()] {
            assert!(bad.parse::<LabelValue>().is_err(), "{bad:?}");
        }
        assert_eq!(pair("app=web").unwrap().1.as_str(), "web");
        assert!(pair("app").is_err());
    }
}
