//! The way between two containers of one host, with connection tracking and policy, beside a wire from one to the other.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use weft_benches::pair::{connects, measure_at};
use weft_kernel::netns::Netns;
use weft_lab::{Host, Namespace, Underlay};
use weft_model::api::{Apply, NetworkSpec, Request};
use weft_model::policy::{IngressRule, NetworkPolicy, NetworkPolicySpec, Peer};
use weft_model::{Mode, Object, Selector};

use crate::packets::{ratio, script};
use crate::report::{Report, median};

const ROUNDS: usize = 15;
const CONNECTS: usize = 1_000;
const PORT: u16 = 8080;

struct Course {
    name: &'static str,
    from: Netns,
    to: Netns,
    address: IpAddr,
    _kept: Box<dyn std::any::Any>,
    round_trip: Vec<f64>,
    stream: Vec<f64>,
    connect: Vec<f64>,
}

pub(crate) fn run(program: &Path, report: &mut Report) -> Result<()> {
    let mut courses = vec![
        direct()?,
        weft("weft routed, without policies", program, Mode::Routed, false)?,
        weft("weft routed, with policy", program, Mode::Routed, true)?,
        weft("weft bridge, without policies", program, Mode::Bridge, false)?,
        weft("weft bridge, with policy", program, Mode::Bridge, true)?,
    ];
    for _ in 0..ROUNDS {
        for course in &mut courses {
            let Course { name, from, to, address, .. } = course;
            let at = SocketAddr::new(*address, PORT);
            let figures = measure_at(from, to, at).context(*name)?;
            course.connect.push(connects(from, to, at, CONNECTS).context(*name)?);
            course.round_trip.push(figures.round_trip);
            course.stream.push(figures.stream);
        }
    }
    report.line(&format!(
        "\n{ROUNDS} alternating rounds of 4,000 round trips, a stream and {CONNECTS} connections; medians, both ends on one CPU; × is the median of the \
         rounds' ratios to the wire. With policy: both ends are selected, egress and ingress, in IPv4 and IPv6; connections are tracked.\n"
    ));
    report.line("| path | TCP_RR p50 µs | × wire | one stream Gbit/s | × wire | connect µs | × wire |");
    report.line("|---|--:|--:|--:|--:|--:|--:|");
    let wire = &courses[0];
    for course in &courses {
        report.line(&format!(
            "| {} | {:.1} | {:.2} | {:.1} | {:.2} | {:.1} | {:.2} |",
            course.name,
            median(&course.round_trip),
            ratio(&course.round_trip, &wire.round_trip),
            median(&course.stream),
            ratio(&course.stream, &wire.stream),
            median(&course.connect),
            ratio(&course.connect, &wire.connect),
        ));
    }
    for course in courses.iter().filter(|c| c.name.ends_with("with policy")) {
        let promise = format!("{}: round trip ≤ 1.33 × a wire (aim 1.25)", course.name);
        report.at_most(&promise, ratio(&course.round_trip, &wire.round_trip), 1.33, " ×");
    }
    Ok(())
}

fn direct() -> Result<Course> {
    let (from, to) = (Netns::anonymous()?, Netns::anonymous()?);
    crate::course::wire(&from, "v0", &to)?;
    script(&from, "sh -e", "ip addr add 10.9.0.1/24 dev v0")?;
    script(&to, "sh -e", "ip addr add 10.9.0.2/24 dev eth0")?;
    Ok(course("a wire between two namespaces", from, to, "10.9.0.2".parse()?, Box::new(())))
}

fn course(
    name: &'static str,
    from: Netns,
    to: Netns,
    address: IpAddr,
    kept: Box<dyn std::any::Any>,
) -> Course {
    let (round_trip, stream, connect) = Default::default();
    Course { name, from, to, address, _kept: kept, round_trip, stream, connect }
}

fn weft(name: &'static str, program: &Path, mode: Mode, policy: bool) -> Result<Course> {
    let underlay = Underlay::new(1500)?;
    let mut host = Host::new(&underlay, program)?;
    host.start_agent()?;
    let network = host.create_network(NetworkSpec {
        name: "lan".parse()?,
        subnets: vec!["10.120.0.0/16".parse()?, "fd12:3::/64".parse()?],
        mode,
        mtu: None,
        masquerade: true,
        encapsulation: weft_model::Encapsulation::default(),
        explain: false,
    })?;
    let lan = network.network.name;
    if policy {
        host.request(&Request::Apply(Apply { objects: vec![everybody()?], dry_run: false }))?;
    }
    let attach = |namespace: &Namespace| -> Result<Option<IpAddr>> {
        Ok(namespace.attach(&host, &lan)?.addresses.first().map(|a| a.address.addr()))
    };
    let (one, two) = (Namespace::new()?, Namespace::new()?);
    attach(&one)?;
    let address = attach(&two)?.context("no address")?;
    let again = |n: &Namespace| n.run(Netns::current).context("a namespace")?.context("a namespace");
    let (from, to) = (again(&one)?, again(&two)?);
    Ok(course(name, from, to, address, Box::new((underlay, host, one, two))))
}

/// All workloads of the namespace let each other in, at one port and the next thousands, and may only reach each other.
fn everybody() -> Result<Object> {
    let peers = || vec![Peer { pod_selector: Some(Selector::default()), ..Peer::default() }];
    let port = weft_model::policy::PolicyPort {
        protocol: weft_model::policy::Protocol::Tcp,
        port: Some(weft_model::policy::PortRef::Number(PORT)),
        end_port: None,
    };
    Ok(Object::NetworkPolicy(NetworkPolicy {
        api_version: "networking.k8s.io/v1".into(),
        metadata: weft_model::object::Metadata::named("all".parse()?, Some("default".parse()?)),
        spec: NetworkPolicySpec {
            pod_selector: Selector::default(),
            policy_types: Vec::new(),
            ingress: vec![IngressRule { from: peers(), ports: vec![port.clone()] }],
            egress: vec![weft_model::policy::EgressRule { to: peers(), ports: vec![port] }],
        },
    }))
}
