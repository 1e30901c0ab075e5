//! Steps to the kernel: one transaction, all or nothing.
//!
//! How nfnetlink answers (net/netfilter/nfnetlink.c `nfnetlink_rcv_batch`): each message that fails, and
//! each that asks for it, is answered once the whole batch has been worked through. A batch that fails as
//! a whole (permission, commit) is answered with the number of its first message. So the last step alone
//! asks for an answer: its answer comes last, after every refusal.

use super::depend::expand;
use super::elements;
use super::encode;
use super::expression::{Expr, Right};
use super::model::{Family, Rule, TableName};
use super::op::Op;
use super::types::Type;
use super::validate::{self, Invalid};
use super::value::{Datum, Elements, Item, Key};
use super::wire::{
    ACK, ANONYMOUS_SET, APPEND, BATCH_BEGIN, BATCH_END, CREATE, REQUEST, SUBSYSTEM, header, kind, message,
};
use crate::netlink::{self, Messages, Refusal, Socket};

/// Tables could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step cannot be sent; nothing was changed.
    #[error("failed to encode `{op}`")]
    Invalid {
        /// The step, as a command.
        op: String,
        /// Why.
        #[source]
        source: Invalid,
    },
    /// The kernel refused a step; nothing was changed.
    #[error("the kernel refused `{op}`")]
    Refused {
        /// The step, as a command.
        op: String,
        /// Which one of the batch.
        index: usize,
        /// What the kernel said.
        #[source]
        source: Refusal,
    },
    /// The kernel refused the batch as a whole (no permission, no memory); nothing was changed.
    #[error("the kernel refused a batch of {steps} nftables steps")]
    Batch {
        /// How many steps it had.
        steps: usize,
        /// What the kernel said.
        #[source]
        source: Refusal,
    },
    /// The conversation failed. After sending, it is not known whether the batch is in force: read.
    #[error("failed to speak to nftables")]
    Netlink(#[source] netlink::Error),
    /// Tables changed faster than they could be read.
    #[error("nftables changed {0} times while being read")]
    Unsteady(usize),
}

impl Error {
    /// The kernel's error number, if it refused.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Refused { source, .. } | Error::Batch { source, .. } => Some(source.errno),
            _ => None,
        }
    }
}

impl From<netlink::Error> for Error {
    fn from(error: netlink::Error) -> Error {
        Error::Netlink(error)
    }
}

/// The steps' messages, and which step each belongs to.
struct Batch {
    messages: Messages,
    /// The step of each message behind the first.
    owners: Vec<usize>,
    /// Sets made in this batch so far; each has a number of its own.
    sets: u32,
}

/// Applies the steps in order as one transaction: all of them or none. No steps are no work.
///
/// # Errors
/// [`Error::Invalid`], [`Error::Refused`] with the first step that the kernel refused, [`Error::Batch`],
/// [`Error::Netlink`]. Needs `CAP_NET_ADMIN` in the socket's namespace.
pub fn apply(socket: &mut Socket, ops: &[Op]) -> Result<(), Error> {
    let Some(last) = ops.len().checked_sub(1) else { return Ok(()) };
    let invalid = |op: &Op, source| Error::Invalid { op: op.to_string(), source };
    ops.iter().try_for_each(|op| validate::op(op).map_err(|source| invalid(op, source)))?;

    let mut batch = Batch { messages: Messages::default(), owners: Vec::new(), sets: 0 };
    batch.messages.push(BATCH_BEGIN, REQUEST, &header(0, SUBSYSTEM), |_| ());
    for (index, op) in ops.iter().enumerate() {
        batch.add(op, index, index == last);
    }
    batch.messages.push(BATCH_END, REQUEST, &header(0, SUBSYSTEM), |_| ());

    let Batch { messages, owners, .. } = batch;
    let count = owners.len();
    let first = socket.send(messages)?;
    match answer(socket, first, count)? {
        None => Ok(()),
        Some((0, source)) => Err(Error::Batch { steps: ops.len(), source }),
        Some((position, source)) => {
            let index = owners[position - 1];
            Err(Error::Refused { op: ops[index].to_string(), index, source })
        }
    }
}

/// Waits for the answer to a batch with `count` messages behind the first: the first refusal, by position.
pub(super) fn answer(
    socket: &mut Socket,
    first: u32,
    count: usize,
) -> Result<Option<(usize, Refusal)>, Error> {
    let mut refused: Option<(usize, Refusal)> = None;
    let (mut done, mut overrun) = (false, false);
    while !done {
        let received = socket.receive(|message| {
            let position = message.sequence.wrapping_sub(first) as usize;
            if position > count || message.kind != ERROR {
                return; // an answer to something earlier
            }
            // Answers about the whole batch and about its last message are the last that matter.
            done |= position == 0 || position == count;
            if let Err(refusal) = netlink::verdict(&message)
                && refused.is_none()
            {
                refused = Some((position, refusal));
            }
        });
        match received {
            Ok(()) => {}
            // More refusals than the socket can hold: the first of them are there, the last may be lost.
            Err(netlink::Error::Receive(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                overrun = true;
            }
            Err(error) => return Err(error.into()),
        }
        done |= overrun && refused.is_some();
    }
    if overrun {
        socket.drain();
    }
    Ok(refused)
}

const ERROR: u16 = 2; // NLMSG_ERROR

impl Batch {
    fn message(
        &mut self,
        family: Family,
        message: u16,
        flags: u16,
        owner: usize,
        body: impl FnOnce(&mut netlink::Attributes<'_>),
    ) {
        self.owners.push(owner);
        self.messages.push(kind(message), REQUEST | flags, &header(family as u8, 0), body);
    }

    /// Adds a step's messages; only the last message of the last step asks for an answer.
    fn add(&mut self, op: &Op, owner: usize, last: bool) {
        let table = op.table();
        let ack = if last { ACK } else { 0 };
        match op {
            Op::AddTable(_) => self.message(table.family, message::NEW_TABLE, CREATE | ack, owner, |a| {
                a.text(1, &table.name).be32(2, 0);
            }),
            Op::DeleteTable(_) => self.message(table.family, message::DEL_TABLE, ack, owner, |a| {
                a.text(1, &table.name);
            }),
            Op::AddChain { chain, base, .. } => {
                self.message(table.family, message::NEW_CHAIN, CREATE | ack, owner, |a| {
                    a.text(1, &table.name).text(3, chain);
                    if let Some(base) = base {
                        a.nest(4, |hook| {
                            hook.be32(1, base.hook.number(table.family).unwrap_or(u32::MAX));
                            hook.be32(2, base.priority.cast_unsigned());
                            if let Some(device) = base.device {
                                hook.text(3, device.as_str());
                            }
                        });
                        a.be32(5, base.policy.number()).text(7, base.kind.name());
                    }
                });
            }
            Op::DeleteChain { chain, .. } => {
                self.message(table.family, message::DEL_CHAIN, ack, owner, |a| {
                    a.text(1, &table.name).text(3, chain);
                });
            }
            Op::FlushChain { chain, .. } => self.message(table.family, message::DEL_RULE, ack, owner, |a| {
                a.text(1, &table.name).text(2, chain);
            }),
            Op::AddRule { chain, rule, .. } => self.rule(table, chain, rule, ack, owner),
            Op::AddSet { set, declaration, .. } => {
                self.sets += 1;
                let id = self.sets;
                self.message(table.family, message::NEW_SET, CREATE | ack, owner, |a| {
                    a.text(1, &table.name).text(2, set);
                    super::declaration::write(a, declaration, id);
                });
            }
            Op::DeleteSet { set, .. } => self.message(table.family, message::DEL_SET, ack, owner, |a| {
                a.text(1, &table.name).text(2, set);
            }),
            Op::AddElements { set, interval, elements, .. } => {
                let elements: Vec<_> = elements.iter().map(|(key, datum)| (key, datum.as_ref())).collect();
                self.elements(message::NEW_ELEMENT, (table, set), *interval, &elements, (owner, ack));
            }
            Op::DeleteElements { set, interval, keys, .. } => {
                let keys: Vec<_> = keys.iter().map(|key| (key, None)).collect();
                self.elements(message::DEL_ELEMENT, (table, set), *interval, &keys, (owner, ack));
            }
        }
    }

    /// Elements in as many messages as their attributes' 16-bit lengths ask for.
    fn elements(
        &mut self,
        message: u16,
        (table, set): (&TableName, &str),
        interval: bool,
        mut elements: &[(&Key, Option<&Datum>)],
        (owner, ack): (usize, u16),
    ) {
        let create = if message == message::NEW_ELEMENT { CREATE } else { 0 };
        loop {
            let mut written = 0;
            self.message(table.family, message, create, owner, |a| {
                a.text(1, &table.name).text(2, set);
                written = elements::write(a, interval, elements.iter().copied());
            });
            elements = &elements[written..];
            if elements.is_empty() {
                self.messages.add_flags(ack); // only now is it known to be the last
                return;
            }
        }
    }

    fn rule(&mut self, table: &TableName, chain: &str, rule: &Rule, ack: u16, owner: usize) {
        let expressions = expand(table.family, &rule.expressions);
        let mut sets = Vec::new();
        for expression in &expressions {
            if let Expr::Match { left, right: Right::OneOf(values), .. } = expression {
                let values: Elements =
                    values.iter().map(|value| (Key(vec![Item::One(*value)]), None)).collect();
                sets.push(self.anonymous(table, left.field.kind(), &values, owner));
            }
        }
        self.message(table.family, message::NEW_RULE, CREATE | APPEND | ack, owner, |a| {
            a.text(1, &table.name).text(2, chain);
            a.nest(4, |list| encode::expressions(list, &expressions, sets.into_iter()));
            if let Some(comment) = &rule.comment {
                // libnftnl's record of a comment: type 0, length, text with NUL.
                let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
                let mut note = vec![0, length];
                note.extend(comment.bytes().chain([0]));
                a.bytes(7, &note);
            }
        });
    }

    /// An anonymous set for a rule that follows; returns its number.
    fn anonymous(&mut self, table: &TableName, part: Type, values: &Elements, owner: usize) -> u32 {
        self.sets += 1;
        let id = self.sets;
        self.message(table.family, message::NEW_SET, CREATE, owner, |a| {
            let declaration = super::model::Declaration {
                size: u32::try_from(values.len()).ok(),
                ..super::model::Declaration::set(&[part])
            };
            a.text(1, &table.name).text(2, ANONYMOUS_SET);
            super::declaration::write_anonymous(a, &declaration, id);
        });
        self.message(table.family, message::NEW_ELEMENT, CREATE, owner, |a| {
            a.text(1, &table.name).text(2, ANONYMOUS_SET).be32(4, id);
            elements::write(a, false, values.keys().map(|key| (key, None)));
        });
        id
    }
}
