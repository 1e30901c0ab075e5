//! `weft lab`: several hosts on one machine, to see and to break.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use weft_agent::Config;
use weft_lab::{Site, Standing, Store};

use crate::cli::Session;
use crate::containers::{end_all, places_of};
use crate::output::entry;
use crate::render::list;
use crate::table::Table;

#[derive(Debug, Args)]
pub(crate) struct Lab {
    /// Where the lab lives; its namespaces' names begin with the folder's
    #[arg(long, value_name = "FOLDER", default_value = "/run/weft-lab/lab")]
    folder: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make hosts on two segments with a router between them, an agent on each, and an etcd that they share
    Up {
        /// How many hosts
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
        hosts: u8,
        /// Without etcd: the lab writes a file by which the hosts know of each other
        #[arg(long)]
        quick: bool,
    },
    /// Run a container on a host, by `weft run` and in the background
    Run {
        /// The host
        host: String,
        /// What the container is called; in `weft ps` with the lab's name before it
        name: String,
        /// More words of `weft run`: options, image, command [default: busybox that only waits]
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORDS")]
        words: Vec<String>,
    },
    /// Run a command in the namespace of a host, of a container, or of the `router`
    Exec {
        /// Where
        at: String,
        /// The command with its arguments, behind `--`
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Show the hosts, the ways between them, and what is wrong
    Status,
    /// Lose a host: its wire is cut and its agent dies; done when the others know that it is gone
    Kill {
        /// The host
        host: String,
    },
    /// Cut two hosts off from each other
    Cut {
        /// One host
        one: String,
        /// The other
        other: String,
    },
    /// Mend all cuts and bring lost hosts back
    Heal,
    /// Take the lab down
    Down,
}

pub(crate) fn run(session: &Session, lab: Lab) -> anyhow::Result<ExitCode> {
    let open = || Site::open(&lab.folder).context("there is no lab: `weft lab up` makes one");
    let done = |said: String| session.output.show(|| entry("done", true), || said);
    match lab.command {
        Command::Up { hosts, quick } => {
            let program = std::env::current_exe().context("failed to find this program's own file")?;
            let store = if quick { Store::File } else { Store::Etcd };
            let site = Site::up(&lab.folder, &program, hosts.into(), store);
            show(session, &site.context("failed to make the lab")?)?;
        }
        Command::Run { host, name, words } => {
            let addresses = list(open()?.run(&host, &name, &words)?.iter());
            done(format!("{name} on {host}: {addresses}\n"))?;
        }
        Command::Exec { at, command } => {
            let code = open()?.exec(&at, &command)?.code().unwrap_or(1);
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
        }
        Command::Status => show(session, &open()?)?,
        Command::Kill { host } => {
            open()?.kill(&host)?;
            done(format!("{host} is lost\n"))?;
        }
        Command::Cut { one, other } => {
            open()?.cut(&one, &other)?;
            done(format!("{one} and {other} are cut off from each other\n"))?;
        }
        Command::Heal => {
            open()?.heal()?;
            done("all is whole again\n".to_owned())?;
        }
        Command::Down => {
            let site = open()?;
            for path in site.configurations().iter().filter(|path| path.exists()) {
                end_all(&places_of(&Config::load(path)?), false)?;
            }
            site.down()?;
            done("the lab is gone\n".to_owned())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(session: &Session, site: &Site) -> anyhow::Result<()> {
    let hosts = site.standing();
    let document = || {
        let each = hosts.iter().map(|h| serde_json::json!({ "name": h.name, "segment": h.segment, "addresses": h.addresses, "socket": h.socket, "status": h.status }));
        entry("hosts", each.collect::<Vec<_>>())
    };
    session.output.show(document, || {
        let mut table = Table::new(["HOST", "SEGMENT", "ADDRESSES", "AGENT", "WORKLOADS", "PEERS"]);
        hosts.iter().for_each(|host| table.row(row(host)));
        let cuts: String = site.cuts().map(|(a, b)| format!("cut: {a} {b}\n")).collect();
        let health: String = hosts.iter().flat_map(troubles).map(|t| format!("{t}\n")).collect();
        format!("{}{cuts}{health}", table.render(session.output))
    })
}

fn row(host: &Standing) -> [String; 6] {
    let (agent, workloads, peers) = match &host.status {
        None => ("gone".to_owned(), String::new(), String::new()),
        Some(status) => {
            let way = |p: &weft_model::api::PeerStatus| {
                let path = p.reaches.first().map_or("nowhere", |r| r.path.as_str());
                format!("{} {path}", p.node)
            };
            (
                format!("pid {}", status.pid),
                status.workloads.len().to_string(),
                list(status.peers.iter().map(way)),
            )
        }
    };
    [host.name.clone(), host.segment.to_string(), list(host.addresses.iter()), agent, workloads, peers]
}

fn troubles(host: &Standing) -> Vec<String> {
    let Some(status) = &host.status else { return Vec::new() };
    let peers = status.peers.iter().filter_map(|p| Some(format!("{}: {}", p.node, p.problem.as_ref()?)));
    status.health.iter().cloned().chain(peers).map(|t| format!("{}: {t}", host.name)).collect()
}
