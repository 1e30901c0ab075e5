//! Why a connection passes or does not, for people and programs.

use std::net::IpAddr;

use serde::Serialize;
use weft_model::policy::Protocol;
use weft_model::{Object, World};

use super::Packet;
use super::fix::fixes;
use super::host::{self, Hosts};
use super::matcher::Members;
use super::verdict::{Side, Verdict, verdict};

/// What is said about one packet.
#[derive(Debug, Serialize)]
struct Said {
    packet: Packet,
    verdict: Verdict,
    fixes: Vec<Suggestion>,
}

#[derive(Debug, Serialize)]
struct Suggestion {
    words: String,
    object: Object,
}

/// The packets of a connection between two that are named `NAMESPACE/CONTAINER`, `CONTAINER`, `node/NAME` or by address: one for each
/// family that both have.
///
/// # Errors
/// In words, if somebody is not known or the two have no family in common.
pub fn packets(
    world: &World,
    members: &Members,
    from: &str,
    to: &str,
    protocol: u8,
    port: u16,
) -> Result<Vec<Packet>, String> {
    let (sources, destinations) = (addresses(world, members, from)?, addresses(world, members, to)?);
    let mut packets = Vec::new();
    for source in &sources {
        for destination in destinations.iter().filter(|d| d.is_ipv4() == source.is_ipv4()) {
            let protocol = if protocol == 1 && source.is_ipv6() { 58 } else { protocol };
            packets.push(Packet { source: *source, destination: *destination, protocol, port });
        }
    }
    // A host has several addresses of a family; its policies ask for none of them.
    if [from, to].iter().any(|end| end.starts_with(NODE)) {
        let mut seen = std::collections::BTreeSet::new();
        packets.retain(|packet| seen.insert(packet.source.is_ipv4()));
    }
    if packets.is_empty() {
        Err(format!("{from} and {to} have no family of addresses in common"))
    } else {
        Ok(packets)
    }
}

/// How hosts are named among workloads.
pub const NODE: &str = "node/";

fn addresses(world: &World, members: &Members, whom: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = whom.parse() {
        return Ok(vec![address]);
    }
    if let Some(name) = whom.strip_prefix(NODE) {
        let found = name.parse().ok().map(|name| host::addresses(world, &name)).unwrap_or_default();
        let none = || Err(format!("there is no host '{}' with an address", name.escape_default()));
        return if found.is_empty() { none() } else { Ok(found) };
    }
    // `weft attach NAME` calls a container after its network namespace.
    let short = |container: &str| container.strip_prefix("netns-").unwrap_or(container) == whom;
    let bare =
        |name: &str| name.split_once('/').is_some_and(|(_, container)| container == whom || short(container));
    let found: Vec<_> = members.all.iter().filter(|m| m.name == whom || bare(&m.name)).collect();
    let names: std::collections::BTreeSet<&str> = found.iter().map(|m| m.name.as_str()).collect();
    match names.len() {
        0 => Err(format!(
            "there is no workload '{}'; give NAMESPACE/CONTAINER or an address",
            whom.escape_default()
        )),
        1 => Ok(found.iter().flat_map(|m| m.addresses.iter().copied()).collect()),
        _ => Err(format!("'{whom}' can be {}", names.into_iter().collect::<Vec<_>>().join(" or "))),
    }
}

/// A JSON document: `allowed`, `packets` with verdicts and fixes, and `text` for people.
#[must_use]
pub fn document(world: &World, packets: &[Packet]) -> Document {
    let all: Vec<Said> = packets
        .iter()
        .map(|packet| Said {
            packet: *packet,
            verdict: verdict(world, packet),
            fixes: fixes(world, packet)
                .into_iter()
                .map(|fix| Suggestion { words: fix.words, object: fix.object })
                .collect(),
        })
        .collect();
    let (members, hosts) = (Members::of(world), Hosts::of(world));
    let text = all.iter().map(|said| words(&members, &hosts, said)).collect::<Vec<_>>().join("\n");
    Document { allowed: all.iter().all(|said| said.verdict.allowed), text, packets: all }
}

/// What [`document`] makes.
#[derive(Debug, Serialize)]
pub struct Document {
    /// Whether all of the packets pass.
    pub allowed: bool,
    /// For people.
    pub text: String,
    packets: Vec<Said>,
}

fn words(members: &Members, hosts: &Hosts<'_>, Said { packet, verdict, fixes }: &Said) -> String {
    let end = |address: IpAddr| match (members.end(address).workload, hosts.at(address)) {
        (Some(member), _) => format!("{} ({address})", member.name),
        (None, Some(node)) => format!("{NODE}{node} ({address})"),
        (None, None) => address.to_string(),
    };
    let port = match Protocol::from_number(packet.protocol) {
        Some(protocol) => format!(" port {} {protocol}", packet.port),
        None if matches!(packet.protocol, 1 | 58) => " ICMP".to_owned(),
        None => format!(" protocol {}", packet.protocol),
    };
    let said = if verdict.allowed { "passes" } else { "is denied" };
    let mut text = format!("{} -> {}{port}  {said}\n", end(packet.source), end(packet.destination));
    if verdict.sides.is_empty() {
        text += "  no policy says anything about either end\n";
    }
    verdict.sides.iter().for_each(|side| text += &side_words(side));
    for fix in fixes {
        text += &format!("  to let it pass: {}\n", fix.words);
    }
    text
}

fn side_words(side: &Side) -> String {
    let word = if side.allowed { "passes" } else { "denied" };
    let mut text = format!("  {} of {}: {word}: {}\n", side.direction.as_str(), side.workload, side.by);
    for considered in &side.considered {
        let matched = if considered.matched { "matches" } else { "does not match" };
        text +=
            &format!("    {} {} ({:?}) {matched}\n", considered.policy, considered.rule, considered.action);
    }
    if let Some(cause) = &side.audit {
        text += &format!("    under audit, would be denied: {cause}\n");
    }
    text
}
