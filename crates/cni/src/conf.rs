//! The network configuration on stdin (CNI SPEC.md 1.1.0, section 1, "Plugin configuration objects",
//! and section 3, "Deriving request configuration from plugin configuration").
//!
//! Nothing in it is ever executed but a delegated IPAM plugin that the host's administrator has listed.

mod bandwidth;
mod error;
mod keys;
mod ports;
mod runtime;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use weft_model::{ContainerId, IfName, NetworkName, Owner, api};

pub use error::ConfError;
pub use runtime::RuntimeConfig;

use crate::env::Command;
use crate::field::{Field, FieldError, Object, shown};
use crate::result::CniResult;
pub use crate::result::Dns;
use crate::version::SpecVersion;

/// The most bytes a configuration may have.
pub(crate) const LIMIT: usize = 1 << 20;

/// What every command needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Essentials {
    /// On whose behalf: the configuration's `name`, as far as it is legible.
    pub owner: Owner,
    /// The weft network.
    pub network: NetworkName,
    /// The agent's socket.
    pub socket: PathBuf,
    /// Where word is left of what the agent could not be told.
    pub journal: PathBuf,
    /// The IPAM plugin to delegate to; a plain basename.
    pub ipam: Option<String>,
}

/// A configuration as `ADD`, `CHECK` and `STATUS` need it: every key checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Conf {
    /// The version whose words are spoken.
    pub version: SpecVersion,
    /// What every command needs to know.
    pub essentials: Essentials,
    /// Addresses of name servers and the like, from the file.
    pub dns: Dns,
    /// What the runtime wants for this one container.
    pub runtime: RuntimeConfig,
    /// Whether `CHECK` shall find nothing.
    pub disable_check: bool,
    /// What the plugins before this one in the chain, or the last `ADD`, have made.
    pub previous: Option<CniResult>,
}

/// A configuration as `GC` needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct GcConf {
    /// What every command needs to know.
    pub essentials: Essentials,
    /// Whether `GC` shall remove nothing.
    pub disabled: bool,
    /// The attachments in use, if a list was given.
    pub keep: Option<Vec<(ContainerId, IfName)>>,
}

impl Conf {
    /// Reads a configuration for `command`.
    ///
    /// # Errors
    /// It is not JSON, speaks an unknown version, or one of its keys is missing, unknown or wrong.
    pub fn parse(text: &[u8], command: Command) -> Result<Conf, ConfError> {
        let map = decode(text)?;
        let root = Object::root(&map);
        let version = version_for(&root, command)?;
        // CHECK works on what an ADD has accepted, perhaps that of a newer weft: it minds its own keys.
        if command != Command::Check {
            keys::all_known(&map)?;
        }
        name(&root)?;
        plugin_type(&root)?;
        keys::types(&root)?;
        let mut runtime = RuntimeConfig::parse(&root)?;
        runtime.add_args(&root)?;
        let dns = root.get("dns").map(|f| Dns::parse(&f)).transpose()?.unwrap_or_default();
        let previous = root.get("prevResult").map(|f| CniResult::parse_field(&f));
        Ok(Conf {
            version,
            essentials: Essentials::strict(&root)?,
            dns,
            runtime,
            disable_check: root.get("disableCheck").is_some_and(|f| f.boolean_or_text() == Ok(true)),
            previous: previous.transpose().map_err(ConfError::Previous)?,
        })
    }

    /// What resolvers shall be told: the file's words, each replaced by the runtime's where it has some.
    #[must_use]
    pub fn resolvers(&self) -> Dns {
        self.dns.clone().overridden_by(&self.runtime.dns)
    }
}

impl Essentials {
    /// Reads what `DEL` needs and minds nothing else, so that whatever `ADD` has made can be removed.
    ///
    /// # Errors
    /// It is not JSON, or it is not to be made out which network is meant.
    pub fn parse(text: &[u8]) -> Result<Essentials, ConfError> {
        let map = decode(text)?;
        Essentials::lenient(&Object::root(&map))
    }

    fn lenient(root: &Object<'_>) -> Result<Essentials, ConfError> {
        let or = |key, default: &str| path(root, key, default).unwrap_or_else(|_| default.into());
        Ok(Essentials {
            owner: name(root).map(Owner::cni).unwrap_or_default(),
            network: network(root)?,
            socket: or("socket", api::SOCKET),
            journal: or("journal", api::JOURNAL),
            ipam: ipam(root).unwrap_or_default(),
        })
    }

    fn strict(root: &Object<'_>) -> Result<Essentials, ConfError> {
        Ok(Essentials {
            owner: Owner::cni(name(root)?),
            network: network(root)?,
            socket: path(root, "socket", api::SOCKET)?,
            journal: path(root, "journal", api::JOURNAL)?,
            ipam: ipam(root)?,
        })
    }
}

impl GcConf {
    /// Reads what `GC` needs. Both names of the list are understood: the specification's tag 1.1.0 has
    /// one, its main branch the other, and libcni sends both. An entry that could not have been accepted
    /// by `ADD` protects nothing of ours and is passed over; a list of another shape is an error,
    /// because to misread it would remove what is in use.
    ///
    /// # Errors
    /// It is not JSON, the network or the version is not to be made out, or the list is malformed.
    pub fn parse(text: &[u8]) -> Result<GcConf, ConfError> {
        let map = decode(text)?;
        let root = Object::root(&map);
        version_for(&root, Command::Gc)?;
        let mut keep = None;
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            let Some(list) = root.get(key) else { continue };
            let keep = keep.get_or_insert_with(Vec::new);
            for entry in list.list()? {
                let entry = entry.object()?;
                let (container, ifname) = (entry.require("containerID")?, entry.require("ifname")?);
                if let (Ok(container), Ok(ifname)) = (container.text()?.parse(), ifname.text()?.parse()) {
                    keep.push((container, ifname));
                }
            }
        }
        if let Some(keep) = &mut keep {
            keep.sort();
            keep.dedup();
        }
        let disabled = root.get("disableGC").is_some_and(|f| f.boolean_or_text() == Ok(true));
        Ok(GcConf { essentials: Essentials::lenient(&root)?, disabled, keep })
    }
}

/// The version a configuration speaks, if it is to be made out: for the words of an error about the rest.
pub(crate) fn version_of(text: &[u8]) -> Option<SpecVersion> {
    let map = decode(text).ok()?;
    version(&Object::root(&map)).ok()
}

/// JSON nested deeper than 128 levels is refused by `serde_json` itself.
fn decode(text: &[u8]) -> Result<Map<String, Value>, ConfError> {
    if text.len() > LIMIT {
        return Err(ConfError::TooLong { limit: LIMIT });
    }
    match serde_json::from_slice(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ConfError::NotAnObject),
        Err(source) => Err(ConfError::NotJson { source }),
    }
}

fn version(root: &Object<'_>) -> Result<SpecVersion, ConfError> {
    let Some(field) = root.get("cniVersion") else { return Ok(SpecVersion::UNNAMED) };
    match field.text()? {
        "" => Ok(SpecVersion::UNNAMED),
        text => text.parse().map_err(|_| ConfError::UnknownVersion { version: shown(text) }),
    }
}

fn version_for(root: &Object<'_>, command: Command) -> Result<SpecVersion, ConfError> {
    let version = version(root)?;
    let since = SpecVersion::since(command);
    if version < since {
        return Err(ConfError::CommandTooNew { command: command.as_str(), since, version });
    }
    Ok(version)
}

/// CNI SPEC.md 1.1.0, section 1: an alphanumeric character, then alphanumerics, `_`, `.` and `-`.
fn name<'a>(root: &Object<'a>) -> Result<&'a str, FieldError> {
    let field = root.require("name")?;
    let text = field.text()?;
    let good = |(i, b): (usize, u8)| b.is_ascii_alphanumeric() || (i > 0 && matches!(b, b'_' | b'.' | b'-'));
    if !text.is_empty() && text.len() <= 255 && text.bytes().enumerate().all(good) {
        return Ok(text);
    }
    Err(field.not("a network name: [a-zA-Z0-9] first, then [a-zA-Z0-9_.-], at most 255 bytes"))
}

/// The runtime has used `type` already to find this program; it is checked all the same, so that a
/// configuration meant to escape from a directory of plugins (CVE-2021-20206) is not taken for a good one.
fn plugin_type(root: &Object<'_>) -> Result<(), FieldError> {
    basename(&root.require("type")?).map(drop)
}

/// The plain name of a program: `^[a-z0-9][a-z0-9._-]*$`, at most 63 bytes. A network's name has the same rule.
fn basename(field: &Field<'_>) -> Result<String, FieldError> {
    let name: NetworkName = field.parse("the plain name of a program: [a-z0-9] first, then [a-z0-9._-]")?;
    Ok(name.into())
}

fn network(root: &Object<'_>) -> Result<NetworkName, FieldError> {
    match root.get("network") {
        Some(field) => field.parse("the name of a weft network: [a-z0-9] first, then [a-z0-9._-]"),
        None => Ok("default".parse().expect("the default's name follows the rule for names")),
    }
}

fn path(root: &Object<'_>, key: &str, default: &str) -> Result<PathBuf, FieldError> {
    let Some(field) = root.get(key) else { return Ok(default.into()) };
    let text = field.text()?;
    let good = Path::new(text).is_absolute() && text.len() < 4096 && !text.contains('\0');
    if good { Ok(text.into()) } else { Err(field.not("an absolute path")) }
}

/// `ipam: {}` means weft's own addresses, as no `ipam` does; settings without a `type` mean a mistake.
fn ipam(root: &Object<'_>) -> Result<Option<String>, FieldError> {
    let Some(field) = root.get("ipam") else { return Ok(None) };
    let ipam = field.object()?;
    if ipam.map.is_empty() {
        return Ok(None);
    }
    basename(&ipam.require("type")?).map(Some)
}

#[cfg(test)]
mod tests;
