//! `weft diff`: what the agent would change in the kernel now.

use std::process::ExitCode;

use weft_model::api::{Reply, Request};

use crate::cli::Session;
use crate::client::unexpected;
use crate::failure;
use crate::output::entry;

pub(crate) fn run(session: &Session) -> anyhow::Result<ExitCode> {
    let commands = match session.ask(&Request::Diff)? {
        Reply::Diff(commands) => commands,
        reply => return Err(unexpected(&reply)),
    };
    session.output.show(
        || {
            let mut document = entry("commands", &commands)?;
            document.extend(entry("agree", commands.is_empty())?);
            Ok(document)
        },
        || match commands.as_slice() {
            [] => "kernel and plan agree\n".to_owned(),
            commands => commands.iter().map(|c| format!("{c}\n")).collect(),
        },
    )?;
    // As diff(1): differences are not a failure, but a script wants to know.
    Ok(if commands.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(failure::FAILED) })
}
