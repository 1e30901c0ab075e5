//! Deleting retired wires and their detours, many at the price of one.
//!
//! Unregistering a device costs an RCU grace period (about 20 ms); all links of a group go in one
//! (net/core/rtnetlink.c `rtnl_group_dellink`). The message deletes whatever bears the group, and fails
//! as a whole on a member that cannot be deleted, so the members are verified before each one.

use super::Linux;
use crate::change::Cause;
use crate::netlink::Messages;
use crate::ours::{REAPED, is_our_work};
use crate::rtnl::link;

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
        let retired = all.into_iter().filter(|l| l.group == REAPED);
        let (ours, foreign): (Vec<_>, Vec<_>) =
            retired.partition(|l| matches!(l.kind.as_str(), "veth" | "ifb") && !l.up && is_our_work(l));
        // Whatever it is called: a name that weft would not accept is no reason to delete its bearer.
        let name =
            |l: link::Described| l.name.map_or_else(|| format!("number {}", l.index), |n| n.to_string());
        let foreign: Vec<String> = foreign.into_iter().map(name).collect();
        if ours.is_empty() {
            return Ok(Reaped { deleted: 0, foreign });
        }
        let mut messages = Messages::default();
        if foreign.is_empty() {
            link::delete_group(&mut messages, REAPED);
        } else {
            ours.iter().for_each(|l| link::delete(&mut messages, l.index));
        }
        for answer in self.route.transact(&messages)? {
            // A namespace that ended meanwhile has taken its wire along.
            match answer {
                Err(refusal) if refusal.errno != libc::ENODEV => return Err(refusal.into()),
                _ => {}
            }
        }
        Ok(Reaped { deleted: ours.len(), foreign })
    }
}
