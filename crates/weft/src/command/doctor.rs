//! `weft doctor`: what on this host hurts a container network. Works without an agent.

use std::process::ExitCode;

use weft_agent::doctor::{self, Severity};
use weft_model::api::{Reply, Request, Status};

use crate::cli::Session;
use crate::failure::{AGENT_AWAY, FAILED, Failure, code};
use crate::output::entry;
use crate::render;

pub(crate) fn run(session: &Session) -> anyhow::Result<ExitCode> {
    let facts = doctor::gather(status(session)?).map_err(|why| {
        anyhow::anyhow!(why).context(Failure::new("failed to look at this host").hint("run it as root"))
    })?;
    let findings = doctor::findings(&facts);
    session.output.show(|| entry("findings", &findings), || render::findings(session.output, &findings))?;
    let calls = findings.iter().any(|f| f.severity < Severity::Note);
    Ok(if calls { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

/// What the agent says of itself, if it is there.
fn status(session: &Session) -> anyhow::Result<Option<Status>> {
    match session.ask(&Request::Status) {
        Ok(Reply::Status(status)) => Ok(Some(*status)),
        Ok(reply) => Err(crate::client::unexpected(&reply)),
        Err(error) if code(&error) == AGENT_AWAY => Ok(None),
        Err(error) => Err(error),
    }
}
