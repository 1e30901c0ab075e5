//! The keys of a configuration, and what somebody may have meant who wrote another one.

use serde_json::{Map, Value};

use super::ConfError;
use crate::field::{FieldError, Object, shown};

const KNOWN: [&str; 15] = [
    "args",
    "capabilities",
    "cniVersion",
    "cniVersions",
    "disableCheck",
    "disableGC",
    "dns",
    "ipam",
    "journal",
    "loadOnlyInlinedPlugins",
    "name",
    "network",
    "prevResult",
    "runtimeConfig",
    "socket",
];

/// Keys of the reference plugins that weft keeps with the network instead.
const OF_THE_NETWORK: [&str; 12] = [
    "bridge",
    "forceAddress",
    "gateway",
    "hairpinMode",
    "ipMasq",
    "isDefaultGateway",
    "isGateway",
    "mtu",
    "promiscMode",
    "ranges",
    "subnet",
    "subnets",
];

/// Refuses keys that mean nothing to weft: a wish that is silently not fulfilled is worse than an error.
/// `cni.dev/` belongs to the specification, which adds keys as it likes.
pub(super) fn all_known(map: &Map<String, Value>) -> Result<(), ConfError> {
    let known = |key: &str| key == "type" || key.starts_with("cni.dev/") || KNOWN.contains(&key);
    match map.keys().find(|key| !known(key)) {
        None => Ok(()),
        Some(key) => Err(ConfError::UnknownKey { key: shown(key), hint: hint(key) }),
    }
}

/// The types of the keys that are the runtime's business and not ours.
pub(super) fn types(root: &Object<'_>) -> Result<(), FieldError> {
    if let Some(versions) = root.get("cniVersions") {
        versions.texts()?;
    }
    if let Some(capabilities) = root.get("capabilities") {
        let capabilities = capabilities.object()?;
        for name in capabilities.map.keys() {
            capabilities.get(name).map(|field| field.boolean()).transpose()?;
        }
    }
    for key in ["disableCheck", "disableGC", "loadOnlyInlinedPlugins"] {
        root.get(key).map(|field| field.boolean_or_text()).transpose()?;
    }
    root.get("args").map(|field| field.object()).transpose()?;
    Ok(())
}

fn hint(key: &str) -> String {
    if OF_THE_NETWORK.iter().any(|k| k.eq_ignore_ascii_case(key)) {
        return format!("'{}' is a matter of the weft network: see `weft network create --help`", shown(key));
    }
    match nearest(key) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("known keys are type, {}", KNOWN.join(", ")),
    }
}

/// The known key that is at most two slips of the pen away.
fn nearest(key: &str) -> Option<&'static str> {
    if key.len() > 40 {
        return None;
    }
    let near = KNOWN.into_iter().chain(["type"]).map(|known| (distance(known, key), known));
    near.min()
        .filter(|(distance, known)| *distance <= 2 && *distance < known.len() / 2)
        .map(|(_, known)| known)
}

/// How many letters must be added, removed or replaced to make `b` of `a` (Levenshtein), case aside.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<u8> = b.bytes().map(|c| c.to_ascii_lowercase()).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x.to_ascii_lowercase() != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        for (written, meant) in [
            ("cniversion", Some("cniVersion")),
            ("netwrok", Some("network")),
            ("Socket", Some("socket")),
            ("runtimeconfig", Some("runtimeConfig")),
            ("dsn", None),
            ("kubernetes", None),
        ] {
            assert_eq!(nearest(written), meant, "{written}");
        }
    }

    #[test]
    fn keys_of_other_plugins_lead_to_the_network() {
        assert!(hint("ipMasq").contains("weft network create"));
        assert!(hint("mtu").contains("weft network create"));
        assert!(hint("zzz").starts_with("known keys are type, args"));
    }
}
