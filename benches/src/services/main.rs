//! `make bench-services`: what a service costs a connection, loading many, and changing one backend; beside the shapes of
//! rules that kube-proxy writes, loaded from generated text by `nft` and `iptables-restore`.

#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

mod ground;
mod rivals;
mod weft;

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use ground::Ground;

/// So many services a large cluster has.
const MANY: usize = 30_000;

/// What was measured of one way to have services.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    /// Median of connect, request and answer, in microseconds.
    connect: f64,
    load: Duration,
    /// Median of changing one backend of one service.
    change: Duration,
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let many = match words.as_slice() {
        [] => MANY,
        [number] => number.parse()?,
        _ => bail!("usage: bench-services [NUMBER]"),
    };
    let ground = Ground::new()?;
    println!("a connection without services: {:.1} us", ground.connect(ground::BACKENDS[0])?);
    println!("{:<22} {:>9} {:>12} {:>9} {:>16}", "", "services", "connect us", "load ms", "one backend ms");
    let mut ours = Vec::new();
    for count in [1, many] {
        let figures = weft::measure(&ground, count)?;
        row("weft", count, &figures);
        ours.push(figures);
    }
    for count in [1, many] {
        row("kube-proxy's nftables", count, &rivals::nftables(&ground, count)?);
    }
    for count in [1, many] {
        row("kube-proxy's iptables", count, &rivals::iptables(&ground, count)?);
    }
    let ratio = ours[1].connect / ours[0].connect;
    println!("connect at {many} services / at 1: {ratio:.3}");
    ensure!(
        ratio <= 1.05,
        "a connection to the last of {many} services costs {ratio:.3} of one to the only one"
    );
    ensure!(ours[1].load <= Duration::from_secs(1), "loading takes {:?}", ours[1].load);
    ensure!(ours[1].change <= Duration::from_millis(2), "one backend's change takes {:?}", ours[1].change);
    Ok(())
}

fn row(who: &str, count: usize, figures: &Figures) {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let Figures { connect, load, change } = figures;
    println!("{who:<22} {count:>9} {connect:>12.1} {:>9.1} {:>16.2}", ms(*load), ms(*change));
}

/// The middle one.
fn median<T: Copy + Ord>(mut all: Vec<T>) -> T {
    all.sort_unstable();
    all[all.len() / 2]
}
