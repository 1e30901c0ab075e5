//! What is known of a service, for people.

use std::fmt::Write as _;

use weft_model::{ServiceName, World};

use super::{Frontend, PortPlan, ServicePlan};

/// A service in words: where it is reached, and where each port leads.
#[must_use]
pub fn words(world: &World, name: &ServiceName, plan: &ServicePlan) -> String {
    let mut text = String::new();
    for port in &plan.ports {
        let label = port.name.as_ref().map(|n| format!("{n} ")).unwrap_or_default();
        let at: Vec<String> = port.frontends.iter().map(|f| frontend(*f, port)).collect();
        let at = if at.is_empty() { "no address of its own (headless)".to_owned() } else { at.join(", ") };
        let _ = writeln!(text, "  port {label}at {at}"); // to a String: cannot fail
        for backend in &port.backends {
            let _ = writeln!(text, "    {backend}{}", holder(world, backend.ip()));
        }
        if port.backends.is_empty() {
            let _ = writeln!(text, "    no backends: {}", why_none(world, name));
        }
    }
    text
}

/// Where a port is reached, in words.
#[must_use]
pub fn frontend(frontend: Frontend, port: &PortPlan) -> String {
    match frontend {
        Frontend::At(address, number) => {
            format!("{}/{}", std::net::SocketAddr::new(address, number), port.protocol)
        }
        Frontend::Host(number) => {
            let family = if port.ipv4 { "IPv4" } else { "IPv6" };
            format!("every host's {family} addresses port {number}/{}", port.protocol)
        }
    }
}

fn holder(world: &World, address: std::net::IpAddr) -> String {
    let has = |w: &&weft_model::Workload| w.addresses.iter().any(|a| a.addr() == address);
    if let Some(workload) = world.workloads.values().find(has) {
        return format!(" ({}/{})", workload.namespace(), workload.id.container);
    }
    match world.remote.iter().find(|(_, r)| r.addresses.contains(&address)) {
        Some((name, remote)) => format!(" ({}/{} on {})", remote.namespace, name.id.container, name.node),
        None => String::new(),
    }
}

/// Why a port has no backends.
#[must_use]
pub fn why_none(world: &World, name: &ServiceName) -> String {
    let Some(service) = world.declared.services.get(name) else { return "it is not there".to_owned() };
    let selector = &service.spec.selector;
    if selector.is_empty() {
        return format!(
            "no EndpointSlice with the label {}={} names one",
            weft_model::slice::SERVICE_NAME,
            name.1
        );
    }
    let wanted: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let local =
        world.workloads.values().any(|w| w.namespace() == name.0 && service.selects(&w.profile.labels));
    let remote = world.remote.values().any(|r| r.namespace == name.0 && service.selects(&r.labels));
    if local || remote {
        "its workloads have no address of this family, or do not name the port that it leads to".to_owned()
    } else {
        format!("no workload of namespace {} has {}", name.0, wanted.join(","))
    }
}
