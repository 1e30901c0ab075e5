//! BAR.md R1: the agent dies at any point of an attach or a detach, and the next one settles everything.

#![allow(clippy::print_stdout, reason = "measured figures belong into the test's output")]

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use weft_model::{Mode, api};
use weft_tests::host::{Net, REPAIR};
use weft_tests::{Agent, Host, wait};

const ROUTED: Net<'static> = ("routed", Mode::Routed, &["10.77.0.0/24", "fd77::/64"]);
const BRIDGE: Net<'static> = ("bridge", Mode::Bridge, &["10.78.0.0/24", "fd78::/64"]);
/// No operation passes so many points.
const MOST: usize = 60;

/// How many addresses of a network are held by somebody.
fn used(host: &Host, network: &str) -> Result<u64> {
    let status = host.status()?;
    let network =
        status.networks.iter().find(|n| n.network.name.as_str() == network).context("no such network")?;
    Ok(network.pools.iter().map(|p| p.used).sum())
}

fn attached(host: &Host, container: &str) -> Result<bool> {
    Ok(host.status()?.workloads.iter().any(|w| w.id.container.as_str() == container))
}

fn nothing_is_left(host: &Host, network: &str, container: &str, before: &(String, String)) -> Result<()> {
    host.await_dump("nothing of the attachment to be left", &before.0, REPAIR)?;
    let inside = host.dump_inside(container)?;
    ensure!(inside == before.1, "left inside:\n{}", weft_tests::host::difference(&before.1, &inside));
    ensure!(used(host, network)? == 0, "addresses are held by nobody");
    ensure!(!attached(host, container)?, "a record is left");
    Ok(())
}

/// The attachment is in force: both sides agree with the plan, and a packet comes and goes.
fn is_complete(host: &Host, network: &str, container: &str, gateway: &str) -> Result<()> {
    let wrong = wait::until("the attachment to be whole", REPAIR, || {
        let wrong = host.check(network, container)?;
        ensure!(wrong.is_empty(), "{wrong:?}");
        Ok(wrong)
    })?;
    ensure!(wrong.is_empty());
    host.ping(container, gateway.parse::<IpAddr>()?)
}

/// Kills the agent at each point of ADD in turn, until there is none left.
fn at_every_point_of_attach(network: &Net<'_>, gateway: &str) -> Result<usize> {
    let (host, mut agent) = Host::with_networks(&[*network])?;
    let name = network.0;
    host.namespaces(&["c1".to_owned()])?;
    let before = (host.dump()?, host.dump_inside("c1")?);
    let mut completed = 0;
    for point in 1..MOST {
        agent.kill();
        agent = host.start(&[("WEFT_FAULT", &format!("attach:{point}"))])?;
        let answer = host.attach(name, "c1");
        if answer.is_ok() {
            ensure!(point > 5, "an attach has only {point} points");
            is_complete(&host, name, "c1", gateway)?;
            host.detach(name, "c1")?;
            nothing_is_left(&host, name, "c1", &before)?;
            ensure!(completed > 0, "at no point was the wire complete and the answer lost");
            return Ok(point - 1);
        }
        agent.wait(REPAIR).with_context(|| format!("point {point} did not end the agent: {answer:?}"))?;
        agent = host.start(&[])?;
        if attached(&host, "c1")? {
            completed += 1;
            is_complete(&host, name, "c1", gateway).with_context(|| format!("killed at point {point}"))?;
        } else {
            nothing_is_left(&host, name, "c1", &before)
                .with_context(|| format!("killed at point {point}"))?;
            host.attach(name, "c1").with_context(|| format!("repeated after point {point}"))?;
            is_complete(&host, name, "c1", gateway)
                .with_context(|| format!("repeated after point {point}"))?;
        }
        host.detach(name, "c1")?;
        nothing_is_left(&host, name, "c1", &before)
            .with_context(|| format!("detached after point {point}"))?;
    }
    anyhow::bail!("attach still passes points after {MOST}")
}

/// Kills the agent at each point of DEL in turn.
fn at_every_point_of_detach(network: &Net<'_>, gateway: &str) -> Result<usize> {
    let (host, mut agent) = Host::with_networks(&[*network])?;
    let name = network.0;
    host.namespaces(&["c1".to_owned()])?;
    let before = (host.dump()?, host.dump_inside("c1")?);
    for point in 1..MOST {
        agent.kill();
        agent = host.start(&[("WEFT_FAULT", &format!("detach:{point}"))])?;
        host.attach(name, "c1")?;
        if host.detach(name, "c1").is_ok() {
            nothing_is_left(&host, name, "c1", &before)?;
            ensure!(point > 3, "a detach has only {point} points");
            return Ok(point - 1);
        }
        agent.wait(REPAIR).with_context(|| format!("point {point} did not end the agent"))?;
        agent = host.start(&[])?;
        if attached(&host, "c1")? {
            is_complete(&host, name, "c1", gateway).with_context(|| format!("killed at point {point}"))?;
        } else {
            nothing_is_left(&host, name, "c1", &before)
                .with_context(|| format!("killed at point {point}"))?;
        }
        host.detach(name, "c1")?;
        nothing_is_left(&host, name, "c1", &before)
            .with_context(|| format!("detached after point {point}"))?;
    }
    anyhow::bail!("detach still passes points after {MOST}")
}

#[test]
fn attach_routed_killed_at_every_point() -> Result<()> {
    println!("{} points", at_every_point_of_attach(&ROUTED, "10.77.0.1")?);
    Ok(())
}

#[test]
fn attach_bridge_killed_at_every_point() -> Result<()> {
    println!("{} points", at_every_point_of_attach(&BRIDGE, "10.78.0.1")?);
    Ok(())
}

#[test]
fn detach_routed_killed_at_every_point() -> Result<()> {
    println!("{} points", at_every_point_of_detach(&ROUTED, "10.77.0.1")?);
    Ok(())
}

#[test]
fn detach_bridge_killed_at_every_point() -> Result<()> {
    println!("{} points", at_every_point_of_detach(&BRIDGE, "10.78.0.1")?);
    Ok(())
}

#[test]
fn a_namespace_that_goes_while_there_is_no_agent_is_buried() -> Result<()> {
    let (host, agent): (Host, Agent) = Host::with_networks(&[ROUTED])?;
    host.namespaces(&["stays".to_owned(), "goes".to_owned()])?;
    host.attach("routed", "stays")?;
    let before = host.dump()?;
    host.attach("routed", "goes")?;
    agent.kill();
    host.sh("ip netns del goes")?;
    let _agent = host.start(&[])?;
    host.await_dump("the record's burial", &before, REPAIR)?;
    ensure!(used(&host, "routed")? == 2, "one address of each family should be held");
    ensure!(!attached(&host, "goes")? && attached(&host, "stays")?);
    // The runtime may still say DEL, or use the name again.
    host.detach("routed", "goes")?;
    host.namespaces(&["goes".to_owned()])?;
    host.attach("routed", "goes")?;
    Ok(())
}

#[test]
fn an_interface_name_that_exists_is_an_error_that_changes_nothing() -> Result<()> {
    for network in [ROUTED, BRIDGE] {
        let (host, _agent) = Host::with_networks(&[network])?;
        host.namespaces(&["c1".to_owned()])?;
        host.sh("ip -n c1 link add eth0 type bridge")?;
        let before = (host.dump()?, host.dump_inside("c1")?);
        let error = host.attach(network.0, "c1").err().context("an interface was made twice")?;
        ensure!(
            matches!(error.downcast_ref::<api::Error>(), Some(e) if e.kind == api::ErrorKind::Exists),
            "{error:?}"
        );
        nothing_is_left(&host, network.0, "c1", &before)?;
        host.sh("ip -n c1 link del eth0")?;
        host.attach(network.0, "c1")?;
    }
    Ok(())
}
