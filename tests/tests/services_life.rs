//! What becomes of clients when backends and services come and go, with and without an agent (BAR.md, security row 25;
//! PAINS.md 7), and how evenly connections are spread (BAR.md, C5).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use weft_kernel::conntrack::{Filter, flows};
use weft_kernel::netlink::{Family, Socket};
use weft_lab::Host;
use weft_lab::traffic::{connect, exchange, get, udp};
use weft_model::api::{Reply, Request};
use weft_model::{Kind, Mode, NetworkName};
use weft_tests::scene::{Case, Families, SOON, Scene, anywhere};
use weft_tests::services::{Backend, address, apply, at, delete, text};
use weft_tests::{matrix, programs, wait};

matrix!(a_udp_client_that_never_pauses, a_flush_is_mended);

const SPEC: &str = r#""ipFamilyPolicy":"RequireDualStack","selector":{"app":"web"},
    "ports":[{"name":"http","port":80},{"name":"dns","port":53,"protocol":"UDP"}]"#;
const CASE: Case = Case { mode: Mode::Routed, families: Families::Dual };

fn served(case: Case) -> Result<(Scene, NetworkName)> {
    let scene = Scene::new()?;
    let network = scene.network(1, case)?;
    apply(&scene.host, &[&text("web", SPEC)])?;
    Ok((scene, network))
}

/// Sends until this backend answers; a refusal in between is no trouble.
fn reaches(socket: &UdpSocket, to: SocketAddr, backend: &Backend) -> Result<()> {
    let before = backend.visits()[1];
    wait::until("the client to reach the backend", SOON, || {
        let _ = exchange(socket, to, b"x", Duration::from_millis(50));
        ensure!(backend.visits()[1] > before, "it did not come");
        Ok(())
    })
}

fn led_to(host: &Host, address: IpAddr) -> Result<usize> {
    let all = host
        .netns()
        .run(|| -> Result<_> { Ok(flows(&mut Socket::open(Family::Netfilter)?, &Filter::default())?) })??;
    Ok(all.iter().filter(|flow| flow.reply.source == address).count())
}

/// One socket, over backends that come and go, none at all, and a service that is deleted and made anew.
fn a_udp_client_that_never_pauses(case: Case) -> Result<()> {
    let (scene, network) = served(case)?;
    let client = scene.workload(&network)?;
    for own in client.addresses() {
        let to = at(address(&scene.host, "web", own)?, 53);
        let socket = udp(client.namespace.netns(), anywhere(0))?;
        // It has begun when there was nobody.
        let _ = exchange(&socket, to, b"x", Duration::from_millis(50));
        for _ in 0..3 {
            let first = Backend::new(&scene.host, &network, "web")?;
            reaches(&socket, to, &first)?;
            let second = Backend::new(&scene.host, &network, "web")?;
            // Whom it has it keeps as long as it is there.
            let before = second.visits()[1];
            for _ in 0..5 {
                exchange(&socket, to, b"x", SOON)?;
            }
            ensure!(second.visits()[1] == before, "the client was led to another backend without need");
            first.workload.namespace.detach(&scene.host, &network)?;
            ensure!(
                led_to(&scene.host, first.workload.address(own)?)? == 0,
                "flows to a backend that is gone"
            );
            reaches(&socket, to, &second)?;
            delete(&scene.host, Kind::Service, "web")?;
            ensure!(
                led_to(&scene.host, second.workload.address(own)?)? == 0,
                "flows of a service that is gone"
            );
            let spec = format!(r#""clusterIP":"{}",{}"#, to.ip(), SPEC.replace("web", "other"));
            apply(&scene.host, &[&text("again", &spec)])?;
            let other = Backend::new(&scene.host, &network, "other")?;
            reaches(&socket, to, &other)?;
            delete(&scene.host, Kind::Service, "again")?;
            apply(&scene.host, &[&text("web", &format!(r#""clusterIP":"{}",{SPEC}"#, to.ip()))])?;
            reaches(&socket, to, &second)?;
            second.workload.namespace.detach(&scene.host, &network)?;
            other.workload.namespace.detach(&scene.host, &network)?;
        }
    }
    Ok(())
}

/// A connection to a backend that stays goes on; one to a backend that left ends at once instead of hanging.
#[test]
fn tcp_connections() -> Result<()> {
    let (scene, network) = served(CASE)?;
    let client = scene.workload(&network)?;
    let backends = [Backend::new(&scene.host, &network, "web")?, Backend::new(&scene.host, &network, "web")?];
    for own in client.addresses().filter(IpAddr::is_ipv4) {
        let to = at(address(&scene.host, "web", own)?, 80);
        let mut streams: BTreeMap<usize, std::net::TcpStream> = BTreeMap::new();
        wait::until("a connection to each", SOON, || {
            let before = backends.each_ref().map(|b| b.visits()[0]);
            let stream = connect(client.namespace.netns(), to, SOON)?;
            wait::until("the visit", SOON, || {
                let now = backends.each_ref().map(|b| b.visits()[0]);
                ensure!(now != before, "nobody came");
                Ok(())
            })?;
            let at = usize::from(backends[1].visits()[0] > before[1]);
            streams.insert(at, stream);
            ensure!(streams.len() == 2, "both to one");
            Ok(())
        })?;
        backends[0].workload.namespace.detach(&scene.host, &network)?;
        let mut stays = streams.remove(&1).context("one to the second")?;
        stays.set_read_timeout(Some(SOON))?;
        stays.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut page = String::new();
        stays.read_to_string(&mut page)?;
        ensure!(page.contains("200 OK"), "{page}");
        let mut lost = streams.remove(&0).context("one to the first")?;
        lost.set_read_timeout(Some(SOON))?;
        let ended = lost.write_all(b"GET / HTTP/1.0\r\n\r\n").and_then(|()| lost.read(&mut [0; 64]));
        ensure!(ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset), "it hangs");
    }
    Ok(())
}

fn outstanding(host: &Host) -> Result<Vec<String>> {
    match host.request(&Request::Diff)? {
        Reply::Diff(commands) => Ok(commands),
        other => bail!("{other:?}"),
    }
}

/// Without an agent services go on; a new one changes nothing, and moves no backend.
#[test]
fn a_dead_agent() -> Result<()> {
    let (mut scene, network) = served(CASE)?;
    let client = scene.workload(&network)?;
    let mut backends: Vec<Backend> =
        (0..4).map(|_| Backend::new(&scene.host, &network, "web")).collect::<Result<_>>()?;
    // Slots are not in the order of addresses any more.
    let gone = backends.remove(0);
    gone.workload.namespace.detach(&scene.host, &network)?;
    let to = at(address(&scene.host, "web", "0.0.0.0".parse()?)?, 80);
    let slots = nft(&scene.host, LIST)?;
    scene.host.kill()?;
    get(client.namespace.netns(), to, SOON).context("without an agent")?;
    scene.host.start_agent()?;
    let commands = outstanding(&scene.host)?;
    ensure!(commands.is_empty(), "{commands:?}");
    ensure!(nft(&scene.host, LIST)? == slots, "backends were moved");
    // A backend that left while there was no agent: its flows are forgotten at the next start.
    let socket = udp(client.namespace.netns(), anywhere(0))?;
    let dns = at(to.ip(), 53);
    exchange(&socket, dns, b"x", SOON)?;
    scene.host.kill()?;
    let index = backends.iter().position(|b| b.visits()[1] > 0).context("somebody answered")?;
    let left = backends.remove(index);
    let id = left.workload.namespace.id(&network, "eth0")?;
    drop(left);
    scene.host.start_agent()?;
    let request =
        Request::Detach(weft_model::api::Detach { id, netns: None, expect: Vec::new(), explain: false });
    scene.host.request(&request)?;
    wait::until("another backend", SOON, || {
        exchange(&socket, dns, b"x", Duration::from_millis(50)).map(|_| ()).context("no answer")
    })
}

const LIST: &str = "list map inet weft backend4";

fn nft(host: &Host, script: &str) -> Result<String> {
    let output = host.netns().command("nft").env("PATH", programs::PATH).arg(script).output()?;
    ensure!(output.status.success(), "nft {script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Row 22 and R4: whatever a firewall's reload does, services are back within a second.
fn a_flush_is_mended(case: Case) -> Result<()> {
    let (scene, network) = served(case)?;
    let client = scene.workload(&network)?;
    let _backend = Backend::new(&scene.host, &network, "web")?;
    for own in client.addresses() {
        let to = at(address(&scene.host, "web", own)?, 80);
        let digit = if own.is_ipv4() { '4' } else { '6' };
        for script in [
            "flush ruleset".to_owned(),
            format!("flush map inet weft backend{digit}"),
            format!("flush set inet weft service{digit}_1"),
            format!("flush chain inet weft pick{digit}_1"),
        ] {
            nft(&scene.host, &script)?;
            wait::until(&script, SOON, || {
                get(client.namespace.netns(), to, SOON).map(|_| ()).context("no page")
            })?;
        }
    }
    wait::until("the last repair", SOON, || {
        let commands = outstanding(&scene.host)?;
        ensure!(commands.is_empty(), "{commands:?}");
        Ok(())
    })
}

/// Chi-square's value that one run of a million exceeds if the spread is even, by degrees of freedom (Wilson and Hilferty).
fn bound(freedom: f64) -> f64 {
    const SIGMAS: f64 = 4.753; // one in a million
    let part = 2.0 / (9.0 * freedom);
    freedom * (1.0 - part + SIGMAS * part.sqrt()).powi(3)
}

/// Connections to a port of the service in one round.
const PICKS: u16 = 10_000;

/// Every backend is as likely as the others, whatever their number: counted in the kernel's own table of connections.
#[test]
fn an_even_spread() -> Result<()> {
    let rounds: u16 = if std::env::var_os("WEFT_FULL").is_some() { 10 } else { 2 };
    let scene = Scene::new()?;
    for (number, backends) in (1..).zip([2_u32, 3, 10, 100]) {
        let ports: Vec<String> = (0..rounds)
            .map(|r| format!(r#"{{"name":"p{r}","port":{},"protocol":"UDP"}}"#, 1000 + r))
            .collect();
        let service = text("spread", &format!(r#""ports":[{}]"#, ports.join(",")));
        let addresses = (1..=backends).map(|n| format!(r#"{{"addresses":["198.51.100.{n}"]}}"#));
        let addresses = addresses.collect::<Vec<_>>().join(",");
        let slice = format!(
            r#"{{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","addressType":"IPv4",
            "metadata":{{"name":"spread","labels":{{"kubernetes.io/service-name":"spread"}}}},
            "endpoints":[{addresses}],"ports":[{}]}}"#,
            (0..rounds)
                .map(|r| format!(
                    r#"{{"name":"p{r}","port":{},"protocol":"UDP"}}"#,
                    20_000 + 100 * number + r
                ))
                .collect::<Vec<_>>()
                .join(",")
        );
        apply(&scene.host, &[&service, &slice])?;
        let to = address(&scene.host, "spread", "0.0.0.0".parse()?)?;
        scene.host.netns().run(|| -> Result<()> {
            for round in 0..rounds {
                for pick in 0..PICKS {
                    let socket = UdpSocket::bind(("0.0.0.0", 10_000 + pick))?;
                    socket.send_to(b"x", at(to, 1000 + round))?;
                }
            }
            Ok(())
        })??;
        let all = scene.host.netns().run(|| -> Result<_> {
            Ok(flows(&mut Socket::open(Family::Netfilter)?, &Filter::default())?)
        })??;
        let mut counts: BTreeMap<IpAddr, u32> = BTreeMap::new();
        for flow in all.iter().filter(|f| f.original.destination == to) {
            *counts.entry(flow.reply.source).or_default() += 1;
        }
        let total: u32 = counts.values().sum();
        ensure!(total >= u32::from(PICKS) * u32::from(rounds) * 99 / 100, "only {total} flows are tracked");
        ensure!(
            counts.len() == usize::try_from(backends)?,
            "{} of {backends} backends were picked",
            counts.len()
        );
        let expected = f64::from(total) / f64::from(backends);
        let chi: f64 = counts.values().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
        let most = bound(f64::from(backends) - 1.0);
        ensure!(chi < most, "{backends} backends: chi-square {chi}, more than {most}: {counts:?}");
        delete(&scene.host, Kind::EndpointSlice, "spread")?;
        delete(&scene.host, Kind::Service, "spread")?;
    }
    Ok(())
}
