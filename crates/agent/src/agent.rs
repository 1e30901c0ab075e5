//! The agent as its threads see it: one engine behind a lock, and a bell for repairs.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use weft_kernel::memory;

use crate::cluster::Line;
use crate::engine::Engine;

/// Events come in bursts (a flush of rules is one per rule): wait so long for more before mending.
const SETTLE: Duration = Duration::from_millis(20);
/// Between two repairs, so that somebody who fights us does not get all our time.
const PAUSE: Duration = Duration::from_millis(100);
/// Without any event the kernel is compared with the plan so often, in case one was lost.
const AUDIT: Duration = Duration::from_secs(60);
/// What could not be mended is tried again so soon.
const RETRY: Duration = Duration::from_secs(5);

/// What all threads share.
pub(crate) struct Agent {
    engine: Mutex<Engine>,
    bell: Mutex<Sender<&'static str>>,
    /// The way to the thread that speaks to the store of all hosts.
    pub(crate) line: Line,
}

impl Agent {
    pub(crate) fn new(engine: Engine, bell: Sender<&'static str>, line: Line) -> Agent {
        Agent { engine: Mutex::new(engine), bell: Mutex::new(bell), line }
    }

    /// The engine, for one operation.
    pub(crate) fn engine(&self) -> MutexGuard<'_, Engine> {
        // A poisoned lock cannot be met in a release build (panics abort); in tests the next sync mends.
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a comparison with the kernel, soon.
    pub(crate) fn repair(&self, reason: &'static str) {
        let bell = self.bell.lock().unwrap_or_else(PoisonError::into_inner);
        bell.send(reason).ok();
    }

    /// Works until the agent's end.
    pub(crate) fn repairs(&self, bell: &Receiver<&'static str>) {
        let mut patience = AUDIT;
        loop {
            match bell.recv_timeout(patience) {
                Ok(reason) => {
                    tracing::debug!(reason, "comparing the kernel with the plan");
                    std::thread::sleep(SETTLE);
                    while bell.try_recv().is_ok() {}
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let mut engine = self.engine();
            engine.measure();
            patience = if engine.sync() { AUDIT } else { RETRY };
            drop(engine);
            memory::give_back();
            std::thread::sleep(PAUSE);
        }
    }
}
