//! `CNI_ARGS`: pairs such as `IgnoreUnknown=1;K8S_POD_NAME=web-0` (CNI SPEC.md 1.1.0, section 2;
//! the keys are those of CONVENTIONS.md and of Kubernetes' runtimes).

use std::net::IpAddr;

use ipnet::IpNet;
use weft_model::mac::InvalidMac;
use weft_model::{Mac, PodIdentity};

use crate::field::shown;

/// What `CNI_ARGS` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// Wanted addresses (`IP`).
    pub ips: Vec<IpAddr>,
    /// Wanted Ethernet address (`MAC`).
    pub mac: Option<Mac>,
    /// The pod, if both its namespace and its name are given.
    pub pod: Option<PodIdentity>,
}

/// Why `CNI_ARGS` makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// Not a pair.
    #[error("'{0}' is not of the form KEY=VALUE")]
    NotAPair(String),
    /// A key that nobody knows, and no leave to ignore it.
    #[error("unknown key '{0}'; IgnoreUnknown=1 would allow it")]
    UnknownKey(String),
    /// A value is not of the kind that its key wants.
    #[error("{key}: '{value}' is not {wanted}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// What would do.
        wanted: &'static str,
    },
    /// Not an Ethernet address.
    #[error("MAC: {0}")]
    Mac(#[from] InvalidMac),
}

impl Args {
    /// Reads `KEY=VALUE;KEY=VALUE`.
    ///
    /// # Errors
    /// A part is not a pair, a value is not valid, or a key is unknown while `IgnoreUnknown` is not set.
    pub fn parse(text: &str) -> Result<Args, ArgsError> {
        let mut args = Args::default();
        let mut pod = PodIdentity::default();
        let (mut unknown, mut ignore_unknown) = (None, false);
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| ArgsError::NotAPair(shown(part)))?;
            match key {
                "IgnoreUnknown" => ignore_unknown = truth(value)?,
                "IP" => args.ips = addresses(value)?,
                "MAC" if value.is_empty() => {}
                "MAC" => args.mac = Some(value.parse()?),
                "K8S_POD_NAMESPACE" => pod.namespace = label("K8S_POD_NAMESPACE", value)?,
                "K8S_POD_NAME" => pod.name = label("K8S_POD_NAME", value)?,
                "K8S_POD_UID" => pod.uid = label("K8S_POD_UID", value)?,
                // Kubernetes says here again what CNI_CONTAINERID says.
                "K8S_POD_INFRA_CONTAINER_ID" => {}
                _ => unknown = unknown.or_else(|| Some(shown(key))),
            }
        }
        match unknown {
            Some(key) if !ignore_unknown => return Err(ArgsError::UnknownKey(key)),
            _ => {}
        }
        args.pod = (!pod.namespace.is_empty() && !pod.name.is_empty()).then_some(pod);
        Ok(args)
    }
}

fn truth(value: &str) -> Result<bool, ArgsError> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => {
            Err(ArgsError::Value { key: "IgnoreUnknown", value: shown(value), wanted: "1, true, 0 or false" })
        }
    }
}

/// The names of Kubernetes' objects end in comments and log lines: nothing but what they may consist of.
fn label(key: &'static str, value: &str) -> Result<String, ArgsError> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let starts_well = value.bytes().next().is_none_or(|b| b.is_ascii_alphanumeric());
    if value.len() <= 253 && starts_well && value.bytes().all(good) {
        return Ok(value.to_owned());
    }
    Err(ArgsError::Value { key, value: shown(value), wanted: "a name that Kubernetes gives" })
}

/// One address or several between commas, each with or without a prefix length.
fn addresses(value: &str) -> Result<Vec<IpAddr>, ArgsError> {
    let bad = |part| ArgsError::Value { key: "IP", value: shown(part), wanted: "an IP address" };
    let parts = value.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| address(part).ok_or_else(|| bad(part))).collect()
}

/// `10.88.0.7` or `10.88.0.7/16`: the network knows its own prefix length.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().or_else(|| text.parse::<IpNet>().ok().map(|net| net.addr()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_passes_is_understood() {
        let text = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;\
                    K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=0f-1;SOMETHING=else";
        let args = Args::parse(text).unwrap();
        let pod = PodIdentity { namespace: "shop".into(), name: "web-0".into(), uid: "0f-1".into() };
        assert_eq!(args, Args { pod: Some(pod), ..Args::default() });
    }

    #[test]
    fn wishes_of_old_are_understood() {
        let args = Args::parse("IP=10.88.0.7/16,fd00::7;MAC=02:42:ac:11:00:02").unwrap();
        assert_eq!(args.ips, ["10.88.0.7".parse::<IpAddr>().unwrap(), "fd00::7".parse().unwrap()]);
        assert_eq!(args.mac, Some("02:42:ac:11:00:02".parse().unwrap()));
        assert_eq!(Args::parse("IP=;MAC=;;").unwrap(), Args::default());
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, why) in [
            ("FOO=bar", "unknown key 'FOO'; IgnoreUnknown=1 would allow it"),
            ("FOO=bar;IgnoreUnknown=0", "unknown key 'FOO'; IgnoreUnknown=1 would allow it"),
            ("IgnoreUnknown=maybe", "IgnoreUnknown: 'maybe' is not 1, true, 0 or false"),
            ("FOO", "'FOO' is not of the form KEY=VALUE"),
            ("IP=here", "IP: 'here' is not an IP address"),
            ("K8S_POD_UID=..", "K8S_POD_UID: '..' is not a name that Kubernetes gives"),
            ("K8S_POD_NAME=a/../b", "K8S_POD_NAME: 'a/../b' is not a name that Kubernetes gives"),
            (
                "MAC=ff:ff:ff:ff:ff:ff",
                "MAC: ff:ff:ff:ff:ff:ff cannot be an interface's address: it is multicast or zero",
            ),
        ] {
            assert_eq!(Args::parse(text).unwrap_err().to_string(), why, "{text}");
        }
        assert!(Args::parse("FOO=bar;IgnoreUnknown=TRUE").is_ok());
    }

    #[test]
    fn half_a_pod_is_no_pod() {
        assert_eq!(Args::parse("K8S_POD_NAME=web-0").unwrap().pod, None);
    }
}
