//! `weft logs`: what a container has written.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;
use weft_runtime::log::{Entry, Reader};
use weft_runtime::{Container, Name};

use crate::cli::Session;
use crate::failure::Failure;
use crate::output::{self, entry};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container
    name: Name,
    /// Go on until the container is over
    #[arg(long, short)]
    follow: bool,
    /// Only so many lines from the end
    #[arg(long, short = 'n', value_name = "LINES")]
    tail: Option<usize>,
    /// Say when each line was written
    #[arg(long, short)]
    timestamps: bool,
}

/// How often it is looked for more: a person does not notice.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let places = session.places()?;
    let find = || {
        let found = Container::find(&places, &args.name);
        found.map_err(|e| Failure::new(e.to_string()).hint("`weft ps -a` shows all containers"))
    };
    let mut over = find()?.end.is_some();
    let mut reader = Reader::open(&places.containers().join(args.name.as_str()));
    let mut entries = Vec::new();
    while let Some(entry) = reader.read().context("failed to read the log")? {
        entries.push(entry);
    }
    if let Some(tail) = args.tail {
        entries.drain(..entries.len().saturating_sub(tail));
    }
    if session.output.json && !args.follow {
        return session.output.show(|| entry("entries", &entries), String::new);
    }
    entries.iter().try_for_each(|e| show(session, args, e))?;
    if !args.follow {
        return Ok(());
    }
    loop {
        // Looked at before the log: what was written before the end is shown.
        let ended = over;
        reader.renew();
        while let Some(entry) = reader.read().context("failed to read the log")? {
            show(session, args, &entry)?;
        }
        if ended {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
        over = find().map_or(true, |c| c.end.is_some());
    }
}

/// Standard error of the container is standard error here.
fn show(session: &Session, args: &Args, entry: &Entry) -> anyhow::Result<()> {
    if session.output.json {
        return output::write(&format!("{}\n", serde_json::to_string(entry)?));
    }
    let stamp = if args.timestamps { format!("{} ", entry.time) } else { String::new() };
    let text = format!("{stamp}{}", entry.log);
    if entry.stream == "stderr" {
        let _ = io::stderr().lock().write_all(text.as_bytes());
        return Ok(());
    }
    output::write(&text)
}
