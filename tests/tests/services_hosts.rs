//! Services whose backends are on other hosts: the table of docs/services.md across a segment and across a tunnel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};
use weft_lab::traffic::{WebServer, get};
use weft_lab::{Cluster, Namespace, shared_network};
use weft_model::network::gateway;
use weft_model::{Encapsulation, Mode};
use weft_tests::scene::{SOON, Workload, anywhere, program};
use weft_tests::services::{address, apply, at, text};

const FAMILIES: [(&str, IpAddr); 2] =
    [("IPv4", IpAddr::V4(Ipv4Addr::UNSPECIFIED)), ("IPv6", IpAddr::V6(Ipv6Addr::UNSPECIFIED))];

/// Two hosts on one segment and one behind a router; the first leads a service to a backend on each of the others.
fn others(mode: Mode, encapsulation: Encapsulation) -> Result<()> {
    let mut cluster = Cluster::new(program()?, 1500, vec![shared_network(1, mode, encapsulation)?])?;
    cluster.join(&[0, 0, 1])?;
    let network = cluster.network(1)?;
    let workloads: Vec<Workload> = cluster
        .hosts
        .iter()
        .map(|host| Workload::attach(Namespace::new()?, host, &network))
        .collect::<Result<_>>()?;
    let asked = &cluster.hosts[0];
    for (number, backend) in workloads.iter().enumerate().skip(1) {
        let web = WebServer::start(backend.namespace.netns(), anywhere(80))?;
        let name = format!("web{number}");
        let spec = format!(
            r#""type":"NodePort","ipFamilyPolicy":"RequireDualStack","ports":[{{"port":8080,"nodePort":{}}}]"#,
            30_080 + number
        );
        apply(asked, &[&text(&name, &spec)])?;
        for (family, like) in FAMILIES {
            let slice = format!(
                r#"{{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","addressType":"{family}",
                "metadata":{{"name":"{name}-{}","labels":{{"kubernetes.io/service-name":"{name}"}}}},
                "endpoints":[{{"addresses":["{}"]}}],"ports":[{{"port":80}}]}}"#,
                family.to_lowercase(),
                backend.address(like)?
            );
            apply(asked, &[&slice])?;
        }
        for (family, like) in FAMILIES {
            let to = at(address(asked, &name, like)?, 8080);
            let from_workload = get(workloads[0].namespace.netns(), to, SOON)
                .with_context(|| format!("a workload by {family} to host {}", number + 1))?;
            ensure!(from_workload == workloads[0].address(like)?, "a workload comes as {from_workload}");
            let record = &cluster.told.nodes[&asked.name().parse()?];
            let blocks = record.blocks(&network).iter();
            let own = blocks.map(|b| gateway(*b).addr()).find(|a| a.is_ipv4() == like.is_ipv4());
            let own = own.context("the host has a block of each family")?;
            let from_host = get(asked.netns(), to, SOON)
                .with_context(|| format!("the host by {family} to host {}", number + 1))?;
            ensure!(from_host == own, "the host comes as {from_host}, not as {own}");
            let host_port = at(asked.address(like), u16::try_from(30_080 + number)?);
            let from_outside = get(cluster.underlay.netns(), host_port, SOON)
                .with_context(|| format!("the outside by {family} to host {}", number + 1))?;
            ensure!(from_outside == own, "the outside comes as {from_outside}, not as {own}");
        }
        ensure!(web.peers().len() == 6);
    }
    Ok(())
}

#[test]
fn routed_as_it_is_and_in_a_tunnel() -> Result<()> {
    others(Mode::Routed, Encapsulation::Auto)
}

#[test]
fn routed_in_tunnels() -> Result<()> {
    others(Mode::Routed, Encapsulation::Vxlan)
}

#[test]
fn segments_as_they_are_and_in_a_tunnel() -> Result<()> {
    others(Mode::Bridge, Encapsulation::Auto)
}
