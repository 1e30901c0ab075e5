//! `weft status`: the host, its networks, its workloads, what was refused, and what is wrong.

use anyhow::Context;
use serde_json::Value;
use weft_model::api::{Reply, Request};

use crate::cli::Session;
use crate::client::unexpected;
use crate::render;

pub(crate) fn run(session: &Session) -> anyhow::Result<()> {
    let status = match session.ask(&Request::Status)? {
        Reply::Status(status) => *status,
        reply => return Err(unexpected(&reply)),
    };
    session.output.show(
        || match serde_json::to_value(&status).context("failed to write JSON")? {
            Value::Object(document) => Ok(document),
            _ => anyhow::bail!("the status is not an object"),
        },
        || render::status(session.output, &status),
    )
}
