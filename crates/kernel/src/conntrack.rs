//! The kernel's table of connections: asking which flows there are, and making it forget some (linux/netfilter/
//! nfnetlink_conntrack.h).
//!
//! A flow keeps the translation that it began with for as long as it lives. Whoever changes where something
//! leads must have the kernel forget the flows that lead elsewhere, or they go astray: a UDP client that
//! never pauses would do so for ever (PAINS.md 7).

mod tuple;

use std::net::IpAddr;

use crate::netlink::{self, Message, Messages, Socket, attributes};

pub use tuple::{Parts, Tuple};

const SUBSYSTEM: u16 = 1; // NFNL_SUBSYS_CTNETLINK
const NEW: u16 = 0; // IPCTNL_MSG_CT_NEW
const GET: u16 = 1; // IPCTNL_MSG_CT_GET
const DELETE: u16 = 2; // IPCTNL_MSG_CT_DELETE

const REQUEST: u16 = 1; // NLM_F_REQUEST
const ACK: u16 = 4; // NLM_F_ACK
const DUMP: u16 = 0x300; // NLM_F_DUMP

/// `CTA_*` of the enumeration `ctattr_type`.
mod attribute {
    pub(super) const ORIGINAL: u16 = 1;
    pub(super) const REPLY: u16 = 2;
    pub(super) const STATUS: u16 = 3;
    pub(super) const MARK: u16 = 8;
    pub(super) const ID: u16 = 12;
    pub(super) const ZONE: u16 = 18;
    pub(super) const FILTER: u16 = 25;
}
const IPV4: u8 = 2; // AF_INET
const IPV6: u8 = 10; // AF_INET6
const FILTER_ORIGINAL: u16 = 1; // CTA_FILTER_ORIG_FLAGS
const FILTER_REPLY: u16 = 2; // CTA_FILTER_REPLY_FLAGS

/// Bits of a flow's status (linux/netfilter/nf_conntrack_common.h).
pub mod status {
    /// Packets were seen in both directions.
    pub const SEEN_REPLY: u32 = 1 << 1;
    /// Its source is translated.
    pub const SOURCE_TRANSLATED: u32 = 1 << 4;
    /// Its destination is translated.
    pub const DESTINATION_TRANSLATED: u32 = 1 << 5;
}

/// A flow that the kernel tracks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Its packets as they were first sent.
    pub original: Tuple,
    /// The answers as they are expected: from where the flow was led to, to whom it seemed to come from.
    pub reply: Tuple,
    /// [`status`].
    pub status: u32,
    /// Its mark.
    pub mark: u32,
    /// A number that tells it from others of the same ends, but for one that takes its very place in memory.
    pub id: Option<u32>,
    /// Its conntrack zone.
    pub zone: u16,
}

impl Flow {
    /// Whether it was sent to one place and led to another.
    #[must_use]
    pub fn is_led_elsewhere(&self) -> bool {
        self.status & status::DESTINATION_TRANSLATED != 0
    }

    /// Whether this address is one of its ends, before or after translation.
    #[must_use]
    pub fn concerns(&self, address: IpAddr) -> bool {
        let ends = |t: &Tuple| [t.source, t.destination];
        ends(&self.original).into_iter().chain(ends(&self.reply)).any(|end| end == address)
    }
}

/// Which flows are asked for: those whose known parts are as given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of the packets as they were first sent.
    pub original: Parts,
    /// Of the answers.
    pub reply: Parts,
    /// Whether they are IPv4; `None` for both families, if no address tells.
    pub ipv4: Option<bool>,
}

impl Filter {
    /// Whether a flow is among those asked for.
    #[must_use]
    pub fn admits(&self, flow: &Flow) -> bool {
        let family = self.ipv4.is_none_or(|ipv4| flow.original.source.is_ipv4() == ipv4);
        family && self.original.admits(&flow.original) && self.reply.admits(&flow.reply)
    }

    /// The families to ask for, one after the other: the kernel filters within one only. 0 asks for all.
    fn families(&self) -> &'static [u8] {
        let address = self.original.address().or(self.reply.address());
        match (address.map(|a| a.is_ipv4()).or(self.ipv4), self.original.flags() | self.reply.flags()) {
            (None, 0) => &[0],
            (None, _) => &[IPV4, IPV6],
            (Some(true), _) => &[IPV4],
            (Some(false), _) => &[IPV6],
        }
    }
}

/// Lists the flows that the filter admits. The kernel filters since Linux 5.8; before that all are sent, and
/// left out here.
///
/// # Errors
/// The conversation's; [`netlink::Error::Refused`] without `CAP_NET_ADMIN`, or where the kernel has no
/// `nf_conntrack_netlink`.
pub fn flows(socket: &mut Socket, filter: &Filter) -> Result<Vec<Flow>, netlink::Error> {
    let mut all = Vec::new();
    for family in filter.families() {
        all.extend(of_family(socket, filter, *family)?);
    }
    Ok(all)
}

fn of_family(socket: &mut Socket, filter: &Filter, family: u8) -> Result<Vec<Flow>, netlink::Error> {
    let mut request = Messages::default();
    request.push(kind(GET), REQUEST | DUMP, &header(family), |a| {
        let (original, reply) = (filter.original.flags(), filter.reply.flags());
        if original | reply == 0 {
            return;
        }
        // The kernel wants a tuple for each side that has flags.
        if original != 0 {
            filter.original.write(a, attribute::ORIGINAL);
        }
        if reply != 0 {
            filter.reply.write(a, attribute::REPLY);
        }
        a.nest(attribute::FILTER, |a| {
            a.u32(FILTER_ORIGINAL, original).u32(FILTER_REPLY, reply);
        });
    });
    let gather = |all: &mut Vec<Flow>, message: &Message<'_>| {
        all.extend(read(message).filter(|flow| filter.admits(flow)));
    };
    socket.dump(&request, gather)
}

/// Makes the kernel forget these flows; returns how many there still were. The next packet of each begins
/// anew, under the rules of now.
///
/// # Errors
/// The conversation's, and the first refusal that says anything but that the flow is gone.
pub fn forget(socket: &mut Socket, flows: &[Flow]) -> Result<usize, netlink::Error> {
    let mut messages = Messages::default();
    for flow in flows {
        let family = crate::rtnl::family(flow.original.source);
        messages.push(kind(DELETE), REQUEST | ACK, &header(family), |a| {
            flow.original.write(a, attribute::ORIGINAL);
            if let Some(id) = flow.id {
                a.be32(attribute::ID, id);
            }
            if flow.zone != 0 {
                a.bytes(attribute::ZONE, &flow.zone.to_be_bytes());
            }
        });
    }
    let mut gone = 0;
    for answer in socket.transact(&messages)? {
        match answer {
            Ok(()) => gone += 1,
            Err(refusal) if refusal.errno == libc::ENOENT => {}
            Err(refusal) => return Err(netlink::Error::Refused(refusal)),
        }
    }
    Ok(gone)
}

/// Reads a flow; `None` for other messages, and for flows of protocols that are not understood.
#[must_use]
pub fn read(message: &Message<'_>) -> Option<Flow> {
    if message.kind != kind(NEW) {
        return None;
    }
    let (mut original, mut reply) = (None, None);
    let (mut status, mut mark, mut id, mut zone) = (0, 0, None, 0);
    for a in attributes(message.body(4)) {
        match a.kind {
            attribute::ORIGINAL => original = Tuple::read(a.value),
            attribute::REPLY => reply = Tuple::read(a.value),
            attribute::STATUS => status = a.be32()?,
            attribute::MARK => mark = a.be32()?,
            attribute::ID => id = a.be32(),
            attribute::ZONE => zone = u16::from_be_bytes(a.value.try_into().ok()?),
            _ => {}
        }
    }
    Some(Flow { original: original?, reply: reply?, status, mark, id, zone })
}

fn kind(message: u16) -> u16 {
    (SUBSYSTEM << 8) | message
}

/// `nfgenmsg`: family, version 0, resource 0.
fn header(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

#[cfg(test)]
mod tests;
