//! `weft plan`: what this host's kernel should hold, as the agent computed it.

use anyhow::Context;
use serde_json::Value;
use weft_model::api::{Reply, Request};

use crate::cli::Session;
use crate::client::unexpected;
use crate::output::entry;

pub(crate) fn run(session: &Session) -> anyhow::Result<()> {
    let text = match session.ask(&Request::Plan)? {
        Reply::Plan(text) => text,
        reply => return Err(unexpected(&reply)),
    };
    let plan: Value = serde_json::from_str(&text).context("the agent's plan is not JSON")?;
    session.output.show(|| entry("plan", &plan), || format!("{plan:#}\n"))
}
