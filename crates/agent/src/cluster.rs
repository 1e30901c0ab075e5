//! This host as one of many: follows the store that they share, and does its part in it.
//!
//! Never in the way of anybody: one thread speaks to the store and waits for it; attaching, repairs and
//! the socket go on with what was heard last. While the store is away nothing is taken from the kernel.
//!
//! ```text
//!   store ──changes──▶ Input ──▶ Member (mirror, claims, sign of life) ──adopt──▶ Engine
//!   engine changed ──wake──▶ ▲                │
//!   socket ──order, answer──▶ ▲               └──commits──▶ store
//! ```

mod claims;
pub(crate) mod identity;
mod member;
mod networks;
mod publish;
mod session;
pub mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use weft_model::api::{self, Error, ErrorKind, StoreState};
use weft_model::{Network, NetworkName, NodeName};
use weft_store::cluster::{ClusterError, Etcd, Fact};

pub(crate) use claims::Need;
pub(crate) use member::Unreadable;
use member::{Member, Times};
pub(crate) use publish::Elsewhere;

use crate::agent::Agent;
use crate::{Config, clock};

/// How often a host that belongs to no cluster looks whether it does now.
const LOOK: Duration = Duration::from_secs(1);
/// Between two attempts to reach the store: the first pause, and the longest; well within a lease.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));
/// How long whoever gave an order waits for what becomes of it.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the cluster's thread works on.
pub(crate) enum Input {
    /// What the store told in a session, or why it tells nothing more.
    Facts(u64, Result<Vec<Fact>, ClusterError>),
    /// Something changed on this host.
    Wake,
    /// Somebody wants something done.
    Order(Order),
}

/// Something to be done in the store, and who waits for it.
pub(crate) struct Order {
    pub(crate) what: What,
    answer: Sender<Answer>,
    given: Instant,
}

/// What is to be done in the store.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Declare a network; with the length of its IPv4 blocks, if somebody chose it.
    Create(Network, Option<u8>),
    /// Remove a network.
    Remove(NetworkName),
    /// Remove a host that is gone for ever.
    RemoveNode(NodeName),
    /// Leave the cluster.
    Leave,
    /// List the hosts.
    List,
    /// Get more addresses for a network.
    Provide(NetworkName),
}

type Answer = Result<Vec<api::Member>, Error>;

/// The way to the cluster's thread.
pub(crate) struct Line {
    input: Sender<Input>,
    on: AtomicBool,
    /// Whether this host has left without a word to the store.
    abandoned: AtomicBool,
}

impl Line {
    pub(crate) fn new() -> (Line, Receiver<Input>) {
        let (input, inputs) = mpsc::channel();
        (Line { input, on: AtomicBool::new(false), abandoned: AtomicBool::new(false) }, inputs)
    }

    /// Whether this host belongs to a cluster.
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Takes no more notice of the store that this host belongs to, until it belongs to none.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Says that something changed on this host.
    pub(crate) fn wake(&self) {
        if self.is_on() {
            self.input.send(Input::Wake).ok();
        }
    }

    /// Has something done in the store.
    ///
    /// # Errors
    /// Why not; after [`ErrorKind::TryAgain`] it may have been done or not.
    pub(crate) fn order(&self, what: What) -> Answer {
        if !self.is_on() {
            return Err(Error::new(ErrorKind::Invalid, "this host belongs to no cluster")
                .hint("`weft init` begins one, `weft join` joins one"));
        }
        let (answer, answered) = mpsc::channel();
        let late = || {
            Error::new(
                ErrorKind::TryAgain,
                format!("the store did not do it within {} s", PATIENCE.as_secs()),
            )
            .hint("`weft status` says how it is with the store")
        };
        self.input.send(Input::Order(Order { what, answer, given: Instant::now() })).map_err(|_| late())?;
        answered.recv_timeout(PATIENCE).map_err(|_| late())?
    }
}

impl Order {
    fn answer(self, answer: Answer) {
        self.answer.send(answer).ok();
    }
}

/// Does this host's part until the agent's end.
pub(crate) fn run(agent: &Arc<Agent>, config: &Config, inputs: &Receiver<Input>) {
    loop {
        let Some(found) = settings::find(config) else {
            agent.line.abandoned.store(false, Ordering::Relaxed);
            if agent.line.on.swap(false, Ordering::Relaxed) {
                agent.engine().set_store(None, Vec::new());
            }
            pause(inputs, LOOK, &|| Error::new(ErrorKind::Invalid, "this host belongs to no cluster"));
            continue;
        };
        agent.line.on.store(true, Ordering::Relaxed);
        if agent.line.is_abandoned() {
            pause(inputs, LOOK, &left);
            continue;
        }
        let part = settings::read(&found)
            .and_then(|settings| Ok((Etcd::new(&settings.store, &settings.credentials)?, settings)));
        match part {
            Ok((store, settings)) => {
                let times = Times { lease: Duration::from_secs(config.lease.max(5)), ..Times::default() };
                let incarnation = identity::read(&config.state_dir).incarnation;
                let store = Arc::new(store);
                let member = Member::new(store.clone(), config.node(), incarnation, times);
                follow(agent, config, inputs, (member, &store), &settings);
            }
            Err(error) => {
                away(agent, &found.store, &error, None);
                pause(inputs, PAUSE.1, &|| error.clone().into());
            }
        }
    }
}

/// One session after the other, until the settings change.
fn follow(
    agent: &Arc<Agent>,
    config: &Config,
    inputs: &Receiver<Input>,
    (mut member, store): (Member, &Etcd),
    settings: &settings::Settings,
) {
    let mut wait = PAUSE.0;
    let mut since = Instant::now();
    for number in 0.. {
        let begun = Instant::now();
        let ended = session::run(agent, inputs, &mut member, number, &settings.store, &|pem| {
            settings::trust(config, pem);
            settings::refresh(config, &servers(store));
        });
        if let Some(order) = ended.left {
            tracing::info!("this host has left the cluster");
            settings::forget(config);
            order.answer(Ok(Vec::new()));
            return;
        }
        if ended.was_in_sync {
            (since, wait) = (Instant::now(), PAUSE.0);
        }
        tracing::warn!(error = crate::chain(&ended.error), "the store is away; what runs goes on");
        away(agent, &settings.store, &ended.error, Some((&member, since)));
        // Of many hosts that lost the store together not all shall come back in one moment.
        let jitter = 0.5 + f64::from(u32::try_from(crate::random() % 1000).unwrap_or(0)) / 1000.0;
        let pause_for = wait.mul_f64(jitter);
        wait = (wait * 2).min(PAUSE.1);
        pause(inputs, pause_for, &|| ended.error.clone().into());
        let changed = settings::find(config).and_then(|f| settings::read(&f).ok());
        if (changed.as_ref() != Some(settings) || agent.line.is_abandoned())
            && begun.elapsed() > Duration::ZERO
        {
            tracing::info!("the settings of the store changed");
            return;
        }
    }
}

/// Why nothing is done for a host that has left.
fn left() -> Error {
    Error::new(ErrorKind::Invalid, "this host is leaving its cluster").hint("try again in a second")
}

/// Where the store's servers are, as far as they have started.
fn servers(store: &Etcd) -> Vec<String> {
    let urls = store.members().unwrap_or_default().into_iter().flat_map(|m| m.client_urls);
    urls.filter_map(|url| url.split_once("://").map(|(_, host)| host.to_owned())).collect()
}

/// Waits, and tells whoever orders something that it cannot be done now.
fn pause(inputs: &Receiver<Input>, time: Duration, why: &dyn Fn() -> Error) {
    let until = Instant::now() + time;
    loop {
        match inputs.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Input::Order(order)) => order.answer(Err(why())),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => return std::thread::sleep(time),
        }
    }
}

/// Lets people see that the store is away.
fn away(agent: &Agent, address: &str, error: &ClusterError, member: Option<(&Member, Instant)>) {
    let seconds = member.map_or(0, |(_, since)| since.elapsed().as_secs());
    let state = StoreState {
        address: address.to_owned(),
        in_sync: false,
        revision: member.map_or(0, |(m, _)| m.mirror.revision().0),
        nodes: member.map_or(0, |(m, _)| m.mirror.view().nodes.len()),
        alive: member.map_or(0, |(m, _)| m.mirror.view().alive.len()),
    };
    let for_long = if seconds > 0 { format!(" since {seconds} s") } else { String::new() };
    let problem = format!("{error}{for_long}; {}", error.hint());
    agent.engine().set_store(Some(state), vec![problem]);
}

/// Seconds of a clock that never goes back.
fn now() -> u64 {
    clock::now()
}
