//! The limits that a systemd unit sets, applied without systemd: capabilities and system calls.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command};

use anyhow::{Context, Result, anyhow, ensure};
use seccompiler::{BpfProgram, TargetArch, compile_from_json};
use serde_json::{Value, json};

use crate::programs;

/// Capabilities and system calls that a process keeps.
#[derive(Clone, Debug)]
pub struct Confinement {
    /// As `CAP_NET_ADMIN`.
    pub capabilities: Vec<String>,
    filter: BpfProgram,
}

impl Confinement {
    /// Reads a unit's `CapabilityBoundingSet`, `NoNewPrivileges` and `SystemCallFilter`.
    ///
    /// # Errors
    /// If one of them is missing, or `systemd-analyze` does not know a group of calls.
    pub fn of_unit(unit: &str) -> Result<Confinement> {
        programs::require(&["setpriv", "systemd-analyze"])?;
        let values = |key: &str| {
            let key = format!("{key}=");
            unit.lines().filter_map(|l| l.strip_prefix(&key).map(str::to_owned)).collect::<Vec<_>>()
        };
        ensure!(values("NoNewPrivileges") == ["yes"], "the unit lacks NoNewPrivileges=yes");
        let capabilities = values("CapabilityBoundingSet").pop().context("no CapabilityBoundingSet")?;
        let mut calls = BTreeSet::new();
        let filters = values("SystemCallFilter");
        ensure!(!filters.is_empty(), "no SystemCallFilter");
        for line in filters {
            let (names, deny) = line.strip_prefix('~').map_or((line.as_str(), false), |rest| (rest, true));
            for call in
                names.split_whitespace().map(expand).collect::<Result<Vec<_>>>()?.into_iter().flatten()
            {
                if deny {
                    calls.remove(&call)
                } else {
                    calls.insert(call)
                };
            }
        }
        let capabilities = capabilities.split_whitespace().map(str::to_owned).collect();
        Ok(Confinement { capabilities, filter: compile(&calls)? })
    }

    /// The same without one capability.
    #[must_use]
    pub fn without(&self, capability: &str) -> Confinement {
        let kept = self.capabilities.iter().filter(|c| *c != capability).cloned().collect();
        Confinement { capabilities: kept, ..self.clone() }
    }

    /// What stands before a program's name, so that it keeps no other capability.
    pub(crate) fn wrapper(&self) -> String {
        let kept: Vec<String> =
            self.capabilities.iter().map(|c| c.trim_start_matches("CAP_").to_lowercase()).collect();
        let add: String = kept.iter().map(|c| format!(",+{c}")).collect();
        format!("setpriv --no-new-privs --inh-caps=-all --bounding-set=-all{add}")
    }

    /// Starts a program whose system calls, and those of all that it starts, are filtered.
    pub(crate) fn spawn(&self, mut command: Command) -> Result<Child> {
        // A filter is its thread's for good: on a thread of its own it is inherited by the child and nobody else.
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                seccompiler::apply_filter(&self.filter)?;
                Ok(command.spawn()?)
            });
            thread.join().map_err(|_| anyhow!("the thread that starts a confined program panicked"))?
        })
    }
}

/// The system calls of a group such as `@system-service`; of a single call that call.
fn expand(name: &str) -> Result<Vec<String>> {
    if !name.starts_with('@') {
        return Ok(vec![name.to_owned()]);
    }
    let output = Command::new("systemd-analyze").args(["syscall-filter", name]).output()?;
    ensure!(output.status.success(), "systemd-analyze does not know {name}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#') && *l != name);
    Ok(words.map(expand).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// A filter by which all other calls fail with EPERM. Calls that this machine does not have are left out.
fn compile(calls: &BTreeSet<String>) -> Result<BpfProgram> {
    let arch = || TargetArch::try_from(std::env::consts::ARCH);
    let program = |calls: &[&String]| -> Result<BpfProgram> {
        let rules: Vec<Value> = calls.iter().map(|c| json!({ "syscall": c })).collect();
        let filter = json!({ "only": { "mismatch_action": { "errno": 1 }, "match_action": "allow", "filter": rules } });
        let mut all: BTreeMap<String, BpfProgram> =
            compile_from_json(filter.to_string().as_bytes(), arch()?)?.into_iter().collect();
        all.remove("only").context("no filter")
    };
    let known: Vec<&String> = calls.iter().filter(|c| program(&[c]).is_ok()).collect();
    ensure!(known.len() > 100, "only {} system calls are known: {known:?}", known.len());
    program(&known)
}
