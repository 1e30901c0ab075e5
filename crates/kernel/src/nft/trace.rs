//! Following packets through all rules (`meta nftrace set 1`, linux/netfilter/nf_tables.h `nft_trace_attributes`).
//!
//! What marks the packets stands in a table that belongs to a socket (`NFT_TABLE_F_OWNER`, Linux 5.12): with its last
//! descriptor, also of a process that was killed, the kernel takes the table away.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::batch::{Error, answer};
use super::decode;
use super::depend::{canonical, expand};
use super::encode;
use super::expression::Expr;
use super::field::Field;
use super::model::{Family, Hook, Rule, TableName};
use super::read::rules;
use super::text;
use super::wire::{
    ACK, APPEND, BATCH_BEGIN, BATCH_END, CREATE, LIST_ELEMENT, REQUEST, SUBSYSTEM, header, kind, message,
    table,
};
use crate::netlink::{self, Message, Messages, Socket};

/// `NFNLGRP_NFTRACE`.
const GROUP: u32 = 9;
const TRACE: u16 = 17; // NFT_MSG_TRACE
const OWNED: u32 = 2; // NFT_TABLE_F_OWNER
/// Before all that anybody has at the hooks.
const FIRST: i32 = -1000;
const ACCEPT: u32 = 1; // NF_ACCEPT

/// The packets that are followed: those that begin the connection, as their sender sends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    /// From.
    pub source: IpAddr,
    /// To.
    pub destination: IpAddr,
    /// The protocol's number.
    pub protocol: u8,
    /// Source and destination port, where the protocol has them.
    pub ports: Option<(u16, u16)>,
}

/// Somebody who is told what rules do with packets. Dropping it ends that.
pub struct Follower {
    /// Holds the table for as long as it is open.
    _owner: Socket,
    events: Socket,
    /// What the table is called.
    pub table: String,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("table", &self.table).finish_non_exhaustive()
    }
}

/// What a rule, or the end of a chain, did with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Tells one packet from others; the same at all of them.
    pub packet: u32,
    /// The table.
    pub table: TableName,
    /// The chain.
    pub chain: String,
    /// The rule; `None` at the end of a chain.
    pub rule: Option<u64>,
    /// What it says.
    pub verdict: Outcome,
    /// The interface by which the packet came, if it did.
    pub came_by: Option<u32>,
    /// The interface by which it is to leave, if that is known already.
    pub leaves_by: Option<u32>,
    /// Its addresses at this place: translated ones, behind translation.
    pub ends: Option<(IpAddr, IpAddr)>,
    /// Its ports at this place.
    pub ports: Option<(u16, u16)>,
}

/// What becomes of the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on behind this base chain.
    Accept,
    /// It is gone.
    Drop,
    /// The next rule is asked.
    Continue,
    /// Another chain is asked.
    To(String),
    /// The chain that led here is asked again.
    Return,
    /// Something else took it, such as a queue.
    Taken,
}

impl Follower {
    /// Has packets followed from here on, in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::Refused`] with `EOPNOTSUPP` or `EINVAL` before Linux 5.12; [`Error::Netlink`].
    pub fn begin(followed: &Followed) -> Result<Follower, Error> {
        let mut owner = Socket::open(netlink::Family::Netfilter)?;
        let events = Socket::open(netlink::Family::Netfilter)?;
        events.join(GROUP)?;
        events.widen(1 << 20);
        let name = format!("weft_trace_{}", owner.port());
        let matching = matching(followed);
        let mut messages = Messages::default();
        messages.push(BATCH_BEGIN, REQUEST, &header(0, SUBSYSTEM), |_| ());
        let mut count = 0;
        let mut push = |message, flags, family: Family, body: &dyn Fn(&mut netlink::Attributes<'_>)| {
            count += 1;
            messages.push(kind(message), REQUEST | flags, &header(family as u8, 0), body);
        };
        for family in [Family::Bridge, Family::Inet] {
            push(message::NEW_TABLE, CREATE, family, &|a| {
                a.text(1, &name).be32(2, OWNED);
            });
            for hook in [Hook::Prerouting, Hook::Output] {
                push(message::NEW_CHAIN, CREATE, family, &|a| {
                    a.text(1, &name).text(3, hook.name());
                    a.nest(4, |place| {
                        place.be32(1, hook.number(family).unwrap_or(u32::MAX)).be32(2, FIRST.cast_unsigned());
                    });
                    a.be32(5, ACCEPT).text(7, "filter");
                });
                let last = family == Family::Inet && hook == Hook::Output;
                let ack = if last { ACK } else { 0 };
                push(message::NEW_RULE, CREATE | APPEND | ack, family, &|a| {
                    a.text(1, &name).text(2, hook.name());
                    a.nest(4, |list| {
                        encode::expressions(list, &expand(family, &matching), std::iter::empty());
                        follow(list);
                    });
                });
            }
        }
        messages.push(BATCH_END, REQUEST, &header(0, SUBSYSTEM), |_| ());
        let first = owner.send(messages)?;
        match answer(&mut owner, first, count)? {
            None => Ok(Follower { _owner: owner, events, table: name }),
            Some((index, source)) => Err(Error::Refused {
                op: format!("add table inet {name} {{ flags owner ; }}"),
                index,
                source,
            }),
        }
    }

    /// What happened since the last call, or happens until `deadline` if nothing has.
    ///
    /// # Errors
    /// The conversation's.
    pub fn steps(&mut self, deadline: Instant) -> Result<Vec<Step>, netlink::Error> {
        let mut steps = Vec::new();
        let mut patience = deadline.saturating_duration_since(Instant::now());
        while self.has_more(patience)? {
            match self.events.receive(|message| steps.extend(read(&message))) {
                Err(error) if !error.lost_events() => return Err(error),
                _ => patience = Duration::ZERO,
            }
        }
        steps.retain(|step: &Step| step.table.name != self.table);
        Ok(steps)
    }

    fn has_more(&self, patience: Duration) -> Result<bool, netlink::Error> {
        let receive = |e: rustix::io::Errno| netlink::Error::Receive(e.into());
        let timeout = Timespec::try_from(patience).map_err(|_| receive(rustix::io::Errno::INVAL))?;
        let mut fds = [PollFd::from_borrowed_fd(self.events.as_fd(), PollFlags::IN)];
        let ready = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&timeout))).map_err(receive)?;
        Ok(ready > 0)
    }
}

/// What tells the packets from all others.
fn matching(followed: &Followed) -> Vec<Expr> {
    let mut all = match (followed.source, followed.destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            vec![Expr::eq(Field::IpSaddr, from), Expr::eq(Field::IpDaddr, to)]
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            vec![Expr::eq(Field::Ip6Saddr, from), Expr::eq(Field::Ip6Daddr, to)]
        }
        _ => Vec::new(),
    };
    all.push(Expr::number(Field::L4Proto, followed.protocol.into()));
    if let Some((from, to)) = followed.ports {
        all.extend([Expr::number(Field::ThSport, from.into()), Expr::number(Field::ThDport, to.into())]);
    }
    all
}

/// `meta nftrace set 1`.
fn follow(list: &mut netlink::Attributes<'_>) {
    const REGISTER: u32 = 1; // NFT_REG_1
    const NFTRACE: u32 = 12; // NFT_META_NFTRACE
    list.nest(LIST_ELEMENT, |element| {
        element.text(1, "immediate").nest(2, |body| {
            body.be32(1, REGISTER).nest(2, |data| {
                data.bytes(1, &[1]);
            });
        });
    });
    list.nest(LIST_ELEMENT, |element| {
        element.text(1, "meta").nest(2, |body| {
            body.be32(2, NFTRACE).be32(3, REGISTER);
        });
    });
}

/// Reads what a rule did; `None` for other messages.
#[must_use]
pub fn read(event: &Message<'_>) -> Option<Step> {
    if event.kind != kind(TRACE) {
        return None;
    }
    let [family, ..] = event.structure::<4>()?;
    let family = Family::ALL.into_iter().find(|known| *known as u8 == family)?;
    let a = table::<17>(event.body(4));
    let word = |at: usize| a[at].and_then(|attribute| attribute.be32());
    let verdict = match (word(4)?, a[5], word(16)) {
        (1, _, policy) => {
            if policy? == ACCEPT {
                Outcome::Accept
            } else {
                Outcome::Drop
            }
        } // NFT_TRACETYPE_POLICY
        (2, _, _) => Outcome::Return, // NFT_TRACETYPE_RETURN
        (_, verdict, _) => outcome(verdict?.value)?,
    };
    let network = a[8].map(|header| header.value);
    let ends = network.and_then(ends);
    let ports = a[9].and_then(|header| {
        let port = |at: usize| Some(u16::from_be_bytes(header.value.get(at..at + 2)?.try_into().ok()?));
        port(0).zip(port(2))
    });
    Some(Step {
        packet: word(6)?,
        table: TableName::new(family, a[1]?.text()?),
        chain: a[2]?.text()?.to_owned(),
        rule: a[3].and_then(|handle| handle.be64()).filter(|_| word(4) == Some(3)),
        verdict,
        came_by: word(10),
        leaves_by: word(12),
        ends,
        ports,
    })
}

fn outcome(verdict: &[u8]) -> Option<Outcome> {
    let [_, code, chain] = table::<3>(verdict);
    let chain = || chain.and_then(|chain| chain.text()).unwrap_or_default().to_owned();
    Some(match code?.be32()?.cast_signed() {
        0 => Outcome::Drop,
        1 => Outcome::Accept,
        -1 | -2 => Outcome::Continue,    // NFT_CONTINUE, NFT_BREAK
        -3 | -4 => Outcome::To(chain()), // NFT_JUMP, NFT_GOTO
        -5 => Outcome::Return,
        _ => Outcome::Taken,
    })
}

fn ends(header: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match header.first()? >> 4 {
        4 => {
            let address = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(header.get(at..at + 4)?).ok()?));
            address(12).zip(address(16))
        }
        6 => {
            let address =
                |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(header.get(at..at + 16)?).ok()?));
            address(8).zip(address(24))
        }
        _ => None,
    }
}

/// What is known of a rule by its number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Its comment.
    pub comment: Option<String>,
    /// Its text in the language of `nft`, as far as it is understood.
    pub text: Option<String>,
}

/// The rules of a table by their numbers. A table that is not there has none.
///
/// # Errors
/// [`Error::Netlink`].
pub fn named(socket: &mut Socket, name: &TableName) -> Result<BTreeMap<u64, Named>, Error> {
    let found = match rules(socket, name) {
        Err(netlink::Error::Refused(refusal)) if refusal.errno == libc::ENOENT => Vec::new(),
        found => found?,
    };
    let words = |expressions: &[u8]| {
        let expressions = decode::expressions(name.family, expressions, &decode::Anonymous::default());
        let known = !expressions.iter().any(|e| matches!(e, Expr::Foreign(_)));
        known.then(|| text::rule(&canonical(name.family, &Rule { expressions, comment: None })))
    };
    let named = |rule: super::read::RawRule| {
        (rule.handle, Named { text: words(&rule.expressions), comment: rule.comment })
    };
    Ok(found.into_iter().map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the kernel, or who pretends to be it, sends: it is read or not, and nothing breaks.
    #[test]
    fn rubbish_is_no_step() {
        let mut bytes = [0; 64];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::try_from(index * 37 % 251).unwrap_or(0);
        }
        for length in 0..bytes.len() {
            assert_eq!(ends(&[&[0x10], &bytes[..length]].concat()), None);
            let _ = (ends(&bytes[..length]), outcome(&bytes[..length]));
        }
    }
}
