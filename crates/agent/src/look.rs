//! Looking after what the kernel tells nobody of when another hand changes it: settings of interfaces (`accept_ra` and
//! its like), and the programs that lead ports of the loopback elsewhere (BAR.md R4).
//!
//! Of settings it only finds what has changed since the last look; the engine knows whether that matters.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use weft_kernel::netlink::{Error, Family, Socket};
use weft_kernel::rtnl::settings::{self, Settings};
use weft_model::IfName;

use crate::agent::Agent;
use crate::chain;
use crate::watch::Event;

/// Soon enough to mend within a second. A look takes the kernel some four microseconds for each link; where ports are
/// published, some thirty system calls more for the programs, and one for each port of the loopback.
const ROUND: Duration = Duration::from_millis(700);

/// A socket to ask with, and the last answer.
pub(crate) struct Look {
    socket: Socket,
    known: HashMap<IfName, Settings>,
}

impl Look {
    /// Opens a socket in the calling thread's namespace, and looks for the first time. To be called before the
    /// first sync, which sees to what is found then.
    pub(crate) fn open() -> Result<Look, Error> {
        let mut look = Look { socket: Socket::open(Family::Route)?, known: HashMap::new() };
        look.changed()?;
        Ok(look)
    }

    /// Works until the agent's end.
    pub(crate) fn run(mut self, agent: &Arc<Agent>) {
        let mut was_lost = false;
        loop {
            thread::sleep(ROUND);
            let (lost, mendable, idle) = {
                let mut engine = agent.engine();
                (engine.lost_loopback(), engine.is_mended(), engine.is_loopback_idle())
            };
            if idle {
                agent.repair("the programs at the loopback have no port to lead");
            }
            // What could not be mended is tried again without a bell, and not so often.
            if lost && (mendable || !was_lost) {
                agent.repair("the programs at the loopback were changed by another hand");
            }
            was_lost = lost;
            match self.changed() {
                Ok(changed) => {
                    let events: Vec<Event> =
                        changed.into_iter().map(|(l, s)| Event::Settings(l, s)).collect();
                    if !events.is_empty() && agent.engine().matters(&events) {
                        agent.repair("a setting was changed by another hand");
                    }
                }
                Err(error) => tracing::warn!(error = chain(&error), "failed to look at settings"),
            }
        }
    }

    /// Links whose settings are not as they were at the last look, and what they are now.
    fn changed(&mut self) -> Result<Vec<(IfName, Settings)>, Error> {
        let now = self
            .socket
            .dump(&settings::list(), |all: &mut HashMap<_, _>, m| all.extend(settings::read(m)))?;
        let differs = |(name, found): &(&IfName, &Settings)| self.known.get(*name) != Some(*found);
        let changed = now.iter().filter(differs).map(|(name, found)| (name.clone(), *found)).collect();
        self.known = now;
        Ok(changed)
    }
}
