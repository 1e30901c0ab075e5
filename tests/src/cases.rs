//! The worlds of `weft_plan::policy::cases` made real: nine workloads on a host with an agent, and packets between them.

pub mod host;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use weft_kernel::conntrack;
use weft_kernel::netlink::{Family, Socket};
use weft_lab::traffic::frame::{Frame, icmp, ip, packet, tcp, udp};
use weft_lab::traffic::{Capture, Tap};
use weft_lab::{Namespace, OUTSIDE4, OUTSIDE6};
use weft_model::api::{Apply, Get, NetworkSpec, Outcome, Reply, Request};
use weft_model::{Declared, Mac, Mode, NetworkName, Object, ObjectId, World};
use weft_plan::policy::Packet;
use weft_plan::policy::cases;

use crate::scene::{SOON, Scene};

/// A workload with what it takes to send and see packets.
struct Party {
    /// Held open: the workload lives in it.
    _namespace: Namespace,
    mac: Mac,
    gateway: Mac,
    tap: Tap,
    capture: Capture,
}

/// Nine workloads in three namespaces, and the world that the oracle is asked about.
pub struct Cases {
    /// The host, its agent and the outside.
    pub scene: Scene,
    network: NetworkName,
    mode: Mode,
    parties: BTreeMap<IpAddr, usize>,
    all: Vec<Party>,
    outside: Capture,
    /// What is declared at the moment.
    pub world: World,
    next: u32,
}

impl Cases {
    /// Attaches the workloads.
    ///
    /// # Errors
    /// The agent's.
    pub fn new(mode: Mode) -> Result<Cases> {
        let scene = Scene::new()?;
        let wanted = cases::network(mode);
        let spec = NetworkSpec {
            name: wanted.name.clone(),
            subnets: wanted.subnets().collect(),
            mode,
            mtu: None,
            masquerade: true,
            encapsulation: weft_model::Encapsulation::Auto,
            explain: false,
        };
        scene.host.create_network(spec)?;
        let world = cases::world(mode, false);
        let (mut parties, mut all) = (BTreeMap::new(), Vec::new());
        for workload in world.workloads.values() {
            let namespace = Namespace::new()?;
            let mut wish = namespace.wish(&wanted.name, "eth0")?;
            wish.ips = workload.addresses.iter().map(ipnet::IpNet::addr).collect();
            wish.profile = workload.profile.clone();
            let attached = Namespace::attach_as(&scene.host, wish)?;
            parties.extend(workload.addresses.iter().map(|a| (a.addr(), all.len())));
            all.push(Party {
                mac: attached.mac,
                gateway: attached.bridge.map_or(attached.host_mac, |(_, mac)| mac),
                tap: Tap::open(namespace.netns(), "eth0")?,
                capture: Capture::open(namespace.netns(), "eth0")?,
                _namespace: namespace,
            });
        }
        let outside = Capture::open(scene.underlay.netns(), "lan")?;
        let mut made =
            Cases { scene, network: wanted.name, mode, parties, all, outside, world, next: 0x5eed_0000 };
        let declared = std::mem::take(&mut made.world.declared);
        made.declare(&declared)?;
        Ok(made)
    }

    /// Makes the agent hold just these objects, and waits until they are in force.
    ///
    /// # Errors
    /// The agent's.
    pub fn declare(&mut self, wanted: &Declared) -> Result<()> {
        let ids = |declared: &Declared| declared.objects().map(|o| o.id()).collect::<Vec<ObjectId>>();
        let keep = ids(wanted);
        let gone: Vec<ObjectId> =
            ids(&self.world.declared).into_iter().filter(|id| !keep.contains(id)).collect();
        let objects: Vec<Object> = wanted.objects().collect();
        for request in [Request::Apply(Apply { objects, dry_run: false }), Request::Delete(gone)] {
            match self.scene.host.request(&request)? {
                Reply::Applied(outcomes) => {
                    let bad =
                        outcomes.iter().find(|(_, o)| matches!(o, Outcome::Absent | Outcome::Terminating));
                    ensure!(bad.is_none(), "{bad:?}");
                }
                other => bail!("{other:?}"),
            }
        }
        self.world.declared = wanted.clone();
        Ok(())
    }

    /// What the agent holds.
    ///
    /// # Errors
    /// The agent's.
    pub fn declared(&self) -> Result<Vec<Object>> {
        match self.scene.host.request(&Request::Get(Get { kind: None, namespace: None, name: None }))? {
            Reply::Objects(objects) => Ok(objects),
            other => bail!("{other:?}"),
        }
    }

    /// The network of the workloads.
    #[must_use]
    pub fn network(&self) -> &NetworkName {
        &self.network
    }

    /// Whether a packet can be sent and seen here: from a workload, to another or to the outside.
    #[must_use]
    pub fn can_send(&self, packet: &Packet) -> bool {
        let outside = [IpAddr::V4(OUTSIDE4), IpAddr::V6(OUTSIDE6)].contains(&packet.destination);
        // What conntrack does not know as a connection never leaves untranslated, whatever policy says.
        let translated = [6, 17, 1, 58].contains(&packet.protocol);
        self.parties.contains_key(&packet.source)
            && (self.parties.contains_key(&packet.destination) || (outside && translated))
    }

    /// Sends packets and says which of them arrived. `expected` are those that are waited for.
    ///
    /// # Errors
    /// If one that is expected does not arrive, it is not among the arrived; errors are those of sockets.
    pub fn arrived(&mut self, packets: &[Packet], expected: &[bool]) -> Result<Vec<bool>> {
        self.drain()?;
        self.forget_flows()?;
        let first = self.next;
        for (index, packet) in packets.iter().enumerate() {
            let from = &self.all[self.parties[&packet.source]];
            let to = match (self.mode, self.parties.get(&packet.destination)) {
                (Mode::Bridge, Some(to)) => self.all[*to].mac,
                _ => from.gateway,
            };
            let id = number(first, index);
            from.tap.send(&self::packet(from.mac, to, &bytes(packet, id)))?;
        }
        self.next = number(first, packets.len());
        let mut arrived = vec![false; packets.len()];
        self.until_the_last(packets, first, &mut arrived)?;
        let begin = Instant::now();
        loop {
            self.look(packets, first, &mut arrived)?;
            let missing = arrived.iter().zip(expected).any(|(arrived, expected)| *expected && !arrived);
            if !missing || begin.elapsed() > SOON / 2 {
                return Ok(arrived);
            }
            std::thread::yield_now();
        }
    }

    /// A packet from the host to each workload, behind all others: what has not come before it does not come.
    fn until_the_last(&self, packets: &[Packet], first: u32, arrived: &mut [bool]) -> Result<()> {
        let socket = weft_lab::traffic::udp(self.scene.host.netns(), crate::scene::anywhere(0))?;
        for (address, _) in self.parties.iter().filter(|(address, _)| address.is_ipv4()) {
            socket.send_to(SENTINEL, SocketAddr::new(*address, 9))?;
        }
        for (index, party) in self.all.iter().enumerate() {
            let last = |frame: &Frame| frame.contains(SENTINEL) && frame.protocol == Some(17);
            for frame in party.capture.until(SOON, last).context("the host's own packet")? {
                note(&frame, packets, first, arrived, |to| self.parties.get(&to) == Some(&index));
            }
        }
        Ok(())
    }

    /// What earlier packets began must not carry later ones.
    fn forget_flows(&self) -> Result<()> {
        self.scene.host.netns().run(|| {
            let mut socket = Socket::open(Family::Netfilter)?;
            let flows = conntrack::flows(&mut socket, &conntrack::Filter::default())?;
            conntrack::forget(&mut socket, &flows).map(|_| ())
        })??;
        Ok(())
    }

    fn drain(&self) -> Result<()> {
        for capture in self.all.iter().map(|p| &p.capture).chain([&self.outside]) {
            capture.drain()?;
        }
        Ok(())
    }

    fn look(&self, packets: &[Packet], first: u32, arrived: &mut [bool]) -> Result<()> {
        for (index, party) in self.all.iter().enumerate() {
            for frame in party.capture.drain()? {
                note(&frame, packets, first, arrived, |to| self.parties.get(&to) == Some(&index));
            }
        }
        for frame in self.outside.drain()? {
            note(&frame, packets, first, arrived, |to| !self.parties.contains_key(&to));
        }
        Ok(())
    }
}

const SENTINEL: &[u8] = b"nothing comes behind this";

/// The number that a packet bears. Not one after the other: a reset acknowledges the next one.
fn number(first: u32, index: usize) -> u32 {
    first.wrapping_add(16 * u32::try_from(index).unwrap_or(0))
}

/// Which packet a frame is, if it is one of these at the right place.
fn note(frame: &Frame, packets: &[Packet], first: u32, arrived: &mut [bool], here: impl Fn(IpAddr) -> bool) {
    for (index, packet) in packets.iter().enumerate() {
        let same = frame.destination == Some(packet.destination) && frame.protocol == Some(packet.protocol);
        if same && here(packet.destination) && frame.contains(&number(first, index).to_be_bytes()) {
            arrived[index] = true;
        }
    }
}

/// A packet that bears a number by which it is known again.
fn bytes(packet: &Packet, id: u32) -> Vec<u8> {
    let Packet { source, destination, protocol, port } = *packet;
    let own = 20_000 + u16::try_from(id / 16 % 40_000).unwrap_or(0);
    let mark = id.to_be_bytes();
    match protocol {
        6 => tcp((source, own), (destination, port), 2, id, 0),
        17 => udp((source, own), (destination, port), &mark),
        132 => {
            let ports = [own.to_be_bytes(), port.to_be_bytes()].concat();
            // An INIT chunk (RFC 9260, section 3.3.2) in a packet without a checksum.
            let init = [&[1, 0, 0, 20][..], &mark, &[0, 0, 32, 0, 0, 1, 0, 1], &mark].concat();
            ip(source, destination, 132, &[&ports[..], &[0; 8], &init].concat())
        }
        1 => icmp(source, destination, 8, 0, &[&own.to_be_bytes()[..], &[0, 1], &mark].concat()),
        58 => icmp(source, destination, 128, 0, &[&own.to_be_bytes()[..], &[0, 1], &mark].concat()),
        other => ip(source, destination, other, &[&[0, 0, 8, 0][..], &mark].concat()),
    }
}
