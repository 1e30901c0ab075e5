//! Queueing disciplines: a token bucket where packets leave an interface, and the place where filters look
//! at those that arrive (linux/pkt_sched.h, net/sched/sch_tbf.c, net/sched/sch_ingress.c).

use super::{ACK, CREATE, DUMP, EXCLUSIVE, REPLACE, REQUEST};
use crate::netlink::{Attributes, Message, Messages, find};

const HEADER: usize = 20; // struct tcmsg
pub(super) const KIND: u16 = 1; // TCA_KIND
pub(super) const OPTIONS: u16 = 2; // TCA_OPTIONS
const ROOT: u32 = u32::MAX; // TC_H_ROOT
/// What clsact and ingress hang from; there is one of either at most.
const ARRIVALS: u32 = 0xffff_fff1; // TC_H_CLSACT, TC_H_INGRESS
const ARRIVALS_HANDLE: u32 = 0xffff_0000;

const TBF_PARMS: u16 = 1; // TCA_TBF_PARMS: struct tc_tbf_qopt
const TBF_RATE64: u16 = 4; // TCA_TBF_RATE64
const TBF_OPTIONS: usize = 36; // two of struct tc_ratespec (12 bytes), limit, buffer, mtu
const ETHERNET: u8 = 1; // TC_LINKLAYER_ETHERNET: computed, not looked up in a table of user space's

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// Bytes per second.
    pub rate: u64,
    /// The time that a burst stands for, in ticks of 64 ns (PSCHED_SHIFT), as the kernel keeps it.
    pub burst: u32,
    /// What may wait, in bytes.
    pub limit: u32,
}

/// A queueing discipline as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Index of its interface.
    pub index: u32,
    /// Its number on that interface.
    pub handle: u32,
    /// Whether it serves all that leaves.
    pub root: bool,
    /// `tbf`, `clsact`, …
    pub kind: String,
    /// What it is set to, if it is a token bucket that weft could have made.
    pub bucket: Option<TokenBucket>,
}

impl Described {
    /// Whether filters can look at what arrives by its interface.
    #[must_use]
    pub fn takes_arrivals(&self) -> bool {
        matches!(self.kind.as_str(), "clsact" | "ingress")
    }
}

pub(super) fn header(index: u32, handle: u32, parent: u32, info: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    for (at, word) in [(4, index), (8, handle), (12, parent), (16, info)] {
        bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// Sets the token bucket of an interface, in the place of whatever was there. One with that handle is changed and
/// keeps what waits in it.
pub fn set(messages: &mut Messages, index: u32, handle: u32, bucket: &TokenBucket) {
    let flags = REQUEST | ACK | CREATE | REPLACE;
    messages.push(libc::RTM_NEWQDISC, flags, &header(index, handle, ROOT, 0), |a| {
        a.text(KIND, "tbf");
        a.nest(OPTIONS, |a| options(a, bucket));
    });
}

fn options(a: &mut Attributes<'_>, bucket: &TokenBucket) {
    let mut options = [0; TBF_OPTIONS];
    options[1] = ETHERNET;
    // Rates that do not fit have an attribute of their own.
    let short = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
    for (at, word) in [(8, short), (24, bucket.limit), (28, bucket.burst)] {
        options[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    a.bytes(TBF_PARMS, &options);
    if u64::from(short) != bucket.rate {
        a.bytes(TBF_RATE64, &bucket.rate.to_ne_bytes());
    }
}

/// Takes an interface's discipline away; the kernel puts its default there.
pub fn delete(messages: &mut Messages, index: u32, handle: u32) {
    messages.push(libc::RTM_DELQDISC, REQUEST | ACK, &header(index, handle, ROOT, 0), |_| ());
}

/// Makes it possible that filters look at what arrives; `EEXIST` if it is already, by whomever.
pub fn take_arrivals(messages: &mut Messages, index: u32) {
    let flags = REQUEST | ACK | CREATE | EXCLUSIVE;
    let head = header(index, ARRIVALS_HANDLE, ARRIVALS, 0);
    messages.push(libc::RTM_NEWQDISC, flags, &head, |a| {
        a.text(KIND, "clsact");
    });
}

/// Asks for those of all interfaces.
#[must_use]
pub fn list() -> Messages {
    let mut messages = Messages::default();
    messages.push(libc::RTM_GETQDISC, REQUEST | DUMP, &header(0, 0, 0, 0), |_| ());
    messages
}

/// The interface of an event about disciplines or filters.
#[must_use]
pub fn interface_of(message: &Message<'_>) -> Option<u32> {
    let head: [u8; HEADER] = message.structure()?;
    Some(u32::from_ne_bytes([head[4], head[5], head[6], head[7]]))
}

/// Reads a discipline from `RTM_NEWQDISC` or `RTM_DELQDISC`.
#[must_use]
pub fn read(message: &Message<'_>) -> Option<Described> {
    if message.kind != libc::RTM_NEWQDISC && message.kind != libc::RTM_DELQDISC {
        return None;
    }
    let head: [u8; HEADER] = message.structure()?;
    let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let body = message.body(HEADER);
    let kind = find(body, KIND)?.text()?.to_owned();
    let bucket = find(body, OPTIONS).filter(|_| kind == "tbf").and_then(|o| read_options(o.value));
    Some(Described { index: word(4), handle: word(8), root: word(12) == ROOT, kind, bucket })
}

fn read_options(options: &[u8]) -> Option<TokenBucket> {
    let parms: [u8; TBF_OPTIONS] = find(options, TBF_PARMS)?.value.try_into().ok()?;
    let word = |at: usize| u32::from_ne_bytes([parms[at], parms[at + 1], parms[at + 2], parms[at + 3]]);
    let long = find(options, TBF_RATE64).and_then(|a| a.value.try_into().ok()).map(u64::from_ne_bytes);
    // A peak rate, an overhead or another link layer is none of weft's.
    let plain = word(20) == 0 && parms[1] == ETHERNET && parms[2..4] == [0, 0];
    let bucket = TokenBucket { rate: long.unwrap_or(word(8).into()), burst: word(28), limit: word(24) };
    plain.then_some(bucket)
}
