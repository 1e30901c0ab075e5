//! Watching the kernel: what of weft's is changed or removed by others is mended within a second
//! (invariant 8; BAR.md R4).
//!
//! It only rings the bell; the repair is the same read, diff and apply as at start.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use weft_kernel::netlink::{Error, Family, Message, Socket};
use weft_kernel::nft;
use weft_kernel::rtnl::{address, link, neighbour, qdisc, route};

use crate::agent::Agent;
use crate::chain;

/// Multicast groups of linux/rtnetlink.h: link, neighbour, queues and filters, IPv4 and IPv6 addresses, routes
/// and settings.
const GROUPS: [u32; 9] = [1, 3, 4, 5, 7, 9, 11, 24, 25];
/// Room for the events of a thousand links that vanish at once.
const ROOM: i32 = 4 << 20;

/// An attach makes a dozen events within a millisecond. To look at each would wake this thread each time
/// and have it wait for the engine, which the attach holds: so they are gathered for a moment.
const GATHER: Duration = Duration::from_millis(5);
/// So many packets are read before they are judged, however many there are.
const PACKETS: usize = 4096;

/// Sockets on which events arrive.
pub(crate) struct Watch {
    route: Socket,
    netfilter: Socket,
}

/// Something that happened to an object that could be weft's; the engine knows whether it matters.
#[derive(Debug)]
pub(crate) enum Event {
    /// A link went away, or its description changed.
    Link(weft_model::IfName),
    /// A link's settings are not what they were.
    Settings(weft_model::IfName, weft_kernel::rtnl::settings::Settings),
    /// A route was deleted, or set by another hand.
    Route(route::Described),
    /// A neighbour was deleted.
    NeighbourGone(neighbour::Described),
    /// A neighbour was set by another hand, or learnt; whether it is permanent.
    NeighbourSet(neighbour::Described, bool),
    /// A tunnel's forwarding entry was deleted, or set by another hand.
    Forwarding(neighbour::Forwarding, bool),
    /// An address was deleted.
    AddressGone(address::Described),
    /// An interface was given an address by another hand.
    AddressSet(address::Described),
    /// A queue or a filter of the interface with this index was changed by another hand.
    Queue(u32),
    /// Forwarding was switched off for all interfaces; whether of IPv4.
    ForwardingOff(bool),
    /// One of weft's tables was changed by another hand.
    Rules,
}

impl Watch {
    /// Subscribes. To be called before the first sync, so that nothing falls between.
    pub(crate) fn open() -> Result<Watch, Error> {
        let route = Socket::open(Family::Route)?;
        route.widen(ROOM);
        GROUPS.iter().try_for_each(|group| route.join(*group))?;
        let netfilter = Socket::open(Family::Netfilter)?;
        netfilter.widen(ROOM);
        netfilter.join(nft::GROUP)?;
        Ok(Watch { route, netfilter })
    }

    /// Works until the agent's end. `ours` are the ports of the agent's own sockets.
    pub(crate) fn run(mut self, agent: &Arc<Agent>, ours: &[u32]) {
        loop {
            if self.ready(None) == [false, false] {
                continue; // interrupted
            }
            thread::sleep(GATHER);
            let mut events = Vec::new();
            for _ in 0..PACKETS {
                let [route_ready, netfilter_ready] = self.ready(Some(&Timespec::default()));
                if route_ready {
                    let result = self.route.receive(|m| events.extend(read(&m, ours.contains(&m.port))));
                    lost(agent, result);
                }
                if netfilter_ready {
                    let tables = weft_kernel::ours::tables();
                    let result = self.netfilter.receive(|m| {
                        if !ours.contains(&m.port) && nft::concerns(&m, &tables) {
                            events.push(Event::Rules);
                        }
                    });
                    lost(agent, result);
                }
                if !route_ready && !netfilter_ready {
                    break;
                }
            }
            if !events.is_empty() && agent.engine().matters(&events) {
                agent.repair("the kernel was changed by another hand");
            }
        }
    }

    /// Which of the two sockets have something to read, after waiting at most so long.
    fn ready(&self, patience: Option<&Timespec>) -> [bool; 2] {
        let mut fds = [PollFd::new(&self.route, PollFlags::IN), PollFd::new(&self.netfilter, PollFlags::IN)];
        match poll(&mut fds, patience) {
            Ok(_) => [0, 1].map(|at: usize| !fds[at].revents().is_empty()),
            Err(_) => [false, false],
        }
    }
}

fn lost(agent: &Arc<Agent>, result: Result<(), Error>) {
    match result {
        Err(error) if error.lost_events() => agent.repair("events were lost"),
        Err(error) => tracing::warn!(error = chain(&error), "failed to receive kernel events"),
        Ok(()) => {}
    }
}

/// `own` events say what the agent itself has done; what it sets is as it should be.
fn read(message: &Message<'_>, own: bool) -> Option<Event> {
    match message.kind {
        rtm::NEWLINK | rtm::DELLINK => Some(Event::Link(link::read(message)?.name?)),
        rtm::NEWROUTE if own => None,
        rtm::NEWROUTE | rtm::DELROUTE => Some(Event::Route(route::read(message)?)),
        rtm::NEWNEIGH if own => None,
        rtm::NEWNEIGH | rtm::DELNEIGH if is_forwarding(message) => {
            let gone = message.kind == rtm::DELNEIGH;
            Some(Event::Forwarding(neighbour::read_forwarding(message)?, gone))
        }
        rtm::NEWNEIGH => neighbour::read_any(message).map(|(n, permanent)| Event::NeighbourSet(n, permanent)),
        rtm::DELNEIGH => Some(Event::NeighbourGone(neighbour::read(message)?)),
        rtm::NEWADDR if own => None,
        rtm::NEWADDR => Some(Event::AddressSet(address::read(message)?)),
        rtm::DELADDR => Some(Event::AddressGone(address::read(message)?)),
        rtm::NEWQDISC | rtm::DELQDISC | rtm::NEWTFILTER | rtm::DELTFILTER if own => None,
        rtm::NEWQDISC | rtm::DELQDISC | rtm::NEWTFILTER | rtm::DELTFILTER => {
            qdisc::interface_of(message).map(Event::Queue)
        }
        rtm::NEWNETCONF => forwarding_off(message).map(Event::ForwardingOff),
        _ => None,
    }
}

fn is_forwarding(message: &Message<'_>) -> bool {
    message.structure() == Some([7_u8]) // AF_BRIDGE
}

/// Reads a change of settings (linux/netconf.h): a byte of family, the interface (-1 is all), forwarding.
fn forwarding_off(message: &Message<'_>) -> Option<bool> {
    const ALL: u32 = u32::MAX;
    let value = |kind: u16| message.attributes(4).find(|a| a.kind == kind).and_then(|a| a.u32());
    let [family] = message.structure()?;
    (value(1) == Some(ALL) && value(2) == Some(0)).then_some(i32::from(family) == 2) // AF_INET
}

/// Message types of linux/rtnetlink.h.
mod rtm {
    pub(super) const NEWLINK: u16 = 16;
    pub(super) const DELLINK: u16 = 17;
    pub(super) const NEWADDR: u16 = 20;
    pub(super) const DELADDR: u16 = 21;
    pub(super) const NEWROUTE: u16 = 24;
    pub(super) const DELROUTE: u16 = 25;
    pub(super) const NEWNEIGH: u16 = 28;
    pub(super) const DELNEIGH: u16 = 29;
    pub(super) const NEWQDISC: u16 = 36;
    pub(super) const DELQDISC: u16 = 37;
    pub(super) const NEWTFILTER: u16 = 44;
    pub(super) const DELTFILTER: u16 = 45;
    pub(super) const NEWNETCONF: u16 = 80;
}
