//! Published ports: what the first packet of a connection costs on its way through one, on a host that has one and on
//! a host that has a thousand; and whether contestants that publish a port do so.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::thread::{CpuSet, sched_setaffinity};
use weft_kernel::netlink::Messages;
use weft_kernel::netns::Netns;
use weft_kernel::rtnl::link;
use weft_lab::Links;
use weft_model::api::{Attach, Reply, Request};
use weft_model::{AttachmentId, Mac, Profile};

use crate::agent::Agent;
use crate::contestant::{self, Contestant};
use crate::host::{Host, Seat, Seats, clear};
use crate::options::Options;
use crate::samples::Samples;
use crate::{ROUTED, say};

/// Where the host and its neighbour are on their segment.
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The port that is measured, of TCP and of UDP; others follow.
const PORT: u16 = 10_000;
const AT: SocketAddrV4 = SocketAddrV4::new(HOST, PORT);
/// Where it leads.
const WEB: u16 = 80;
const ECHO: u16 = 53;
/// So many of the other ports belong to one workload.
const OF_ONE: usize = 100;
/// All of a path runs on this one: wake-ups across CPUs would hide it (BAR.md, performance gates).
const CPU: usize = 0;
const WARM_UP: usize = 50;
const PATIENCE: Duration = Duration::from_secs(3);

/// What a first packet was measured at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cost {
    /// From connect(2) until the connection stands.
    pub(crate) tcp: Samples,
    /// From send(2) of a flow's first datagram until the workload has it.
    pub(crate) udp: Samples,
}

/// What was measured.
#[derive(Clone, Debug)]
pub(crate) struct FirstPackets {
    /// How many ports the full host publishes, each of TCP and of UDP.
    pub(crate) ports: usize,
    pub(crate) one: Cost,
    pub(crate) many: Cost,
}

/// A host, its neighbour, and a workload behind the measured port.
struct Stage {
    neighbour: Netns,
    web: TcpListener,
    echo: UdpSocket,
    taken: Vec<Seat>,
    _agent: Agent,
    _host: Host,
}

/// Measures both hosts in turn.
///
/// # Errors
/// What a program or the kernel said.
pub(crate) fn run(options: &Options, seats: &mut Seats) -> Result<FirstPackets> {
    let (ports, flows) = (options.ports, options.flows);
    say(&format!("ports: {flows} first packets through one published port and through one of {ports}"));
    let stages = [Stage::new(options, seats, 1)?, Stage::new(options, seats, ports)?];
    // On a thread of its own, because it is pinned to a CPU.
    let measured = std::thread::scope(|scope| scope.spawn(|| measure(&stages, flows)).join());
    let [one, many] = measured.unwrap_or_else(|_| bail!("the measuring thread panicked"))?;
    say(&format!("  TCP p50 {:.4} and {:.4} ms", one.tcp.p50(), many.tcp.p50()));
    for stage in &stages {
        clear(&stage.taken)?;
    }
    Ok(FirstPackets { ports, one, many })
}

fn measure(stages: &[Stage; 2], flows: usize) -> Result<[Cost; 2]> {
    let mut cpus = CpuSet::new();
    cpus.set(CPU);
    sched_setaffinity(None, &cpus).context("failed to pin a thread")?;
    let mut costs = [Cost::default(), Cost::default()];
    for turn in 0..WARM_UP + flows {
        for at in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
            let (tcp, udp) = (stages[at].connect()?, stages[at].send()?);
            if turn >= WARM_UP {
                costs[at].tcp.push(tcp);
                costs[at].udp.push(udp);
            }
        }
    }
    Ok(costs)
}

impl Stage {
    fn new(options: &Options, seats: &mut Seats, ports: usize) -> Result<Stage> {
        let host = Host::new(&format!("ports-{ports}"))?;
        let neighbour = Netns::anonymous()?;
        connect(&host, &neighbour)?;
        let agent = Agent::start(&options.weft, &host)?;
        let taken = seats.make(1 + ports.saturating_sub(1).div_ceil(OF_ONE))?;
        publish(&agent, &taken[0], &[format!("{PORT}:{WEB}"), format!("{PORT}:{ECHO}/udp")])?;
        let others: Vec<usize> = (1..ports).collect();
        for (some, seat) in others.chunks(OF_ONE).zip(&taken[1..]) {
            let port = |n: &usize| usize::from(PORT) + n;
            let of_both = |n: &usize| [format!("{}:{WEB}", port(n)), format!("{}:{ECHO}/udp", port(n))];
            publish(&agent, seat, &some.iter().flat_map(of_both).collect::<Vec<_>>())?;
        }
        let inside = Netns::open(&taken[0].netns)?;
        let web = inside.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, WEB)))??;
        let echo = inside.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, ECHO)))??;
        echo.set_read_timeout(Some(PATIENCE))?;
        Ok(Stage { neighbour, web, echo, taken, _agent: agent, _host: host })
    }

    /// A fresh connection, taken down at once: neither end remembers it.
    fn connect(&self) -> Result<Duration> {
        let socket =
            self.neighbour.run(|| rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None))??;
        sockopt::set_socket_linger(socket.as_fd(), Some(Duration::ZERO))?;
        let begin = Instant::now();
        rustix::net::connect(&socket, &AT).with_context(|| format!("failed to connect to {AT}"))?;
        let took = begin.elapsed();
        drop(self.web.accept()?);
        Ok(took)
    }

    /// A fresh flow's first datagram.
    fn send(&self) -> Result<Duration> {
        let socket = self.neighbour.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
        let begin = Instant::now();
        socket.send_to(b"x", AT)?;
        self.echo.recv(&mut [0; 1]).with_context(|| format!("no datagram came by {AT}"))?;
        Ok(begin.elapsed())
    }
}

/// Puts a host and a neighbour on one segment.
fn connect(host: &Host, neighbour: &Netns) -> Result<()> {
    let pair = link::Pair {
        host: &"uplink0".parse()?,
        host_mac: Mac([2, 0, 0, 0, 9, 1]),
        master: None,
        inner: &"eth0".parse()?,
        inner_mac: Mac([2, 0, 0, 0, 9, 2]),
        group: 0,
        mtu: 1500,
    };
    let mut messages = Messages::default();
    link::create_pair(&mut messages, &pair, neighbour.as_fd());
    let mut links = Links::of(&host.netns)?;
    links.send("make the neighbour's wire", &messages)?;
    let mut theirs = Links::of(neighbour)?;
    for (links, name, address) in [(&mut links, "uplink0", HOST), (&mut theirs, "eth0", NEIGHBOUR)] {
        links.set_up(name, true)?;
        links.add_address(name, format!("{address}/24").parse()?)?;
    }
    Ok(links.wait_operational("uplink0")?)
}

/// Attaches a workload with these ports, as they are typed.
fn publish(agent: &Agent, seat: &Seat, ports: &[String]) -> Result<()> {
    let (network, container, ifname) = (ROUTED.parse()?, seat.container.parse()?, "eth0".parse()?);
    let ports = ports.iter().map(|p| p.parse()).collect::<Result<_, _>>()?;
    let wish = Attach {
        id: AttachmentId { network, container, ifname },
        owner: Default::default(),
        netns: seat.netns.clone(),
        ips: Vec::new(),
        ranges: Vec::new(),
        assigned: Vec::new(),
        mac: None,
        host_ifname: None,
        pod: None,
        profile: Profile { ports, ..Profile::default() },
        explain: false,
    };
    match agent.ask(&Request::Attach(Box::new(wish)))? {
        Reply::Attached(_) => Ok(()),
        other => bail!("not an attachment: {other:?}"),
    }
}

/// Fails unless the ports of contestants that publish one lead to their workload: nobody shall be fast who does not do it.
///
/// # Errors
/// Whose port leads nowhere.
pub(crate) fn prove(field: &[Contestant], seats: &mut Seats) -> Result<()> {
    for contestant in field.iter().filter(|c| c.publishes()) {
        let made = seats.make(1)?;
        let added = contestant.add(&made[0])?;
        let inside = Netns::open(&made[0].netns)?;
        let _web = inside.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, WEB)))??;
        // The address of the host's that packets to the workload bear.
        let to = added.answer["ips"][0]["address"].as_str().context("the result names no address")?;
        let to: IpAddr = to.split('/').next().unwrap_or_default().parse()?;
        let own = {
            let _inside = contestant.host.enter()?;
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect((to, WEB))?;
            socket.local_addr()?.ip()
        };
        let at = SocketAddr::new(own, contestant::published_port(&made[0]));
        let answer = {
            let _inside = contestant.host.enter()?;
            TcpStream::connect_timeout(&at, PATIENCE)
        };
        answer.with_context(|| format!("{}: nothing answers at {at}", contestant.name))?;
        contestant.del(&made[0], &added)?;
        clear(&made)?;
    }
    Ok(())
}
