//! `weft explain`: the way of a packet, from the plan.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use serde_json::Value;
use weft_model::api::{Reply, Request};

use crate::cli::Session;
use crate::client::unexpected;
use crate::{failure, render};

#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// From where: an address, a workload's name, or `host`
    from: String,
    /// To where: an address, a workload's name, or a host's
    to: String,
}

pub(crate) fn run(session: &Session, args: Args) -> anyhow::Result<ExitCode> {
    let request = Request::Explain { from: args.from, to: args.to };
    let explanation = match session.ask(&request)? {
        Reply::Explanation(explanation) => *explanation,
        reply => return Err(unexpected(&reply)),
    };
    session.output.show(
        || match serde_json::to_value(&explanation).context("failed to write JSON")? {
            Value::Object(document) => Ok(document),
            _ => anyhow::bail!("the explanation is not an object"),
        },
        || render::explanation(session.output, &explanation),
    )?;
    Ok(if explanation.reached { ExitCode::SUCCESS } else { ExitCode::from(failure::FAILED) })
}
