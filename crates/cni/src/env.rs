//! The environment variables of a call (CNI SPEC.md 1.1.0, section 2, "Parameters").
//!
//! Never reads the process's environment but in [`Env::from_process`].

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use weft_model::{ContainerId, IfName, InvalidName};

use crate::args::{Args, ArgsError};
use crate::field::shown;

/// What a runtime wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Connect a container.
    Add,
    /// Disconnect it.
    Del,
    /// Compare what is with what should be.
    Check,
    /// Tell whether `ADD` would work.
    Status,
    /// Remove what is not in use any more.
    Gc,
    /// Tell the versions spoken.
    Version,
}

impl Command {
    const ALL: [Command; 6] =
        [Command::Add, Command::Del, Command::Check, Command::Status, Command::Gc, Command::Version];

    /// As it stands in `CNI_COMMAND`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Status => "STATUS",
            Command::Gc => "GC",
            Command::Version => "VERSION",
        }
    }

    /// The variables without which it cannot be done. `CNI_PATH` is not among them although the
    /// specification lists it: only a delegated IPAM plugin is searched for.
    const fn needs(self) -> &'static [&'static str] {
        match self {
            Command::Add | Command::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
            Command::Del => &["CNI_CONTAINERID", "CNI_IFNAME"],
            Command::Status | Command::Gc | Command::Version => &[],
        }
    }
}

/// A variable is missing or makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// Nobody said what to do.
    #[error("CNI_COMMAND is not set")]
    NoCommand,
    /// Somebody said something else.
    #[error("CNI_COMMAND '{0}' is not one of ADD, DEL, CHECK, STATUS, GC, VERSION")]
    UnknownCommand(String),
    /// The command needs more.
    #[error("{command} needs {}", names.join(", "))]
    Missing {
        /// The command.
        command: &'static str,
        /// The variables it needs and has not got.
        names: Vec<&'static str>,
    },
    /// A variable is not text.
    #[error("{0} is not UTF-8")]
    NotText(&'static str),
    /// A name is not acceptable.
    #[error("{name}: {source}")]
    Name {
        /// The variable.
        name: &'static str,
        /// Why.
        source: InvalidName,
    },
    /// A path is not acceptable.
    #[error("CNI_NETNS '{value}' {reason}")]
    Netns {
        /// The path.
        value: String,
        /// Why.
        reason: &'static str,
    },
    /// `CNI_ARGS` makes no sense.
    #[error("CNI_ARGS: {0}")]
    Args(#[from] ArgsError),
}

/// The environment of a call.
#[derive(Clone, Debug, Default)]
pub struct Env {
    vars: Vec<(OsString, OsString)>,
}

impl Env {
    /// The environment of this process.
    #[must_use]
    pub fn from_process() -> Env {
        Env { vars: std::env::vars_os().collect() }
    }

    /// An environment made of pairs.
    pub fn new<K: Into<OsString>, V: Into<OsString>>(vars: impl IntoIterator<Item = (K, V)>) -> Env {
        Env { vars: vars.into_iter().map(|(k, v)| (k.into(), v.into())).collect() }
    }

    /// The same environment with another command, for a plugin that is delegated to.
    pub(crate) fn with_command(&self, command: Command) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        let others = self.vars.iter().filter(|(k, _)| k != "CNI_COMMAND");
        others
            .map(|(k, v)| (k.as_os_str(), v.as_os_str()))
            .chain([(OsStr::new("CNI_COMMAND"), OsStr::new(command.as_str()))])
    }

    /// What is wanted.
    ///
    /// # Errors
    /// `CNI_COMMAND` is missing or unknown, or one of the variables that the command needs is missing.
    pub fn command(&self) -> Result<Command, EnvError> {
        let name = self.text("CNI_COMMAND")?.ok_or(EnvError::NoCommand)?;
        let command = Command::ALL.into_iter().find(|c| c.as_str() == name);
        let command = command.ok_or_else(|| EnvError::UnknownCommand(shown(name)))?;
        let missing = command.needs().iter().filter(|name| self.raw(name).is_none());
        let names: Vec<_> = missing.copied().collect();
        if names.is_empty() {
            Ok(command)
        } else {
            Err(EnvError::Missing { command: command.as_str(), names })
        }
    }

    /// The container and the name of its interface.
    ///
    /// # Errors
    /// One of them is missing or not a valid name.
    pub fn target(&self) -> Result<(ContainerId, IfName), EnvError> {
        let container = self.name("CNI_CONTAINERID")?;
        Ok((container, self.name("CNI_IFNAME")?))
    }

    /// The namespace's file, if one is named.
    ///
    /// # Errors
    /// It is not an absolute path without detours.
    pub fn netns(&self) -> Result<Option<PathBuf>, EnvError> {
        let Some(value) = self.text("CNI_NETNS")? else { return Ok(None) };
        let path = Path::new(value);
        let bad = |reason| Err(EnvError::Netns { value: shown(value), reason });
        if !path.is_absolute() {
            return bad("is not an absolute path");
        }
        if path.components().any(|c| c == Component::ParentDir) {
            return bad("leads through '..'");
        }
        if value.len() > 4095 {
            return bad("is longer than a path can be");
        }
        if value.contains(char::is_control) {
            return bad("has control characters");
        }
        Ok(Some(path.to_owned()))
    }

    /// What `CNI_ARGS` says.
    ///
    /// # Errors
    /// It is not a list of known pairs.
    pub fn args(&self) -> Result<Args, EnvError> {
        Ok(Args::parse(self.text("CNI_ARGS")?.unwrap_or_default())?)
    }

    /// Where plugins are searched for. Relative entries would depend on where the runtime was
    /// started and are left out.
    pub(crate) fn plugin_dirs(&self) -> Vec<PathBuf> {
        let Some(value) = self.raw("CNI_PATH") else { return Vec::new() };
        std::env::split_paths(value).filter(|dir| dir.is_absolute()).collect()
    }

    fn name<T: std::str::FromStr<Err = InvalidName>>(&self, name: &'static str) -> Result<T, EnvError> {
        let value = self.text(name)?.unwrap_or_default();
        value.parse().map_err(|source| EnvError::Name { name, source })
    }

    /// A variable; an empty one counts as missing, as libcni has it.
    fn raw(&self, name: &str) -> Option<&OsStr> {
        let var = self.vars.iter().find(|(k, v)| k == name && !v.is_empty());
        var.map(|(_, v)| v.as_os_str())
    }

    fn text(&self, name: &'static str) -> Result<Option<&str>, EnvError> {
        self.raw(name).map(|v| v.to_str().ok_or(EnvError::NotText(name))).transpose()
    }
}

#[cfg(test)]
mod tests;
