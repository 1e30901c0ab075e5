//! weft's own: from the world to the kernel by the same functions that the agent calls.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use anyhow::{Context, Result};
use weft_dataplane::nft::ruleset;
use weft_dataplane::nft::services::{Changed, Frame, change};
use weft_kernel::Change;
use weft_kernel::netlink::{Family, Socket};
use weft_kernel::nft;
use weft_model::{EndpointSlice, Here, Node, Object, Service, World};
use weft_plan::services::Standing;

use super::ground::{BACKENDS, Ground};
use super::{Figures, median};

const CHANGES: usize = 101;

/// Service number `n` is at this address.
pub(crate) fn address(n: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 1)) + u32::try_from(n).unwrap_or(0))
}

fn service(n: usize) -> Result<Service> {
    let address = address(n);
    Ok(serde_json::from_str(&format!(
        r#"{{"apiVersion":"v1","metadata":{{"name":"s{n}","namespace":"default"}},
        "spec":{{"clusterIP":"{address}","clusterIPs":["{address}"],"ports":[{{"name":"a","port":80}}]}}}}"#
    ))?)
}

/// The slice of service `n` with these backends.
fn slice(n: usize, backends: &[SocketAddr]) -> Result<EndpointSlice> {
    let endpoints: Vec<String> =
        backends.iter().map(|b| format!(r#"{{"addresses":["{}"]}}"#, b.ip())).collect();
    let (endpoints, port) = (endpoints.join(","), BACKENDS[0].port());
    Ok(serde_json::from_str(&format!(
        r#"{{"apiVersion":"discovery.k8s.io/v1","addressType":"IPv4",
        "metadata":{{"name":"s{n}","namespace":"default","labels":{{"kubernetes.io/service-name":"s{n}"}}}},
        "endpoints":[{endpoints}],"ports":[{{"name":"a","port":{port}}}]}}"#
    ))?)
}

pub(crate) fn measure(ground: &Ground, count: usize) -> Result<Figures> {
    let here = Here::new("here".parse()?);
    let mut world = World::default();
    world.nodes.insert(here.name.clone(), Node::alone(1500));
    for n in 0..count {
        world.declared.insert(Object::Service(service(n)?));
        world.declared.insert(Object::EndpointSlice(slice(n, &BACKENDS)?));
    }
    let names = weft_kernel::ours::tables();
    ground.host.run(|| -> Result<Figures> {
        let mut socket = Socket::open(Family::Netfilter)?;
        let begin = Instant::now();
        let mut plan = weft_plan::plan(&world, &here);
        let found = nft::read(&mut socket, &names)?;
        let diff = nft::diff(&ruleset(&plan), &found);
        nft::apply(&mut socket, &diff.install)?;
        let load = begin.elapsed();
        let connect = ground.connect(SocketAddr::new(address(count - 1).into(), 80))?;
        let mut standing = Standing::of(&world);
        let mut changes = Vec::new();
        for round in 0..CHANGES {
            let n = (round * 7919) % count;
            let name = service(n)?.name();
            let before_slice = world.declared.slices.get(&name).context("it has a slice")?.clone();
            let one_or_both = if before_slice.endpoints.len() == 1 { &BACKENDS[..] } else { &BACKENDS[..1] };
            let after_slice = slice(n, one_or_both)?;
            let begin = Instant::now();
            world.declared.insert(Object::EndpointSlice(after_slice.clone()));
            standing.slice(Some(&before_slice), Some(&after_slice));
            let frame = Frame::of(&plan);
            let mut after = standing.derive(&world, &name);
            if let (Some(after), Some(before)) = (&mut after, plan.services.services.get(&name)) {
                after.keep_slots(before);
            }
            let before = plan.services.put(&name, after.clone());
            let changed = Changed { services: vec![(before, after)], ..Changed::default() };
            for change in change(&frame, &Frame::of(&plan), &changed) {
                if let Change::InstallRules(ops) | Change::RemoveRules(ops) = change {
                    nft::apply(&mut socket, &ops)?;
                }
            }
            changes.push(begin.elapsed());
        }
        let found = nft::read(&mut socket, &names)?;
        let gone = nft::diff(&nft::Tables::default(), &found);
        nft::apply(&mut socket, &gone.remove)?;
        Ok(Figures { connect, load, change: median(changes) })
    })?
}
