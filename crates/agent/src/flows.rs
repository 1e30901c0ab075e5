//! Denials as they happen: packets that rules log are given names and kept for a while, for `weft flows`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use weft_kernel::netlink::Socket;
use weft_kernel::nflog;
use weft_model::api::Denial;
use weft_model::policy::Direction;
use weft_plan::policy::{Packet, Verdict};

use crate::agent::Agent;
use crate::{chain, clock};

/// So many are kept; the rules log at most ten a second for each workload and direction.
const KEPT: usize = 1024;
/// Between two attempts to listen, while somebody else has the group or the kernel cannot log.
const PAUSE: Duration = Duration::from_secs(10);

/// The last denials.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    kept: VecDeque<Denial>,
    last: u64,
}

impl Denials {
    /// Those with a higher number.
    pub(crate) fn after(&self, number: u64) -> Vec<Denial> {
        self.kept.iter().filter(|denial| denial.number > number).cloned().collect()
    }

    pub(crate) fn add(&mut self, mut denial: Denial) {
        self.last += 1;
        denial.number = self.last;
        self.kept.push_back(denial);
        if self.kept.len() > KEPT {
            self.kept.pop_front();
        }
    }
}

/// Works until the agent's end.
pub(crate) fn run(agent: &Arc<Agent>) {
    let mut said = false;
    loop {
        match nflog::open(weft_dataplane::nft::policy::LOG_GROUP) {
            Ok(mut socket) => listen(agent, &mut socket),
            Err(error) if !said => {
                tracing::warn!(
                    error = chain(&error),
                    "denials cannot be listened to; they are still counted"
                );
                said = true;
            }
            Err(_) => {}
        }
        std::thread::sleep(PAUSE);
    }
}

fn listen(agent: &Arc<Agent>, socket: &mut Socket) {
    loop {
        let mut logged = Vec::new();
        match socket.receive(|message| logged.extend(nflog::read(&message))) {
            Ok(()) => {}
            Err(error) if error.lost_events() || error.is_silence() => {}
            Err(error) => {
                tracing::warn!(error = chain(&error), "failed to receive denials");
                return;
            }
        }
        if !logged.is_empty() {
            agent.engine().denied(&logged);
        }
    }
}

/// `weft deny ingress weft0123456789`, as the rules have it: audit, direction, host end.
pub(crate) fn prefix(text: &str) -> Option<(bool, Direction, &str)> {
    let mut words = text.trim_end_matches('\0').split(' ');
    let ("weft", audit, direction, host_end) = (words.next()?, words.next()?, words.next()?, words.next()?)
    else {
        return None;
    };
    let direction = Direction::BOTH.into_iter().find(|d| d.as_str() == direction)?;
    Some((audit == "audit", direction, host_end))
}

/// What denied a packet, by the oracle; the policies that judge the workload, where the world has changed since.
pub(crate) fn cause(verdict: &Verdict, direction: Direction, audit: bool, else_by: &[Arc<str>]) -> String {
    let side = verdict.sides.iter().find(|side| side.direction == direction);
    let cause =
        side.and_then(|side| if audit { side.audit.as_ref() } else { (!side.allowed).then_some(&side.by) });
    cause.map_or_else(|| else_by.join(", "), ToString::to_string)
}

/// A denial without number.
pub(crate) fn denial(
    logged: &nflog::Logged,
    names: [Option<String>; 2],
    (audit, direction, workload): (bool, Direction, String),
    by: String,
) -> Denial {
    let [source_name, destination_name] = names;
    Denial {
        number: 0,
        at: clock::unix_millis(),
        source: logged.source,
        source_name,
        destination: logged.destination,
        destination_name,
        protocol: logged.protocol,
        port: logged.ports.map(|(_, to)| to),
        direction,
        workload,
        by,
        audit,
    }
}

/// The packet that the oracle is asked about.
pub(crate) fn packet(logged: &nflog::Logged) -> Packet {
    Packet {
        source: logged.source,
        destination: logged.destination,
        protocol: logged.protocol,
        port: logged.ports.map_or(0, |(_, to)| to),
    }
}
