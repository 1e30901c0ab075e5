//! `weft ps`: the containers of this host.

use std::process::ExitCode;

use serde_json::{Map, Value, json};
use weft_runtime::container::Phase;
use weft_runtime::{Container, time};

use crate::cli::Session;
use crate::output::entry;
use crate::table::Table;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Those that are over, too
    #[arg(long, short)]
    all: bool,
    /// Names only
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<ExitCode> {
    let places = session.places()?;
    let mut containers = Container::all(&places);
    containers.retain(|c| args.all || c.phase() != Phase::Exited);
    let document = || entry("containers", containers.iter().map(summary).collect::<Vec<_>>());
    session.output.show(document, || {
        if args.quiet {
            return containers.iter().map(|c| format!("{}\n", c.spec.name)).collect();
        }
        let mut table =
            Table::new(["NAME", "IMAGE", "COMMAND", "STATUS", "NETWORK", "ADDRESSES", "PID"]).right(6);
        for c in &containers {
            let live = c.live.as_ref();
            let addresses =
                live.map(|l| l.addresses.iter().map(|a| a.addr().to_string()).collect::<Vec<_>>());
            table.row([
                c.spec.name.to_string(),
                c.spec.root.text(),
                shortened(&c.spec.command.join(" ")),
                status(c),
                c.spec.net.to_string(),
                addresses.unwrap_or_default().join(", "),
                live.and_then(|l| l.pid).map(|p| p.to_string()).unwrap_or_default(),
            ]);
        }
        table.render(session.output)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A container in a line of JSON.
pub(crate) fn summary(c: &Container) -> Value {
    let mut all = Map::new();
    all.insert("name".into(), json!(c.spec.name));
    all.insert("image".into(), json!(c.spec.root.text()));
    all.insert("command".into(), json!(c.spec.command));
    all.insert("phase".into(), json!(c.phase()));
    all.insert("status".into(), json!(status(c)));
    all.insert("network".into(), json!(c.spec.net.to_string()));
    all.insert("live".into(), json!(c.live));
    all.insert("end".into(), json!(c.end));
    all.insert("labels".into(), json!(c.spec.profile.labels));
    Value::Object(all)
}

/// `up 5 s`, `exited 0, 3 s ago`, `killed: beyond its memory, 3 s ago`.
pub(crate) fn status(c: &Container) -> String {
    let since = |at: u64| {
        let seconds = time::now().saturating_sub(at) / 1000;
        match seconds {
            0..120 => format!("{seconds} s"),
            120..7200 => format!("{} min", seconds / 60),
            7200..172_800 => format!("{} h", seconds / 3600),
            _ => format!("{} days", seconds / 86_400),
        }
    };
    match (&c.end, &c.live) {
        (Some(end), _) if end.oom => format!("OOM, exited {}, {} ago", end.code, since(end.at)),
        (Some(end), _) => match &end.error {
            Some(error) => format!("exited {}, {} ago: {error}", end.code, since(end.at)),
            None => format!("exited {}, {} ago", end.code, since(end.at)),
        },
        (None, Some(live)) => match live.phase {
            Phase::Running => format!("up {}", since(live.started.unwrap_or_else(time::now))),
            Phase::Restarting => format!("restarting ({})", live.restarts + 1),
            Phase::Created | Phase::Exited => "starting".to_owned(),
        },
        (None, None) => "starting".to_owned(),
    }
}

fn shortened(command: &str) -> String {
    let plain: String = command.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if plain.chars().count() <= 30 {
        return plain;
    }
    plain.chars().take(29).chain(['…']).collect()
}
