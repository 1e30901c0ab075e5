//! Making a wire, and waiting until it carries packets.

use std::time::{Duration, Instant};

use weft_model::IfName;

use super::{Linux, index};
use crate::change::Cause;
use crate::netlink::Messages;
use crate::netns::Netns;
use crate::rtnl::link;
use crate::state::{Inside, Link};

/// How long both ends may take to become operational once they are up; microseconds are usual, but an
/// overloaded host takes its time.
const PATIENCE: Duration = Duration::from_secs(10);

impl Linux {
    pub(super) fn create_wire(&mut self, name: &IfName, wanted: &Link, inside: &Inside) -> Result<(), Cause> {
        let netns = open(inside)?;
        let master = wanted.master.as_ref().map(index).transpose()?;
        let mut messages = Messages::default();
        let pair = link::Pair {
            host: name,
            host_mac: wanted.mac,
            master,
            inner: &inside.ifname,
            inner_mac: inside.mac,
            group: wanted.group,
            mtu: wanted.mtu,
        };
        link::create_pair(&mut messages, &pair, std::os::fd::AsFd::as_fd(&netns));
        self.only(&messages)
    }

    /// The end that came up first has no carrier at that moment, and the kernel attaches its queue
    /// only when a worker has seen the carrier (net/core/link_watch.c): packets sent to it before
    /// are dropped. This is why first packets get lost elsewhere. Asking for the link makes newer
    /// kernels (6.9) do that work at once; older ones are asked until they have. The same goes for a bridge
    /// that gets its first port: it has had no carrier until now.
    pub(super) fn finish(&mut self, name: &IfName, alias: &str) -> Result<(), Cause> {
        let index = index(name)?;
        let deadline = Instant::now() + PATIENCE;
        while !self.operational(index)? {
            if Instant::now() > deadline {
                return Err(Cause::NotOperational(name.clone()));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        let mut messages = Messages::default();
        link::change(&mut messages, index, &link::Change { alias: Some(alias), ..link::Change::default() });
        self.only(&messages)
    }

    fn operational(&mut self, index: u32) -> Result<bool, Cause> {
        let Some(link) = self.describe(index)?.filter(|link| link.operational) else { return Ok(false) };
        match link.master {
            None => Ok(true),
            Some(bridge) => Ok(self.describe(bridge)?.is_some_and(|bridge| bridge.operational)),
        }
    }

    /// A link as it is now.
    ///
    /// # Errors
    /// When the kernel refuses: there is no such link.
    pub fn link(&mut self, name: &IfName) -> Result<Option<link::Described>, Cause> {
        self.describe(index(name)?)
    }

    fn describe(&mut self, index: u32) -> Result<Option<link::Described>, Cause> {
        let mut request = Messages::default();
        link::get(&mut request, index);
        let found = self.route.dump(&request, |found: &mut Option<link::Described>, message| {
            *found = link::read(message).filter(|l| l.index == index).or(found.take());
        })?;
        Ok(found)
    }
}

/// Opens the namespace and makes sure that it still is the one that was meant.
pub(super) fn open(inside: &Inside) -> Result<Netns, Cause> {
    let netns = Netns::open(&inside.netns.path)?;
    let wanted = inside.netns.inode;
    if wanted != 0 && wanted != netns.inode() {
        return Err(Cause::Replaced { path: inside.netns.path.clone(), wanted, found: netns.inode() });
    }
    Ok(netns)
}
