//! Published ports of SCTP: its column of the table in docs/ports.md. No kernel needs to have sockets for it: an INIT,
//! and the answer that a peer would give (RFC 9260, section 5.1), as they are on the wire.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, sockopt};
use weft_kernel::netns::Netns;
use weft_lab::traffic::frame::{INIT, SCTP, ip, packet, sctp};
use weft_lab::traffic::{Capture, Frame, Tap};
use weft_lab::{Links, ROUTER4, ROUTER6};
use weft_model::{Mac, Mode};
use weft_tests::matrix;
use weft_tests::scene::{Case, SOON, Scene, Workload};

matrix!(from_outside, from_other_workloads, from_the_host, from_the_workload_itself);

/// The port of the host, where it leads, and the client's own.
const HOST: u16 = 9899;
const INSIDE: u16 = 99;
const CLIENT: u16 = 4000;

struct Published {
    scene: Scene,
    workload: Workload,
}

/// Who sends frames, and by which link.
struct Client<'a> {
    netns: &'a Netns,
    link: &'a str,
    mac: Mac,
    /// Where its frames to the host go.
    host: Mac,
    address: IpAddr,
}

impl Published {
    fn new(case: Case) -> Result<Published> {
        let scene = Scene::new()?;
        let network = scene.network(1, case)?;
        let workload = scene.publish(&network, &[&format!("{HOST}:{INSIDE}/sctp")])?;
        Ok(Published { scene, workload })
    }

    fn inside(&self) -> &Netns {
        self.workload.namespace.netns()
    }

    /// The workload's addresses, each with one of the host's.
    fn pairs(&self) -> Vec<(IpAddr, IpAddr)> {
        self.workload.addresses().map(|own| (own, self.scene.host.address(own))).collect()
    }

    /// What an INIT arrives as at the workload's interface: its source.
    fn arrives(&self, capture: &Capture, own: IpAddr) -> Result<(IpAddr, u16, Mac)> {
        // What the workload itself has just sent to the host is seen there, too.
        let seen = capture.until(SOON, |f| f.protocol == Some(SCTP) && f.destination == Some(own))?;
        let frame = seen.last().context("nothing came")?;
        let (from, to) = ends(frame)?;
        ensure!(to == INSIDE, "it came to port {to}");
        Ok((frame.source.context("no source")?, from, frame.from))
    }

    /// The workload's answer, sent to the Ethernet address from which it was asked.
    fn answers(&self, own: IpAddr, to: (IpAddr, u16, Mac)) -> Result<()> {
        let mac = mac(self.inside(), "eth0")?;
        let answer = sctp((own, INSIDE), (to.0, to.1), 1, 2, &INIT);
        Ok(Tap::open(self.inside(), "eth0")?.send(&packet(mac, to.2, &answer))?)
    }

    /// An INIT from a client and its answer back; gives the source that the workload sees.
    fn associates(&self, client: &Client<'_>, own: IpAddr, at: IpAddr) -> Result<IpAddr> {
        let capture = Capture::open(self.inside(), "eth0")?;
        let init = sctp((client.address, CLIENT), (at, HOST), 0, 1, &INIT);
        Tap::open(client.netns, client.link)?.send(&packet(client.mac, client.host, &init))?;
        let asked = self.arrives(&capture, own)?;
        let back = Capture::open(client.netns, client.link)?;
        self.answers(own, asked)?;
        let is_answer = |f: &Frame| {
            let address = f.source == Some(at) && f.destination == Some(client.address);
            f.protocol == Some(SCTP) && address && ends(f).is_ok_and(|ports| ports == (HOST, CLIENT))
        };
        back.until(SOON, is_answer).with_context(|| format!("no answer from {at}"))?;
        Ok(asked.0)
    }
}

fn ends(frame: &Frame) -> Result<(u16, u16)> {
    let port = |at: usize| Some(u16::from_be_bytes(frame.payload.get(at..at + 2)?.try_into().ok()?));
    port(0).zip(port(2)).context("no ports")
}

fn mac(netns: &Netns, link: &str) -> Result<Mac> {
    Links::of(netns)?.link(link)?.mac.context("no Ethernet address")
}

/// The Ethernet address to which a workload sends what is for the host.
fn gateway(workload: &Workload) -> Mac {
    workload.attached.bridge.as_ref().map_or(workload.attached.host_mac, |(_, mac)| *mac)
}

fn from_outside(case: Case) -> Result<()> {
    let published = Published::new(case)?;
    let underlay = &published.scene.underlay;
    for (own, at) in published.pairs() {
        let client = Client {
            netns: underlay.netns(),
            link: underlay.link(),
            mac: mac(underlay.netns(), underlay.link())?,
            host: published.scene.host.mac(),
            address: if own.is_ipv4() { ROUTER4.into() } else { ROUTER6.into() },
        };
        let seen = published.associates(&client, own, at)?;
        ensure!(seen == client.address, "seen as {seen}");
    }
    Ok(())
}

fn from_other_workloads(case: Case) -> Result<()> {
    let published = Published::new(case)?;
    let scene = &published.scene;
    let other_mode = if case.mode == Mode::Routed { Mode::Bridge } else { Mode::Routed };
    let mut others = vec![scene.workload(&"net1".parse()?)?];
    for (number, mode) in [(2, case.mode), (3, other_mode)] {
        others.push(scene.workload(&scene.network(number, Case { mode, ..case })?)?);
    }
    for other in &others {
        for (own, at) in published.pairs() {
            let client = Client {
                netns: other.namespace.netns(),
                link: "eth0",
                mac: other.attached.mac,
                host: gateway(other),
                address: other.address(own)?,
            };
            let seen = published.associates(&client, own, at)?;
            ensure!(seen == client.address, "{} is seen as {seen}", client.address);
        }
    }
    Ok(())
}

fn from_the_workload_itself(case: Case) -> Result<()> {
    let published = Published::new(case)?;
    let workload = &published.workload;
    for (own, at) in published.pairs() {
        let client = Client {
            netns: published.inside(),
            link: "eth0",
            mac: workload.attached.mac,
            host: gateway(workload),
            address: own,
        };
        let seen = published.associates(&client, own, at)?;
        ensure!(seen != own, "it is seen as itself, and would not take its own answer");
    }
    Ok(())
}

/// From a socket of the host's that writes SCTP by itself.
fn from_the_host(case: Case) -> Result<()> {
    let published = Published::new(case)?;
    let host = published.scene.host.netns();
    for (own, at) in published.pairs() {
        let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = host.run(|| rustix::net::socket(family, SocketType::RAW, Some(ipproto::SCTP)))??;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(SOON))?;
        let capture = Capture::open(published.inside(), "eth0")?;
        let init = sctp((at, CLIENT), (at, HOST), 0, 1, &INIT);
        let header = ip(at, at, SCTP, &[]).len();
        rustix::net::sendto(&socket, &init[header..], SendFlags::empty(), &SocketAddr::new(at, 0))?;
        let asked = published.arrives(&capture, own)?;
        ensure!(asked.0 == at, "the host comes as {}", asked.0);
        published.answers(own, asked)?;
        let begin = std::time::Instant::now();
        loop {
            ensure!(begin.elapsed() < SOON + Duration::from_secs(1), "no answer from {at}");
            let mut buffer = [0; 256];
            let (length, _) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty())
                .with_context(|| format!("no answer from {at}"))?;
            // IPv4's raw sockets show the header, IPv6's do not.
            let skip = if at.is_ipv4() { header } else { 0 };
            let ports = [HOST.to_be_bytes(), CLIENT.to_be_bytes()].concat();
            if buffer.get(skip..length).is_some_and(|m| m.starts_with(&ports)) {
                break; // the INIT itself, which goes to the workload, is not seen here
            }
        }
    }
    Ok(())
}
