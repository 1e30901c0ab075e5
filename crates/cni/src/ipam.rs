//! Delegated IPAM: executing another CNI plugin that gives addresses (CNI SPEC.md 1.1.0, section 4,
//! "Plugin Delegation"). The only execution there is, and off unless the host's administrator lists the
//! plugin's name (BAR.md, security row 2).

mod error;
mod exec;
mod trust;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

pub(crate) use error::IpamError;

use crate::env::{Command, Env};
use crate::host::Host;
use crate::result::CniResult;

/// A plugin that may be executed, with what it will be told.
pub(crate) struct Ipam<'a> {
    name: String,
    program: PathBuf,
    env: &'a Env,
    conf: &'a [u8],
    patience: Duration,
}

impl<'a> Ipam<'a> {
    /// Finds the plugin `name` if there is one and it may be executed.
    pub(crate) fn find(
        name: Option<&str>,
        env: &'a Env,
        conf: &'a [u8],
        host: &Host,
    ) -> Result<Option<Ipam<'a>>, IpamError> {
        let Some(name) = name else { return Ok(None) };
        trust::listed(name, host)?;
        let program = trust::search(name, &env.plugin_dirs(), host.trusted_uid)?;
        Ok(Some(Ipam { name: name.to_owned(), program, env, conf, patience: host.patience }))
    }

    /// `ADD`: its addresses and what else it says.
    pub(crate) fn add(&self) -> Result<CniResult, IpamError> {
        let output = self.call(Command::Add)?;
        let unclear = |reason: String| IpamError::Unclear { name: self.name.clone(), reason };
        let value: Value = serde_json::from_slice(&output).map_err(|e| unclear(e.to_string()))?;
        let result = CniResult::parse(&value).map_err(|e| unclear(e.to_string()))?;
        if result.ips.is_empty() {
            return Err(IpamError::NoAddress { name: self.name.clone() });
        }
        Ok(result)
    }

    /// Any command; returns what it prints.
    pub(crate) fn call(&self, command: Command) -> Result<Vec<u8>, IpamError> {
        let (success, output) =
            exec::run(&self.program, self.env.with_command(command), self.conf, self.patience).map_err(
                |source| match source.kind() {
                    std::io::ErrorKind::TimedOut => {
                        IpamError::Slow { name: self.name.clone(), patience: self.patience }
                    }
                    _ => IpamError::Exec { program: self.program.clone(), source },
                },
            )?;
        if success { Ok(output) } else { Err(IpamError::failed(&self.name, &output)) }
    }
}
