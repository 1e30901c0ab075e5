//! `weft policy`: why a connection passes or does not, and tests of policies without a network.

mod scenario;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use serde_json::json;
use weft_model::World;
use weft_model::api::{Judge, Reply, Request};
use weft_model::policy::Protocol;
use weft_plan::policy::matcher::Members;
use weft_plan::policy::{Packet, explain};

use crate::cli::Session;
use crate::client::unexpected;
use crate::failure::{FAILED, Failure, USAGE};
use crate::output::write;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Say whether policy lets a connection pass, what was looked at, and what would change it; exit code 1 if it does not pass
    Explain {
        /// Who begins it: NAMESPACE/CONTAINER, or an address
        #[arg(value_name = "FROM")]
        from: String,
        /// To whom: NAMESPACE/CONTAINER or an address, with port and protocol; an IPv6 address with a port wants brackets
        #[arg(value_name = "TO[:PORT][/PROTOCOL]")]
        to: Target,
        /// Ask the objects and workloads of this folder instead of the agent
        #[arg(long, value_name = "DIR")]
        world: Option<PathBuf>,
    },
    /// Judge connections of a file by its policies and say which are not as expected; needs no agent
    Test {
        /// The scenario: workloads, objects and what is expected
        #[arg(short, long = "filename", value_name = "PATH", required = true)]
        filename: Vec<PathBuf>,
    },
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(super) whom: String,
    port: u16,
    protocol: u8,
}

impl FromStr for Target {
    type Err = String;
    fn from_str(text: &str) -> Result<Target, String> {
        let (rest, protocol) = match text.rsplit_once('/') {
            Some((rest, word)) if word.eq_ignore_ascii_case("icmp") => (rest, Some(1)),
            Some((rest, word)) => match word.parse::<Protocol>() {
                Ok(protocol) => (rest, Some(protocol.number())),
                Err(_) => (text, None), // NAMESPACE/CONTAINER
            },
            None => (text, None),
        };
        let bare = rest.parse::<IpAddr>().is_ok();
        let (whom, port) = match rest.rsplit_once(':').filter(|_| !bare) {
            Some((whom, port)) => (whom, Some(port)),
            None => (rest, None),
        };
        let port = match port {
            Some(port) => {
                port.parse::<u16>().map_err(|_| format!("'{}' is not a port", port.escape_default()))?
            }
            None => 0,
        };
        let protocol = protocol.unwrap_or(if port == 0 { 1 } else { 6 });
        if port == 0 && Protocol::from_number(protocol).is_some() {
            return Err("TCP, UDP and SCTP want a port, such as shop/web:80/TCP".to_owned());
        }
        let whom = whom.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Target { whom, port, protocol })
    }
}

pub(crate) fn run(session: &Session, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Explain { from, to, world } => explained(session, from, to, world),
        Command::Test { filename } => scenario::run(session, &filename),
    }
}

/// What the agent says of a connection: a JSON document in text.
pub(super) fn ask(session: &Session, from: String, to: Target) -> anyhow::Result<String> {
    let Target { whom, port, protocol } = to;
    match session.ask(&Request::Judge(Judge { from, to: whom, protocol, port }))? {
        Reply::Judged(text) => Ok(text),
        reply => Err(unexpected(&reply)),
    }
}

pub(super) fn explained(
    session: &Session,
    from: String,
    to: Target,
    world: Option<PathBuf>,
) -> anyhow::Result<ExitCode> {
    let text = match world {
        None => ask(session, from, to)?,
        Some(folder) => {
            let world = scenario::world(&[folder])?.0;
            let members = Members::of(&world);
            let packets = explain::packets(&world, &members, &from, &to.whom, to.protocol, to.port)
                .map_err(|why| Failure::new(why).code(USAGE))?;
            serde_json::to_string(&explain::document(&world, &packets))?
        }
    };
    let document: serde_json::Value = serde_json::from_str(&text)?;
    let allowed = document["allowed"].as_bool().unwrap_or(false);
    session.output.show(
        || Ok(document.as_object().cloned().unwrap_or_default()),
        || document["text"].as_str().unwrap_or_default().to_owned(),
    )?;
    Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// A packet by words, for scenarios.
fn one(world: &World, members: &Members, from: &str, to: &Target) -> Result<Vec<Packet>, String> {
    explain::packets(world, members, from, &to.whom, to.protocol, to.port)
}

/// What a scenario's run says at its end.
fn summary(session: &Session, passed: usize, failed: &[String]) -> anyhow::Result<ExitCode> {
    if session.output.json {
        session.output.show(
            || Ok(json!({ "passed": passed, "failed": failed }).as_object().cloned().unwrap_or_default()),
            String::new,
        )?;
    } else {
        write(&format!("{}{passed} as expected, {} not\n", failed.concat(), failed.len()))?;
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_people_write_them() {
        let target = |whom: &str, port, protocol| Ok(Target { whom: whom.into(), port, protocol });
        for (text, wanted) in [
            ("shop/web:80/TCP", target("shop/web", 80, 6)),
            ("shop/web:53/udp", target("shop/web", 53, 17)),
            ("shop/web:80", target("shop/web", 80, 6)),
            ("shop/web", target("shop/web", 0, 1)),
            ("10.0.0.1:80", target("10.0.0.1", 80, 6)),
            ("fd00::1", target("fd00::1", 0, 1)),
            ("[fd00::1]:80/SCTP", target("fd00::1", 80, 132)),
            ("shop/web/ICMP", target("shop/web", 0, 1)),
        ] {
            assert_eq!(text.parse(), wanted, "{text}");
        }
        assert!("shop/web/TCP".parse::<Target>().is_err());
        assert!("shop/web:x".parse::<Target>().is_err());
    }
}
