//! Deleting retired wires and their detours, many at the price of one.
//!
//! Unregistering a device costs an RCU grace period (about 20 ms); all links of a group go in one
//! (net/core/rtnetlink.c `rtnl_group_dellink`). The message deletes whatever bears the group, and fails
//! as a whole on a member that cannot be deleted, so the members are verified before each one.

use super::Linux;
use crate::change::Cause;
use crate::netlink::Messages;
use crate::ours::{LEAVING, REAPED, is_our_work};
use crate::rtnl::link;

/// So many ports of bridges are deleted while the kernel's lock is held.
const PORTS: usize = 8;

/// What a round of reaping did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Links deleted.
    pub deleted: usize,
    /// Names of foreign links that bear weft's group: they are left alone.
    pub foreign: Vec<String>,
}

impl Linux {
    /// Deletes the retired wires.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or refuses.
    pub fn reap(&mut self) -> Result<Reaped, Cause> {
        let all: Vec<link::Described> =
            self.route.dump(&link::list(), |all: &mut Vec<_>, m| all.extend(link::read(m)))?;
        let leaving_is_free = all.iter().all(|l| l.group != LEAVING);
        let retired = all.into_iter().filter(|l| l.group == REAPED);
        let (ours, foreign): (Vec<_>, Vec<_>) =
            retired.partition(|l| matches!(l.kind.as_str(), "veth" | "ifb") && !l.up && is_our_work(l));
        // Whatever it is called: a name that weft would not accept is no reason to delete its bearer.
        let name =
            |l: link::Described| l.name.map_or_else(|| format!("number {}", l.index), |n| n.to_string());
        let foreign: Vec<String> = foreign.into_iter().map(name).collect();
        let deleted = ours.len();
        let (ports, others): (Vec<_>, Vec<_>) = ours.into_iter().partition(|l| l.master.is_some());
        // Not in one message with the others: every port costs a grace period of its own, because the bridge waits for
        // those who may be looking at it (net/bridge/br_if.c `del_nbp`), and the lock is held meanwhile: 64 of them
        // kept every attach waiting for a second.
        for some in ports.chunks(PORTS) {
            self.delete_some(some, leaving_is_free)?;
        }
        if !others.is_empty() {
            let mut messages = Messages::default();
            if foreign.is_empty() {
                link::delete_group(&mut messages, REAPED);
            } else {
                others.iter().for_each(|l| link::delete(&mut messages, l.index));
            }
            self.unless_gone(&messages)?;
        }
        Ok(Reaped { deleted, foreign })
    }

    /// Deletes these and no others: by a group of their own, if nobody else is in it.
    fn delete_some(&mut self, links: &[link::Described], by_group: bool) -> Result<(), Cause> {
        let mut messages = Messages::default();
        if by_group {
            let leave = link::Change { group: Some(LEAVING), ..link::Change::default() };
            links.iter().for_each(|l| link::change(&mut messages, l.index, &leave));
            link::delete_group(&mut messages, LEAVING);
        } else {
            links.iter().for_each(|l| link::delete(&mut messages, l.index));
        }
        self.unless_gone(&messages)
    }

    /// A namespace that has ended meanwhile has taken its wire along.
    fn unless_gone(&mut self, messages: &Messages) -> Result<(), Cause> {
        for answer in self.route.transact(messages)? {
            match answer {
                Err(refusal) if refusal.errno != libc::ENODEV => return Err(refusal.into()),
                _ => {}
            }
        }
        Ok(())
    }
}
