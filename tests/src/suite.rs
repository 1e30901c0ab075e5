//! What every engine has to see of every network: addresses, reachability, and a clean host afterwards.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::engine::{Engine, PORT};
use crate::snapshot::Snapshot;
use crate::{Network, Sandbox, wait};

const PARALLEL: usize = 8;

/// Runs all of it. The host must have the network installed and the engine up.
///
/// # Errors
/// What did not hold, with the engine, the network and the logs of all daemons.
pub fn run(sandbox: &Sandbox, network: &Network, engine: &dyn Engine) -> Result<()> {
    let all = || {
        let before = Snapshot::take(sandbox, network)?;
        pair(sandbox, engine)?;
        clean(sandbox, network, &before)?;
        crowd(sandbox, engine)?;
        clean(sandbox, network, &before)
    };
    all()
        .with_context(|| format!("{} with the network {}\n{}", engine.name(), network.name(), sandbox.logs()))
}

/// Two containers, one after the other: reported addresses, pages from the host, from each other, from themselves.
fn pair(sandbox: &Sandbox, engine: &dyn Engine) -> Result<()> {
    let ids = names(sandbox, "pair", 2);
    let first = start(engine, &ids[0])?;
    let second = start(engine, &ids[1])?;
    ensure!(first.is_disjoint(&second), "both containers have {first:?}");
    for (id, addresses) in [(&ids[0], &first), (&ids[1], &second)] {
        for address in addresses {
            answers(sandbox, id, *address)?;
        }
    }
    for (from, to, addresses) in
        [(&ids[0], &ids[1], &second), (&ids[1], &ids[0], &first), (&ids[0], &ids[0], &first)]
    {
        for address in addresses {
            let page = fetch(engine, from, *address)?;
            ensure!(page == *to, "{from} asked {address} for {to}'s page and got {page:?}");
        }
    }
    ids.iter().try_for_each(|id| remove(engine, id))
}

/// Many at once: all start, no address twice, all answer, each reaches its neighbour, all go.
fn crowd(sandbox: &Sandbox, engine: &dyn Engine) -> Result<()> {
    let ids = names(sandbox, "crowd", PARALLEL);
    let started = each(&ids, |id| start(engine, id))?;
    let all: BTreeSet<IpAddr> = started.iter().flatten().copied().collect();
    let sum: usize = started.iter().map(BTreeSet::len).sum();
    ensure!(all.len() == sum, "an address was given twice: {started:?}");
    for (id, addresses) in ids.iter().zip(&started) {
        for address in addresses {
            answers(sandbox, id, *address)?;
        }
    }
    for (n, from) in ids.iter().enumerate() {
        let next = (n + 1) % ids.len();
        let address = started[next].first().context("no address")?;
        let page = fetch(engine, from, *address)?;
        ensure!(page == ids[next], "{from} asked {address} for {}'s page and got {page:?}", ids[next]);
    }
    each(&ids, |id| remove(engine, id))?;
    Ok(())
}

/// Engines and networks may finish a teardown in the background, but not for long.
fn clean(sandbox: &Sandbox, network: &Network, before: &Snapshot) -> Result<()> {
    wait::until("a clean host", wait::LONG / 4, || Snapshot::take(sandbox, network)?.same_as(before))
}

fn start(engine: &dyn Engine, id: &str) -> Result<BTreeSet<IpAddr>> {
    let reported = engine.start(id).with_context(|| format!("failed to start {id}"))?;
    let reported: BTreeSet<IpAddr> = reported.into_iter().collect();
    ensure!(!reported.is_empty(), "no address reported for {id}");
    let shown = engine.exec(id, &["ip", "-o", "addr", "show", "dev", "eth0"])?;
    let inside = addresses(&shown);
    ensure!(inside == reported, "{id}: reported {reported:?}, but inside is {inside:?}");
    Ok(reported)
}

fn remove(engine: &dyn Engine, id: &str) -> Result<()> {
    engine.remove(id).with_context(|| format!("failed to remove {id}"))
}

fn answers(sandbox: &Sandbox, id: &str, address: IpAddr) -> Result<()> {
    wait::until(&format!("the page of {id}"), wait::LONG / 2, || {
        let page = sandbox.http_get(address, PORT)?;
        ensure!(page == id, "{address} served the page of {page:?}");
        Ok(())
    })
}

/// Asks from inside a container. Not retried: the server is known to be up, so a lost packet is a finding.
fn fetch(engine: &dyn Engine, from: &str, address: IpAddr) -> Result<String> {
    let host = match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    let url = format!("http://{host}:{PORT}/");
    // `timeout` and not wget's -T, with which busybox 1.35 crashes.
    let page = engine.exec(from, &["timeout", "20", "wget", "-q", "-O", "-", &url]);
    Ok(page.with_context(|| format!("{from} got no page from {address}"))?.trim().to_owned())
}

/// The addresses in the words of `ip -o addr`, without link-local ones.
fn addresses(shown: &str) -> BTreeSet<IpAddr> {
    let words: Vec<&str> = shown.split_whitespace().collect();
    let mut found = BTreeSet::new();
    for pair in words.windows(2) {
        if matches!(pair[0], "inet" | "inet6") {
            found.extend(pair[1].split('/').next().and_then(|address| address.parse::<IpAddr>().ok()));
        }
    }
    found.retain(|address| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()));
    found
}

/// Names that no earlier container bore: an engine must not be helped by what it remembers.
fn names(sandbox: &Sandbox, what: &str, count: usize) -> Vec<String> {
    let tag = sandbox.tag().rsplit('-').next().unwrap_or_default();
    (0..count).map(|n| format!("{what}-{tag}-{n}")).collect()
}

/// Does `work` for all ids at once and waits for all of them.
fn each<T: Send>(ids: &[String], work: impl Fn(&str) -> Result<T> + Sync) -> Result<Vec<T>> {
    let results: Vec<Result<T>> = thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = ids.iter().map(|id| scope.spawn(move || work(id))).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<T>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    });
    results.into_iter().collect()
}
