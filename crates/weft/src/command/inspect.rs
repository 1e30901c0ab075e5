//! `weft inspect`: everything about one container: its cgroups, its layers, its namespaces.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use weft_runtime::{Container, Name, Places};

use crate::cli::Session;
use crate::command::ps;
use crate::failure::Failure;
use crate::table::Table;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container
    name: Name,
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let places = session.places()?;
    let found = Container::find(&places, &args.name);
    let c = found.map_err(|e| Failure::new(e.to_string()).hint("`weft ps -a` shows all containers"))?;
    session.output.show(|| Ok(document(&places, &c)), || text(session, &places, &c))
}

fn document(places: &Places, c: &Container) -> Map<String, Value> {
    let Value::Object(mut all) = ps::summary(c) else { return Map::new() };
    all.insert("spec".into(), json!(c.spec));
    all.insert("folder".into(), json!(places.containers().join(c.spec.name.as_str())));
    all.insert("cgroups".into(), json!(groups(c)));
    all
}

/// The cgroups that it is in, each with its controller.
fn groups(c: &Container) -> Vec<(String, PathBuf)> {
    let Some(live) = &c.live else { return Vec::new() };
    let unified = live.group.unified.iter().map(|folder| ("v2".to_owned(), folder.clone()));
    unified.chain(live.group.v1.iter().cloned()).collect()
}

fn text(session: &Session, places: &Places, c: &Container) -> String {
    let spec = &c.spec;
    let mut table = Table::plain();
    let mut row = |key: &str, value: String| table.row([key.to_owned(), value]);
    row("container", spec.name.to_string());
    row("status", ps::status(c));
    row("image", spec.root.text());
    row("command", spec.command.join(" "));
    row("folder", places.containers().join(spec.name.as_str()).display().to_string());
    let limits = &spec.limits;
    let none = || "no limit".to_owned();
    row("memory", limits.memory.map_or_else(none, |m| format!("at most {m} bytes")));
    row("processors", limits.cpus.map_or_else(none, |c| format!("at most {}", f64::from(c.0) / 1000.0)));
    row("processes", limits.pids.map_or_else(none, |p| format!("at most {p}")));
    if let Some(range) = spec.users.range() {
        row("users", format!("from {range} of the host's; 0 inside is {}", range.first));
    }
    row("network", spec.net.to_string());
    if let Some(live) = &c.live {
        for address in &live.addresses {
            row("address", address.to_string());
        }
        if let Some(netns) = &live.netns {
            row("namespace", netns.display().to_string());
        }
        row("shim", format!("pid {}", live.shim));
        if let Some(pid) = live.pid {
            row("process", format!("pid {pid}; its namespaces: /proc/{pid}/ns"));
        }
        for (controller, folder) in groups(c) {
            row(&format!("cgroup {controller}"), folder.display().to_string());
        }
        for lower in &live.root.lowerdirs {
            row("lowerdir", lower.display().to_string());
        }
        row("upperdir", live.root.upperdir.display().to_string());
        row("workdir", live.root.workdir.display().to_string());
        row("merged", live.root.merged.display().to_string());
    }
    for volume in &spec.volumes {
        let how = if volume.read_only { " (read-only)" } else { "" };
        row("volume", format!("{} on {}{how}", volume.source.display(), volume.target.display()));
    }
    for (key, value) in &spec.profile.labels {
        row("label", format!("{key}={value}"));
    }
    if let Some(end) = &c.end {
        row("exit code", end.code.to_string());
        row("out of memory", if end.oom { "yes" } else { "no" }.to_owned());
        row("restarts", end.restarts.to_string());
        if let Some(error) = &end.error {
            row("error", error.clone());
        }
    }
    table.render(session.output)
}
