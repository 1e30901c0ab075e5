//! Packets between the host itself and all others, and what became of them: raw sockets of the host hear what its rules let in.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::net::{self, AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};
use weft_lab::traffic::frame::{packet as frame, udp};
use weft_lab::traffic::{Capture, Tap};
use weft_lab::{OUTSIDE4, OUTSIDE6};
use weft_plan::policy::Packet;

use super::{Cases, SENTINEL, bytes, note, number};
use crate::scene::SOON;

/// A port that the fail-safe holds open, in both directions: agents' questions.
const OPEN: u16 = 7765;

/// The host's ears and mouth, and the outside's.
pub struct HostCases {
    /// The workloads, and the host that they are on.
    pub cases: Cases,
    ears: Vec<(bool, u8, OwnedFd)>,
    mouths: [OwnedFd; 2],
    outside: (Tap, Capture),
}

impl HostCases {
    /// Opens sockets on the host.
    ///
    /// # Errors
    /// The agent's, the kernel's.
    pub fn new(mode: weft_model::Mode) -> Result<HostCases> {
        let cases = Cases::new(mode)?;
        let (ears, mouths) = cases.scene.host.netns().run(|| -> Result<_> {
            let raw = |v4: bool, protocol: Protocol| {
                let family = if v4 { AddressFamily::INET } else { AddressFamily::INET6 };
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                net::socket_with(family, SocketType::RAW, flags, Some(protocol))
            };
            let mut ears = Vec::new();
            for (v4, icmp) in [(true, ipproto::ICMP), (false, ipproto::ICMPV6)] {
                for protocol in [ipproto::TCP, ipproto::UDP, ipproto::SCTP, icmp, ipproto::GRE] {
                    let number = u8::try_from(protocol.as_raw().get())?;
                    ears.push((v4, number, raw(v4, protocol)?));
                }
            }
            Ok((ears, [raw(true, ipproto::RAW)?, raw(false, ipproto::RAW)?]))
        })??;
        let lan = cases.scene.underlay.netns();
        let outside = (Tap::open(lan, "lan")?, Capture::open(lan, "lan")?);
        Ok(HostCases { cases, ears, mouths, outside })
    }

    /// Whether a packet can be sent and seen: to the host from a workload or the first address outside, or from the host to there.
    #[must_use]
    pub fn can_send(&self, packet: &Packet) -> bool {
        let outside = |address| [IpAddr::V4(OUTSIDE4), IpAddr::V6(OUTSIDE6)].contains(&address);
        let workload = |address| self.cases.parties.contains_key(&address);
        let (from, to) = (packet.source, packet.destination);
        // What conntrack does not know as a connection is not translated, and would leave with an address of the network's.
        let translated = [6, 17, 1, 58].contains(&packet.protocol);
        workload(from) || outside(from) || workload(to) || (outside(to) && translated)
    }

    /// Sends packets and says which of them arrived. `expected` are those that are waited for.
    ///
    /// # Errors
    /// Those of sockets.
    pub fn arrived(&mut self, packets: &[Packet], expected: &[bool]) -> Result<Vec<bool>> {
        self.cases.drain()?;
        self.cases.forget_flows()?;
        self.outside.1.drain()?;
        self.hear(&[], 0, &[], &mut [])?;
        let mut arrived = vec![false; packets.len()];
        let first = self.cases.next;
        for (index, packet) in packets.iter().enumerate() {
            self.send(packet, &bytes(packet, number(first, index)))?;
        }
        let last = [SENTINEL, &first.to_be_bytes()].concat();
        let wanted = self.send_the_last(packets, &last)?;
        self.cases.next = number(first, packets.len());
        let (begin, mut lasts) = (Instant::now(), 0);
        loop {
            lasts += self.hear(packets, first, &last, &mut arrived)?;
            self.cases.look(packets, first, &mut arrived)?;
            for frame in self.outside.1.drain()? {
                note(&frame, packets, first, &mut arrived, |to| !self.cases.parties.contains_key(&to));
            }
            let missing = arrived.iter().zip(expected).any(|(arrived, expected)| *expected && !arrived);
            if lasts >= wanted && (!missing || begin.elapsed() > SOON / 2) {
                return Ok(arrived);
            }
            ensure!(begin.elapsed() < SOON, "{lasts} of {wanted} last packets came");
            std::thread::yield_now();
        }
    }

    fn send(&self, packet: &Packet, bytes: &[u8]) -> Result<()> {
        let host = &self.cases.scene.host;
        if let Some(party) = self.cases.parties.get(&packet.source) {
            let from = &self.cases.all[*party];
            from.tap.send(&frame(from.mac, from.gateway, bytes))?;
        } else if [IpAddr::V4(OUTSIDE4), IpAddr::V6(OUTSIDE6)].contains(&packet.source) {
            self.outside.0.send(&frame(weft_model::Mac([2, 0, 0, 0, 9, 9]), host.mac(), bytes))?;
        } else {
            let mouth = &self.mouths[usize::from(packet.destination.is_ipv6())];
            // A denied packet is an error for whoever sends it.
            net::sendto(mouth, bytes, SendFlags::empty(), &SocketAddr::new(packet.destination, 0)).ok();
        }
        Ok(())
    }

    /// One that is always let in, behind those of each sender; what has not come before it does not come. What the host sends and the
    /// rules refuse, they refuse before `sendto` returns. How many were sent.
    fn send_the_last(&self, packets: &[Packet], mark: &[u8]) -> Result<usize> {
        let mut ends = packets.iter().flat_map(|p| [p.source, p.destination]);
        let to = ends.find(|end| end.is_ipv4() && self.is_host(*end)).context("no packet is the host's")?;
        let mut senders: Vec<IpAddr> = self.cases.parties.keys().copied().filter(IpAddr::is_ipv4).collect();
        senders.push(OUTSIDE4.into());
        for sender in &senders {
            let packet = Packet { source: *sender, destination: to, protocol: 17, port: OPEN };
            self.send(&packet, &udp((*sender, OPEN), (to, OPEN), mark))?;
        }
        Ok(senders.len())
    }

    fn is_host(&self, address: IpAddr) -> bool {
        !self.cases.parties.contains_key(&address)
            && ![IpAddr::V4(OUTSIDE4), IpAddr::V6(OUTSIDE6)].contains(&address)
    }

    /// What the host's sockets have; how many of the last packets were among it.
    fn hear(&self, packets: &[Packet], first: u32, last: &[u8], arrived: &mut [bool]) -> Result<usize> {
        let (mut buffer, mut lasts) = (vec![0; 65_536], 0);
        for (v4, protocol, ear) in &self.ears {
            loop {
                let length = match net::recv(ear, &mut buffer[..], RecvFlags::empty()) {
                    Ok((length, _)) => length,
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(error) => return Err(error.into()),
                };
                let heard = &buffer[..length];
                lasts += usize::from(heard.ends_with(last) && !last.is_empty());
                for (index, packet) in packets.iter().enumerate() {
                    let mark = number(first, index).to_be_bytes();
                    let same = packet.protocol == *protocol && packet.destination.is_ipv4() == *v4;
                    if same && self.is_host(packet.destination) && heard.windows(4).any(|w| w == mark) {
                        arrived[index] = true;
                    }
                }
            }
        }
        Ok(lasts)
    }
}
