//! Queues and detours of wires: making them, and reading those that are there.

use std::collections::BTreeMap;

use weft_model::IfName;

use super::{Linux, index};
use crate::change::{Cause, ReadError};
use crate::netlink::{Error, Message, Messages, Socket};
use crate::ours::{DETOUR_PREFERENCE, SHAPE_HANDLE};
use crate::rtnl::qdisc::TokenBucket;
use crate::rtnl::{filter, link, qdisc};
use crate::state::{Link, Shape, State};

impl From<&Shape> for TokenBucket {
    fn from(shape: &Shape) -> TokenBucket {
        TokenBucket { rate: shape.rate, burst: shape.burst, limit: shape.limit }
    }
}

impl Linux {
    pub(super) fn create_ifb(&mut self, name: &IfName, wanted: &Link) -> Result<(), Cause> {
        let mut messages = Messages::default();
        link::create_ifb(&mut messages, name, wanted.mac, wanted.mtu, wanted.group);
        self.only(&messages)
    }

    /// A fresh queue each time, never a changed one. The kernel keeps what waits in a queue that it changes, among it
    /// packets of up to 64 KiB that are yet to be cut up; one that is larger than the new burst would never
    /// become due, and nothing behind it (net/sched/sch_tbf.c `tbf_dequeue`). TCP sends again what is dropped here.
    pub(super) fn set_shape(&mut self, name: &IfName, shape: &Shape) -> Result<(), Cause> {
        let index = index(name)?;
        let mut messages = Messages::default();
        qdisc::delete(&mut messages, index, SHAPE_HANDLE);
        qdisc::set(&mut messages, index, SHAPE_HANDLE, &shape.into());
        match self.route.transact(&messages)?.pop() {
            Some(Err(refusal)) => Err(refusal.into()),
            _ => Ok(()), // whether there was one to delete matters to nobody
        }
    }

    /// A filter that is there cannot be told to lead elsewhere: it goes, and the next comes. What arrives in
    /// between, some microseconds, is not slowed down. The discipline it hangs from may be somebody else's,
    /// and stays when the filter goes.
    pub(super) fn set_detour(&mut self, name: &IfName, by: &IfName) -> Result<(), Cause> {
        let (at, to) = (index(name)?, index(by)?);
        let mut messages = Messages::default();
        qdisc::take_arrivals(&mut messages, at);
        filter::delete(&mut messages, at, DETOUR_PREFERENCE);
        filter::redirect(&mut messages, at, DETOUR_PREFERENCE, to);
        let mut answers = self.route.transact(&messages)?.into_iter();
        for pardoned in [libc::EEXIST, libc::ENOENT] {
            match answers.next() {
                Some(Err(refusal)) if refusal.errno != pardoned => return Err(refusal.into()),
                _ => {}
            }
        }
        Ok(answers.next().unwrap_or(Ok(()))?)
    }
}

/// Adds the queues and detours of links that are weft's.
pub(super) fn read(
    socket: &mut Socket,
    ours: &BTreeMap<u32, IfName>,
    names: &BTreeMap<u32, IfName>,
    state: &mut State,
) -> Result<(), ReadError> {
    let failed = |what| move |source: Error| ReadError::Netlink { what, source };
    let gather = |all: &mut Vec<qdisc::Described>, m: &Message<'_>| all.extend(qdisc::read(m));
    let all = socket.dump(&qdisc::list(), gather).map_err(failed("queueing disciplines"))?;
    for found in all {
        let Some(name) = ours.get(&found.index) else { continue };
        if let Some(TokenBucket { rate, burst, limit }) =
            found.bucket.filter(|_| found.root && found.handle == SHAPE_HANDLE)
        {
            state.shapes.insert(name.clone(), Shape { rate, burst, limit });
        }
        if found.takes_arrivals() {
            let gather = |to: &mut Option<u32>, m: &Message<'_>| {
                *to = filter::read(m, DETOUR_PREFERENCE).or(*to);
            };
            let to = match socket.dump(&filter::list(found.index), gather) {
                // Gone since, with its interface.
                Err(Error::Refused(refusal)) if matches!(refusal.errno, libc::ENODEV | libc::EINVAL) => None,
                other => other.map_err(failed("filters"))?,
            };
            if let Some(by) = to.and_then(|to| names.get(&to)) {
                state.detours.insert(name.clone(), by.clone());
            }
        }
    }
    Ok(())
}
