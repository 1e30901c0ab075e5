//! What a container is connected to.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use weft_model::NetworkName;

use crate::name::Name;

/// What `--network` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Net {
    /// A namespace of its own, joined to this network.
    Network(NetworkName),
    /// A namespace of its own with nothing but loopback.
    None,
    /// The host's namespace: nothing keeps it from the host's network.
    Host,
    /// The namespace of another container, with its addresses.
    Container(Name),
}

impl FromStr for Net {
    type Err = String;
    fn from_str(text: &str) -> Result<Net, String> {
        Ok(match text {
            "none" => Net::None,
            "host" => Net::Host,
            _ => match text.strip_prefix("container:") {
                Some(name) => Net::Container(name.parse().map_err(|e| format!("{e}"))?),
                None => Net::Network(text.parse().map_err(|e| format!("{e}"))?),
            },
        })
    }
}

impl std::fmt::Display for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Net::Network(name) => name.fmt(f),
            Net::None => f.write_str("none"),
            Net::Host => f.write_str("host"),
            Net::Container(name) => write!(f, "container:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_what_is_shown() {
        for text in ["default", "none", "host", "container:web"] {
            assert_eq!(text.parse::<Net>().unwrap().to_string(), text);
        }
        for text in ["", "container:", "container:../x", "a/b", "Bridge"] {
            assert!(text.parse::<Net>().is_err(), "{text}");
        }
    }
}
