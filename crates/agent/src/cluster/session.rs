//! One session with the store: list, watch, do this host's part; until the connection breaks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use weft_model::api::{Error, StoreState};
use weft_model::{AttachmentId, Cluster, Network, NetworkName, Node, NodeName};
use weft_store::cluster::{ClusterError, Fact, Summary, Watch};

use super::claims::Need;
use super::member::{Host, Member, Unreadable};
use super::networks::Done;
use super::{Answer, Input, Order, What, now};
use crate::agent::Agent;

/// Without any news the host's part is looked at so often.
const ROUND: Duration = Duration::from_secs(1);
/// News come in bursts: so long after the first, more are taken along.
const GATHER: Duration = Duration::from_millis(10);
/// How often it is asked where the store's servers are.
const UPKEEP: Duration = Duration::from_secs(20);
/// How long the thread of the changes waits before it looks whether it is still wanted.
const LOOK: Duration = Duration::from_secs(1);

/// How a session ended.
pub(super) struct Ended {
    pub(super) error: ClusterError,
    pub(super) was_in_sync: bool,
    /// The order to leave the cluster, which was carried out.
    pub(super) left: Option<Order>,
}

/// The engine as the member's host: locked for one question at a time.
struct Engine<'a>(&'a Agent);

impl Host for Engine<'_> {
    fn node(&mut self) -> Node {
        self.0.engine().own_record()
    }

    fn known(&mut self) -> BTreeSet<NodeName> {
        self.0.engine().known_hosts()
    }

    fn needs(&mut self, now: u64) -> Vec<Need> {
        self.0.engine().block_needs(now)
    }

    fn adopt(&mut self, cluster: Cluster, unreadable: &Unreadable) {
        if self.0.line.is_abandoned() {
            return;
        }
        self.0.engine().adopt_cluster(cluster, unreadable);
    }

    fn leave(&mut self, network: &NetworkName, block: ipnet::IpNet) -> bool {
        self.0.engine().leave_block(network, block)
    }

    fn summaries(&mut self) -> std::collections::BTreeMap<AttachmentId, Summary> {
        self.0.engine().summaries()
    }

    fn founding_networks(&mut self) -> Vec<Network> {
        self.0.engine().founding_networks()
    }

    fn stand_alone(&mut self) -> Result<(), Error> {
        self.0.engine().stand_alone()
    }
}

/// Ends the thread of the changes with the session.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(super) fn run(
    agent: &Arc<Agent>,
    inputs: &Receiver<Input>,
    member: &mut Member,
    number: u64,
    address: &str,
    upkeep: &dyn Fn(&str),
) -> Ended {
    let (mut was_in_sync, mut left) = (false, None);
    let mut session = || -> Result<(), ClusterError> {
        let snapshot = member.store.snapshot()?;
        let late = |e: weft_store::cluster::OutOfDate| ClusterError::Away {
            endpoints: address.to_owned(),
            why: e.to_string(),
        };
        member.mirror.replace(snapshot).map_err(late)?;
        let watch = member.store.watch(member.mirror.revision())?;
        let _stop = listen(agent, watch, number)?;
        let mut host = Engine(agent);
        member.begin(&mut host, now());
        member.step(&mut host, now())?;
        member.tell(&mut host);
        agent.engine().replace_remote(member.all_elsewhere());
        upkeep(&member.mirror.view().trust);
        let mut kept = Instant::now();
        was_in_sync = true;
        tracing::info!(revision = member.mirror.revision().0, "in sync with the store");
        let mut orders = Vec::new();
        loop {
            report(agent, member, address);
            let (facts, given) = gather(inputs, number)?;
            orders.extend(given);
            let news = member.mirror.apply(facts);
            if news.iter().any(|fact| !fact.key.starts_with("workloads/") && !fact.key.starts_with("tokens/"))
            {
                member.tell(&mut host);
            }
            if news.iter().any(|fact| fact.key == "trust") || kept.elapsed() > UPKEEP {
                upkeep(&member.mirror.view().trust);
                kept = Instant::now();
            }
            let elsewhere = member.elsewhere(&news);
            if !elsewhere.is_empty() {
                agent.engine().adopt_remote(elsewhere);
            }
            member.step(&mut host, now())?;
            (orders, left) = execute(member, &mut host, orders)?;
            if left.is_some() || agent.line.is_abandoned() {
                return Ok(());
            }
        }
    };
    let error = match session() {
        Err(error) => error,
        Ok(()) => ClusterError::Away { endpoints: address.to_owned(), why: "the session ended".to_owned() },
    };
    Ended { error, was_in_sync, left }
}

/// What came, once something has or the round is over.
fn gather(inputs: &Receiver<Input>, number: u64) -> Result<(Vec<Fact>, Vec<Order>), ClusterError> {
    let (mut facts, mut orders) = (Vec::new(), Vec::new());
    let mut take = |input: Input| -> Result<(), ClusterError> {
        match input {
            Input::Facts(of, told) if of == number => facts.extend(told?),
            Input::Facts(..) | Input::Wake => {}
            Input::Order(order) => orders.push(order),
        }
        Ok(())
    };
    match inputs.recv_timeout(ROUND) {
        Ok(first) => {
            take(first)?;
            let until = Instant::now() + GATHER;
            while let Ok(more) = inputs.recv_timeout(until.saturating_duration_since(Instant::now())) {
                take(more)?;
            }
        }
        Err(RecvTimeoutError::Timeout) => {}
        Err(RecvTimeoutError::Disconnected) => std::thread::sleep(ROUND),
    }
    Ok((facts, orders))
}

/// Starts the thread that takes the changes from the store.
fn listen(agent: &Arc<Agent>, watch: Box<dyn Watch>, number: u64) -> Result<Stop, ClusterError> {
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, inputs) = (stop.clone(), agent.line.input.clone());
    let spawned = std::thread::Builder::new()
        .name("changes".to_owned())
        .spawn(move || forward(watch, number, &stopped, &inputs));
    spawned.map_err(|e| ClusterError::Away { endpoints: String::new(), why: format!("no thread: {e}") })?;
    Ok(Stop(stop))
}

fn forward(mut watch: Box<dyn Watch>, number: u64, stopped: &AtomicBool, inputs: &Sender<Input>) {
    while !stopped.load(Ordering::Relaxed) {
        let told = watch.next(LOOK);
        if told.as_ref().is_ok_and(Vec::is_empty) {
            continue;
        }
        let over = told.is_err();
        if inputs.send(Input::Facts(number, told)).is_err() || over {
            return;
        }
    }
}

/// Does what was ordered. Returns what has to wait for news, and the order to leave if that was done: nothing
/// comes behind it.
fn execute(
    member: &mut Member,
    host: &mut impl Host,
    orders: Vec<Order>,
) -> Result<(Vec<Order>, Option<Order>), ClusterError> {
    let mut waiting = Vec::new();
    for order in orders {
        let done: Result<Done, Error> = match &order.what {
            What::Create(network, block) => member.create_network(network, *block),
            What::Remove(name) => member.remove_network(name),
            What::RemoveNode(name) => member.remove_node(name),
            What::Leave => host.stand_alone().and_then(|()| member.leave()),
            What::List => {
                let list: Answer = Ok(member.list());
                order.answer(list);
                continue;
            }
            // The step before has claimed what could be had.
            What::Provide(network) => match member.exhausted.get(network) {
                Some(none) => Err(none.clone().into()),
                None => Ok(Done::Yes),
            },
        };
        match done {
            Ok(Done::Again) if order.given.elapsed() < super::PATIENCE => waiting.push(order),
            Ok(Done::Yes) if matches!(order.what, What::Leave) => return Ok((Vec::new(), Some(order))),
            Ok(_) => {
                member.tell(host);
                order.answer(Ok(Vec::new()));
            }
            Err(error) => order.answer(Err(error)),
        }
    }
    Ok((waiting, None))
}

fn report(agent: &Agent, member: &Member, address: &str) {
    let view = member.mirror.view();
    let state = StoreState {
        address: address.to_owned(),
        in_sync: true,
        revision: member.mirror.revision().0,
        nodes: view.nodes.len(),
        alive: view.alive.len(),
    };
    agent.engine().set_store(Some(state), member.problems());
}
