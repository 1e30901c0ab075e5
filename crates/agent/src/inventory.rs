//! Everything in a kernel that is weft's, with or without an agent; and its removal.

use weft_dataplane::{Wanted, steps};
use weft_kernel::state::Sysctl;
use weft_kernel::{Change, Kernel, Linux, ReadError, State};
use weft_model::api::Owned;
use weft_store::Embedded;

use crate::{Config, chain, clock};

/// Lists what is weft's in the kernel of the calling thread's namespace.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn of(kernel: &mut Linux) -> Result<Vec<Owned>, ReadError> {
    Ok(list(&kernel.read(&[])?))
}

fn list(state: &State) -> Vec<Owned> {
    let mut all = Vec::new();
    let mut owned = |kind: &str, object: String| all.push(Owned { kind: kind.to_owned(), object });
    for (name, link) in &state.links {
        let alias = link.alias.as_ref().map(|a| format!(" alias '{a}'")).unwrap_or_default();
        owned("link", format!("{name} group {:#x}{alias}", link.group));
    }
    state.addresses.iter().for_each(|(name, address)| owned("address", format!("{address} dev {name}")));
    for ((name, address), mac) in &state.neighbours {
        owned("neighbour", format!("{address} lladdr {mac} dev {name}"));
    }
    for ((name, mac), to) in &state.forwarding {
        owned("forwarding", format!("{mac} dst {to} dev {name}"));
    }
    state.routes.iter().for_each(|(to, route)| owned("route", format!("{to} dev {}", route.device)));
    for (name, shape) in &state.shapes {
        owned("limit", format!("dev {name} rate {}bit", shape.rate * 8));
    }
    state.detours.iter().for_each(|(name, by)| owned("detour", format!("dev {name} by {by}")));
    for (name, table) in &state.tables {
        let elements: usize = table.sets.values().map(|s| s.elements.len()).sum();
        owned("nftables", format!("table {name}: {} chains, {elements} elements", table.chains.len()));
    }
    if let Some(loopback) = &state.loopback {
        let count = loopback.ports.len();
        owned(
            "bpf",
            format!("programs at the sockets of the host's processes, {count} ports of the loopback"),
        );
    }
    all
}

/// Without an agent.
pub(crate) fn offline() -> Result<Vec<Owned>, String> {
    let mut kernel = Linux::open().map_err(|e| chain(&e))?.with_loopback(Config::default().loopback());
    of(&mut kernel).map_err(|e| chain(&e))
}

/// Removes everything and puts settings back. Every failure is reported; none stops the rest.
pub(crate) fn remove_all(config: &Config) -> Result<Vec<String>, String> {
    let mut kernel = Linux::open().map_err(|e| chain(&e))?.with_loopback(config.loopback());
    let found = kernel.read(&[]).map_err(|e| chain(&e))?;
    // Retiring is for a busy agent: here everything is deleted on the spot.
    let at_once = |change: Change| match change {
        Change::Retire(name) => Change::DeleteLink(name),
        other => other,
    };
    let mut changes: Vec<Change> = steps(&Wanted::default(), &found).into_iter().map(at_once).collect();
    for name in found.links.keys() {
        let gone = Change::DeleteLink(name.clone());
        if !changes.contains(&gone) {
            changes.push(gone);
        }
    }
    changes.extend(former_settings(config));
    let answers = kernel.apply(&changes);
    let errors: Vec<String> = answers.iter().filter_map(|a| a.as_ref().err()).map(|e| chain(e)).collect();
    if !errors.is_empty() {
        return Err(errors.join("\n"));
    }
    Ok(changes.iter().flat_map(Change::commands).collect())
}

/// The settings as they were before the first agent changed them.
fn former_settings(config: &Config) -> Vec<Change> {
    let paths = weft_store::Paths { state_dir: config.state_dir.clone(), run_dir: config.run_dir.clone() };
    if !paths.state_dir.exists() {
        return Vec::new();
    }
    let Ok((mut store, _)) = Embedded::open(&paths, &clock::boot_id()) else { return Vec::new() };
    let Ok(loaded) = weft_store::Store::load(&mut store) else { return Vec::new() };
    let restore = |(path, value): (String, String)| Some((Sysctl::from_record(&path)?, value));
    let mut settings: Vec<(Sysctl, String)> = loaded.sysctls.into_iter().filter_map(restore).collect();
    // Forwarding goes off before uplinks believe routers less, or the routes learnt from them would go.
    settings.sort_by_key(|(key, _)| key.link().is_some());
    settings.into_iter().map(|(key, value)| Change::SetSysctl(key, value)).collect()
}
