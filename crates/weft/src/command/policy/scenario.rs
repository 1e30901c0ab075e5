//! Scenarios: workloads, policies and expectations in files, judged without a network.
//!
//! Beside the objects that `weft apply` takes there are kinds for files only: `Workload`, `Node` and `Expectation`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;
use weft_model::policy::NamedPorts;
use weft_model::world::{Remote, RemoteName};
use weft_model::{AttachmentId, Labels, NamespaceName, Node, NodeName, ObjectName, World};
use weft_plan::policy::matcher::Members;
use weft_plan::policy::verdict;

use super::{Target, one, summary};
use crate::cli::Session;
use crate::manifest::{self, Extra};

/// The group of the kinds for files only.
const GROUP: &str = "weft.network/v1alpha1";

/// A workload as a file has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Workload {
    name: ObjectName,
    #[serde(default = "weft_model::namespace::default_namespace")]
    namespace: NamespaceName,
    #[serde(default)]
    labels: Labels,
    addresses: Vec<IpAddr>,
    #[serde(default)]
    ports: NamedPorts,
}

/// A host as a file has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Host {
    name: NodeName,
    addresses: Vec<IpAddr>,
    #[serde(default)]
    zone: Option<String>,
}

/// What is expected of a connection.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Expectation {
    from: String,
    to: String,
    allowed: bool,
}

/// The world that files describe, and what they expect of it.
pub(super) fn world(paths: &[PathBuf]) -> anyhow::Result<(World, Vec<Expectation>)> {
    let mut world = World::default();
    let mut expected = Vec::new();
    for path in paths {
        let (objects, extras) = manifest::load_with(path, GROUP, &["Workload", "Node", "Expectation"])?;
        objects.into_iter().for_each(|object| drop(world.declared.insert(object)));
        for extra in extras {
            match extra.kind.as_str() {
                "Workload" => add(&mut world, extra.read()?)?,
                "Node" => {
                    let Host { name, addresses, zone } = extra.read()?;
                    let addresses = addresses.into_iter().map(IpNet::from).collect();
                    world.nodes.insert(name, Node { addresses, zone, ..Node::alone(1500) });
                }
                _ => expected.extend(list(&extra)?),
            }
        }
    }
    Ok((world, expected))
}

/// `spec` of an Expectation is one or several.
fn list(extra: &Extra) -> anyhow::Result<Vec<Expectation>> {
    if extra.spec.is_array() { extra.read() } else { Ok(vec![extra.read()?]) }
}

fn add(world: &mut World, workload: Workload) -> anyhow::Result<()> {
    let id = AttachmentId {
        network: "default".parse()?,
        container: workload.name.as_str().parse()?,
        ifname: "eth0".parse()?,
    };
    // Names are unique within a namespace only.
    let node = workload.namespace.as_str().parse()?;
    let Workload { namespace, labels, addresses, ports, .. } = workload;
    world
        .remote
        .insert(RemoteName { node, id }, Remote { namespace, labels: Arc::new(labels), ports, addresses });
    Ok(())
}

pub(super) fn run(session: &Session, paths: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let (world, expected) = world(paths)?;
    let members = Members::of(&world);
    let (mut passed, mut failed) = (0, Vec::new());
    for Expectation { from, to, allowed } in &expected {
        let target: Target = to.parse().map_err(anyhow::Error::msg)?;
        let packets = one(&world, &members, from, &target).map_err(anyhow::Error::msg)?;
        let wrong: Vec<String> = packets
            .iter()
            .map(|packet| (packet, verdict(&world, packet)))
            .filter(|(_, verdict)| verdict.allowed != *allowed)
            .map(|(packet, verdict)| {
                let said = if verdict.allowed { "passes" } else { "is denied" };
                let why: Vec<String> = verdict
                    .sides
                    .iter()
                    .map(|s| format!("{} of {}: {}", s.direction.as_str(), s.workload, s.by))
                    .collect();
                let why = if why.is_empty() { "no policy says anything".to_owned() } else { why.join("; ") };
                format!("{from} -> {to} {said} ({}): {why}\n", packet.destination)
            })
            .collect();
        if wrong.is_empty() {
            passed += 1;
        } else {
            failed.extend(wrong);
        }
    }
    summary(session, passed, &failed)
}
