//! One real agent among many simulated hosts: what others do in a real etcd, and how soon and at what cost this one
//! follows (BAR.md R8). The others are records that this program writes as their agents would, and clients that
//! watch as those do.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use weft_kernel::netns::Netns;
use weft_lab::{Links, Shared};
use weft_model::{Mac, Node, NodeName};
use weft_store::cluster::{
    Alive, BlockRecord, ClusterStore, Credentials, Etcd, Incarnation, Key, Op, Transaction,
};

use crate::scale::Table;

/// Simulated hosts beside the real one, in the cell of a hundred.
const OTHERS: u16 = 98;
/// New hosts that are timed there.
const NEW: u16 = 20;
/// Hosts in the cell of churn.
const MANY: u16 = 1_000;
/// Between two changes: ten a second.
const EVERY: Duration = Duration::from_millis(100);
const CHURN: Duration = Duration::from_secs(20);
/// A change that has not arrived by then never does.
const LATE: Duration = Duration::from_secs(10);

fn name(number: u16) -> Result<NodeName> {
    Ok(format!("sim{number:04}").parse()?)
}

fn block(number: u16) -> Result<IpNet> {
    // The real agent's own is among the first.
    let [high, low] = (number + 16).to_be_bytes();
    ensure!(high == 0 || number <= MANY, "no such block");
    Ok(format!("10.{}.{low}.0/24", 64 + high).parse()?)
}

/// What an agent puts into the store: what it is, that it runs, its block.
fn puts(number: u16) -> Result<Vec<Op>> {
    let [high, low] = number.to_be_bytes();
    let node = Node {
        addresses: vec![format!("198.18.{high}.{low}/32").parse()?],
        mtu: 1500,
        blocks: [].into(),
        mac: Mac([2, 0x77, 0x76, 1, high, low]),
        incarnation: 1,
        zone: None,
    };
    let held = BlockRecord { node: Some(name(number)?), order: 0 };
    let key = Key::Block("many".parse()?, block(number)?);
    Ok(vec![
        Op::put(&Key::Node(name(number)?), serde_json::to_vec(&node)?),
        Op::put(&key, serde_json::to_vec(&held)?),
        alive(number)?,
    ])
}

fn alive(number: u16) -> Result<Op> {
    let sign = Alive { incarnation: Incarnation(1), version: String::new() };
    Ok(Op::put(&Key::Alive(name(number)?), serde_json::to_vec(&sign)?))
}

struct Ground {
    shared: Shared,
    netns: Netns,
    address: String,
    store: Etcd,
}

impl Ground {
    fn new(program: &Path) -> Result<Ground> {
        let mut shared = Shared::new(program, 1)?;
        shared.join(&[0])?;
        let netns = shared.underlay.netns().run(Netns::current)??;
        let address = format!("etcd://{}", shared.servers[0].endpoint());
        let store = open(&netns, &address)?;
        let spec = weft_model::api::NetworkSpec {
            name: "many".parse()?,
            subnets: vec!["10.64.0.0/12".parse()?],
            mode: weft_model::Mode::Routed,
            mtu: None,
            masquerade: true,
            encapsulation: weft_model::Encapsulation::Auto,
            explain: false,
        };
        shared.hosts[0].create_network(spec)?;
        Ok(Ground { shared, netns, address, store })
    }

    fn commit(&self, changes: Vec<Op>) -> Result<()> {
        self.store.commit(&Transaction { conditions: Vec::new(), changes })?;
        Ok(())
    }

    fn add(&self, numbers: std::ops::Range<u16>) -> Result<()> {
        let all = numbers.map(puts).collect::<Result<Vec<_>>>()?.concat();
        all.chunks(90).try_for_each(|some| self.commit(some.to_vec()))
    }

    /// Waits until the agent's kernel has, or has not, the route to a host's block.
    fn routed(&self, links: &mut Links, number: u16, wanted: bool) -> Result<()> {
        let (to, begin) = (block(number)?, Instant::now());
        while links.routes()?.iter().any(|r| r.destination == to) != wanted {
            ensure!(begin.elapsed() < LATE, "the route to {to} did not come or go within {LATE:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

fn open(netns: &Netns, address: &str) -> Result<Etcd> {
    let credentials = Credentials { plaintext: true, ..Credentials::default() };
    Ok(netns.run(|| Etcd::new(address, &credentials))??)
}

/// A new host, until 99 others know of it: the real agent's kernel leads there, and all watchers have heard.
pub(crate) fn reach(program: &Path, table: &mut Table) -> Result<()> {
    let ground = Ground::new(program)?;
    ground.add(1..OTHERS + 1)?;
    let mut links = ground.shared.hosts[0].links()?;
    ground.routed(&mut links, OTHERS, true)?;
    let (end, from) = (Arc::new(AtomicBool::new(false)), ground.store.snapshot()?.revision);
    let (heard, hears) = std::sync::mpsc::channel();
    let watchers = (0..OTHERS).map(|_| {
        let mut watch = open(&ground.netns, &ground.address)?.watch(from)?;
        let (end, heard) = (Arc::clone(&end), heard.clone());
        Ok(std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                for fact in watch.next(Duration::from_millis(200)).unwrap_or_default() {
                    if fact.key.starts_with("alive/sim") {
                        heard.send(fact.key).ok();
                    }
                }
            }
        }))
    });
    let watchers = watchers.collect::<Result<Vec<_>>>()?;
    let mut times = Vec::new();
    for number in OTHERS + 1..=OTHERS + NEW {
        let key = Key::Alive(name(number)?).to_string();
        let begin = Instant::now();
        ground.commit(puts(number)?)?;
        ground.routed(&mut links, number, true)?;
        for _ in 0..OTHERS {
            let told = hears.recv_timeout(LATE).context("a watcher heard nothing")?;
            ensure!(told == key, "{told} instead of {key}");
        }
        times.push(begin.elapsed());
    }
    end.store(true, Ordering::Relaxed);
    watchers.into_iter().for_each(|w| drop(w.join()));
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    table.row(
        "a new host known to 99 others, p50 (one real agent and its kernel, 98 watchers of a real etcd)",
        ms(times[times.len() / 2]),
        "ms",
        None,
    );
    table.row("the same, the slowest of 20", ms(times[times.len() - 1]), "ms", Some(1_000.0));
    Ok(())
}

/// Seconds of processor that a process has used (proc_pid_stat(5): utime and stime, in hundredths).
fn used(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').context("no name in stat")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<f64>().ok());
    Ok(ticks.sum::<f64>() / 100.0)
}

/// A thousand hosts, of which ten a second go or come back.
pub(crate) fn churn(program: &Path, table: &mut Table) -> Result<()> {
    let ground = Ground::new(program)?;
    ground.add(1..MANY + 1)?;
    let mut links = ground.shared.hosts[0].links()?;
    ground.routed(&mut links, MANY, true)?;
    let pid = ground.shared.hosts[0].pid().context("no agent")?;
    let (idle, begin) = (used(pid)?, Instant::now());
    std::thread::sleep(CHURN / 4);
    let still = (used(pid)? - idle) / begin.elapsed().as_secs_f64();
    let (before, begin) = (used(pid)?, Instant::now());
    let (mut changes, mut number) = (0_u32, 0);
    while begin.elapsed() < CHURN {
        number = 1 + u16::try_from(changes / 2 * 7 % u32::from(MANY))?;
        let gone = Op::Delete(Key::Alive(name(number)?).to_string());
        ground.commit(vec![if changes % 2 == 0 { gone } else { alive(number)? }])?;
        changes += 1;
        std::thread::sleep((EVERY * changes).saturating_sub(begin.elapsed()));
    }
    ground.routed(&mut links, number, changes % 2 == 0)?;
    let share = (used(pid)? - before) / begin.elapsed().as_secs_f64();
    let rate = f64::from(changes) / begin.elapsed().as_secs_f64();
    table.row(
        "an agent among 1,000 hosts of which none changes: share of a processor",
        still * 100.0,
        "%",
        None,
    );
    table.row(
        &format!("the same while {rate:.1} of them a second go or come back"),
        share * 100.0,
        "%",
        Some(10.0),
    );
    Ok(())
}
