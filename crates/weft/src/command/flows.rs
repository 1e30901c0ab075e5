//! `weft flows`: what policy denies, as it happens.

use std::net::IpAddr;
use std::time::Duration;

use weft_model::api::{Denial, Flows, Reply, Request};

use crate::cli::Session;
use crate::client::unexpected;
use crate::output::{entry, write};

/// Between two questions while following.
const ROUND: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only packets that were denied, none that passed because the policy is under audit
    #[arg(long)]
    denied: bool,
    /// Go on with what is denied from now on, until interrupted
    #[arg(short, long)]
    follow: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let mut after = 0;
    loop {
        let mut denials = match session.ask(&Request::Flows(Flows { after }))? {
            Reply::Flows(denials) => denials,
            reply => return Err(unexpected(&reply)),
        };
        after = denials.last().map_or(after, |denial| denial.number);
        denials.retain(|denial| !(args.denied && denial.audit));
        if !args.follow {
            return session.output.show(
                || entry("flows", &denials),
                || match denials.as_slice() {
                    [] => "nothing was denied lately\n".to_owned(),
                    all => all.iter().map(line).collect(),
                },
            );
        }
        for denial in &denials {
            // One document a line, so that a reader need not wait for the end.
            let json =
                session.output.json.then(|| serde_json::to_string(denial).map(|j| j + "\n")).transpose()?;
            write(&json.unwrap_or_else(|| line(denial)))?;
        }
        std::thread::sleep(ROUND);
    }
}

/// A denial on a line: when, what, from, to, and what denied it.
fn line(denial: &Denial) -> String {
    let end = |name: &Option<String>, address: IpAddr| {
        name.as_ref().map_or_else(|| address.to_string(), |name| format!("{name} ({address})"))
    };
    let seconds = denial.at / 1000 % 86_400;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let verb = if denial.audit { "would deny" } else { "denied" };
    let port = denial.port.map(|port| format!(":{port}")).unwrap_or_default();
    format!(
        "{hour:02}:{minute:02}:{second:02}.{:03}Z  {verb} {}  {} -> {}{port}/{}  {}\n",
        denial.at % 1000,
        denial.direction.as_str(),
        end(&denial.source_name, denial.source),
        end(&denial.destination_name, denial.destination),
        protocol(denial.protocol),
        denial.by,
    )
}

/// A protocol by the name people use.
pub(crate) fn protocol(number: u8) -> String {
    match number {
        1 | 58 => "ICMP".to_owned(),
        number => weft_model::policy::Protocol::from_number(number)
            .map_or_else(|| format!("protocol {number}"), |p| p.to_string()),
    }
}
