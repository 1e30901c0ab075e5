//! `weft explain`: the way of a packet and what policy says of it, from the plan.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use serde_json::Value;
use weft_model::api::{Reply, Request};

use super::policy::{self, Target};
use crate::cli::Session;
use crate::client::unexpected;
use crate::{failure, render};

#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// From where: an address, a workload's name, or `host`
    from: String,
    /// To where: an address, a workload's name, or a host's; with a port and protocol policy is asked about those, else about ICMP
    #[arg(value_name = "TO[:PORT][/PROTOCOL]")]
    to: Target,
    /// Ask the objects and workloads of this folder instead of the agent; says nothing of the way
    #[arg(long, value_name = "DIR")]
    world: Option<PathBuf>,
}

pub(crate) fn run(session: &Session, args: Args) -> anyhow::Result<ExitCode> {
    if args.world.is_some() {
        return policy::explained(session, args.from, args.to, args.world);
    }
    let request = Request::Explain { from: bare(&args.from), to: bare(&args.to.whom) };
    let explanation = match session.ask(&request)? {
        Reply::Explanation(explanation) => *explanation,
        reply => return Err(unexpected(&reply)),
    };
    let judged = match policy::ask(session, args.from, args.to) {
        Ok(text) => Some(serde_json::from_str::<Value>(&text)?),
        Err(_) => None, // an end that is no workload and no address: a host, whom policies do not judge
    };
    let said = judged.as_ref().filter(|j| has_sides(j)).and_then(|j| j["text"].as_str()).unwrap_or_default();
    session.output.show(
        || match serde_json::to_value(&explanation).context("failed to write JSON")? {
            Value::Object(mut document) => {
                document.extend(judged.clone().map(|judged| ("policy".to_owned(), judged)));
                Ok(document)
            }
            _ => anyhow::bail!("the explanation is not an object"),
        },
        || {
            format!(
                "{}{}{said}",
                render::explanation(session.output, &explanation),
                if said.is_empty() { "" } else { "\n" }
            )
        },
    )?;
    let allowed = judged.as_ref().is_none_or(|j| j["allowed"] != false);
    Ok(if explanation.reached && allowed { ExitCode::SUCCESS } else { ExitCode::from(failure::FAILED) })
}

/// Whether a policy says something about one of the ends.
fn has_sides(judged: &Value) -> bool {
    let sides = |packet: &Value| packet["verdict"]["sides"].as_array().is_some_and(|sides| !sides.is_empty());
    judged["packets"].as_array().is_some_and(|packets| packets.iter().any(sides))
}

/// A workload's name without its namespace: the way is the same for all of a name.
fn bare(name: &str) -> String {
    name.rsplit_once('/').map_or(name, |(_, container)| container).to_owned()
}
