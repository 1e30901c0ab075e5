//! `weft trace`: sends a packet and follows it hop by hop, through every rule that it meets.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use serde_json::{Value, json};
use weft_agent::trace::{Answer, Hop, Names, Place, Question, Side, follow, tell};
use weft_model::api::{Reply, Request, Status, WorkloadStatus};
use weft_model::policy::Protocol;

use super::policy::{self, Target};
use crate::cli::Session;
use crate::client::{exchange, unexpected};
use crate::failure::{FAILED, Failure};

#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// Who sends it: a workload of this host, or `host`
    from: String,
    /// To whom: a workload, a host or an address, with port and protocol (TCP or UDP); without a port it is an echo request
    #[arg(value_name = "TO[:PORT][/PROTOCOL]")]
    to: Target,
    /// The socket of another host's agent that runs on this machine, as in a lab: the packet is followed there, too
    #[arg(long, value_name = "SOCKET")]
    at: Vec<PathBuf>,
    /// How many seconds an answer is waited for
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    wait: u64,
}

/// A host with what is on it.
struct Host {
    side: Side,
    workloads: Vec<WorkloadStatus>,
}

pub(crate) fn run(session: &Session, args: Args) -> anyhow::Result<ExitCode> {
    let judged: Value = serde_json::from_str(&policy::ask(session, args.from.clone(), args.to)?)?;
    let packet = &judged["packets"][0]["packet"];
    let address = |end: &str| packet[end].as_str().and_then(|text| text.parse::<IpAddr>().ok());
    let (source, destination) =
        address("source").zip(address("destination")).context("the agent named no packet")?;
    let number = |key: &str| packet[key].as_u64().unwrap_or(0);
    let (protocol, port) = (u8::try_from(number("protocol"))?, u16::try_from(number("port"))?);

    let Reply::Status(status) = session.ask(&Request::Status)? else {
        anyhow::bail!("the agent said no status")
    };
    let mut hosts = vec![host(*status)];
    for socket in &args.at {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("failed to ask {}", socket.display()))?;
        match exchange(stream, &Request::Status)? {
            Reply::Status(status) => hosts.push(host(*status)),
            reply => return Err(unexpected(&reply)),
        }
    }
    let (from, to) = (workload(&hosts[..1], source), workload(&hosts, destination));
    if from.is_none() && args.from != "host" && !args.from.starts_with("node/") {
        let message = format!("{source} is no workload of this host, which could send the packet");
        return Err(Failure::new(message).hint("ask on the host that it is on").into());
    }
    let place = |w: &WorkloadStatus| Place { netns: w.netns.clone(), ifname: w.id.ifname.to_string() };
    let question = Question {
        hosts: hosts.iter().map(|host| host.side.clone()).collect(),
        from: from.map(place),
        to: to.map(place),
        source,
        destination,
        protocol,
        port,
        patience: Duration::from_secs(args.wait),
    };
    let name = |found: Option<&WorkloadStatus>, address: IpAddr| {
        found.map_or_else(|| address.to_string(), |w| w.id.container.to_string())
    };
    let names = Names {
        from: from.map_or_else(|| hosts[0].side.node.clone(), |w| w.id.container.to_string()),
        to: name(to, destination),
        wires: wires(&hosts),
        causes: causes(&judged),
        around: around(session, source, destination),
    };
    let seen = follow(&question)?;
    let hops = tell(&question, &seen, &names);
    let lost = hops.iter().any(|hop| hop.lost);
    let came = seen.arrived == Some(true) || matches!(seen.answer, Some(Answer::Accepted | Answer::Refused));
    let ends = match seen.port {
        Some(own) => {
            let word = Protocol::from_number(protocol).map(|p| format!(" {p}")).unwrap_or_default();
            format!("{} -> {}{word}", SocketAddr::new(source, own), SocketAddr::new(destination, port))
        }
        None => format!("{source} -> {destination} ICMP"),
    };
    let fixes: Vec<&str> = judged["packets"][0]["fixes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|fix| fix["words"].as_str())
        .filter(|_| lost)
        .collect();
    session.output.show(
        || {
            let document = json!({
                "packet": packet, "port": seen.port, "hops": hops, "arrived": seen.arrived, "answer": seen.answer,
                "lost": lost, "fixes": fixes,
            });
            Ok(document.as_object().cloned().unwrap_or_default())
        },
        || text(&ends, &hops, &fixes),
    )?;
    Ok(if came && !lost { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn host(status: Status) -> Host {
    let netns = format!("/proc/{}/ns/net", status.pid).into();
    Host { side: Side { node: status.node.to_string(), netns }, workloads: status.workloads }
}

fn workload(hosts: &[Host], address: IpAddr) -> Option<&WorkloadStatus> {
    let mut all = hosts.iter().flat_map(|host| &host.workloads);
    all.find(|w| w.addresses.iter().any(|a| a.addr() == address))
}

fn wires(hosts: &[Host]) -> BTreeMap<String, String> {
    let all = hosts.iter().flat_map(|host| &host.workloads);
    let wires = all.map(|w| (w.host_ifname.to_string(), w.id.container.to_string()));
    wires.chain([("host".to_owned(), "the host".to_owned())]).collect()
}

/// What policy says denies the packet, by direction.
fn causes(judged: &Value) -> BTreeMap<String, String> {
    let sides = judged["packets"][0]["verdict"]["sides"].as_array().into_iter().flatten();
    let cause = |by: &Value| match (&by["rule"], by["isolated"].as_array()) {
        (Value::Object(rule), _) => Some(format!("{} {}", rule["policy"].as_str()?, rule["rule"].as_str()?)),
        (_, Some(policies)) => {
            let names: Vec<&str> = policies.iter().filter_map(Value::as_str).collect();
            Some(format!("isolated by {}; no rule matches", names.join(", ")))
        }
        _ => None,
    };
    let denied = sides.filter(|side| side["allowed"] == false);
    denied
        .filter_map(|side| Some((side["direction"].as_str()?.to_lowercase(), cause(&side["by"])?)))
        .collect()
}

/// What the plan says is put around the packet.
fn around(session: &Session, source: IpAddr, destination: IpAddr) -> Option<String> {
    let request = Request::Explain { from: source.to_string(), to: destination.to_string() };
    match session.ask(&request) {
        Ok(Reply::Explanation(explanation)) => {
            explanation.hops.into_iter().map(|hop| hop.does).find(|does| does.starts_with("VXLAN"))
        }
        _ => None,
    }
}

fn text(ends: &str, hops: &[Hop], fixes: &[&str]) -> String {
    let width = hops.iter().map(|hop| hop.at.chars().count()).max().unwrap_or(0);
    let mut text = format!("{ends}\n");
    for (number, hop) in (1..).zip(hops) {
        let mark = if hop.lost { "✗" } else { " " };
        text += &format!("{number:>3} {mark} {:width$}  {}\n", hop.at, hop.what);
    }
    for fix in fixes {
        text += &format!("to let it pass: {fix}\n");
    }
    text
}
