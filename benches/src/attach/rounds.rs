//! Contestants in turn: attach, detach, each in a fresh namespace.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_kernel::netns::index_of;

use crate::contestant::{Added, Contestant};
use crate::host::{Host, Seat, Seats, clear};
use crate::samples::Samples;
use crate::say;

/// Namespaces are made for so many rounds at a time.
const STRETCH: usize = 20;
/// Turns before the measured ones: bridges are made, files come into the cache.
const WARM_UP: usize = 2;
/// Between two turns, so that one's leftovers in the kernel (timers, work queues) are not the next one's cost.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a workload may take to answer a first packet: for a busy machine, and for one that was lost.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long it is listened for an answer that must not come.
const MOMENT: Duration = Duration::from_millis(20);

/// What was measured of one contestant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) add: Samples,
    pub(crate) del: Samples,
    /// From the end of the ADD until both addresses have answered (weft only). A first packet that is lost
    /// is sent again after a second.
    pub(crate) answer: Samples,
    /// From the end of the DEL until the link is gone (weft only: the others have waited for it).
    pub(crate) gone: Samples,
    /// How often a workload still answered after its DEL (weft only).
    pub(crate) reachable_after: usize,
}

/// Lets everybody have `rounds` turns; each round begins with the next contestant.
///
/// # Errors
/// What a program said that failed.
pub(crate) fn run(field: &[Contestant], seats: &mut Seats, rounds: usize) -> Result<Vec<Row>> {
    say(&format!("rounds: {} contestants, {rounds} turns each", field.len()));
    let empty = |c: &Contestant| Row { name: c.name.clone(), ..Row::default() };
    let mut rows: Vec<Row> = field.iter().map(empty).collect();
    let mut warm_up: Vec<Row> = rows.clone();
    stretch(field, seats, WARM_UP, &mut warm_up)?;
    let mut done = 0;
    while done < rounds {
        let now = STRETCH.min(rounds - done);
        stretch(field, seats, now, &mut rows)?;
        done += now;
        let short = |row: &Row| format!("{} {:.2}", row.name, row.add.p50());
        let figures: Vec<String> = rows.iter().map(short).collect();
        say(&format!("  {done}/{rounds}; ADD p50 in ms so far: {}", figures.join(" | ")));
    }
    Ok(rows)
}

fn stretch(field: &[Contestant], seats: &mut Seats, rounds: usize, rows: &mut [Row]) -> Result<()> {
    let made = seats.make(rounds * field.len())?;
    std::thread::sleep(Duration::from_millis(200));
    for (round, chunk) in made.chunks(field.len()).enumerate() {
        for (turn, seat) in chunk.iter().enumerate() {
            let at = (round + turn) % field.len();
            let one = turn_of(&field[at], seat, &mut rows[at]);
            one.with_context(|| format!("{} has failed", field[at].name))?;
            std::thread::sleep(PAUSE);
        }
    }
    clear(&made)
}

fn turn_of(contestant: &Contestant, seat: &Seat, row: &mut Row) -> Result<()> {
    let added = contestant.add(seat)?;
    row.add.push(added.took);
    if !contestant.is_weft() {
        row.del.push(contestant.del(seat, &added)?);
        return Ok(());
    }
    let (link, addresses) = shown(&added)?;
    let begin = Instant::now();
    for address in &addresses {
        ensure!(answers(&contestant.host, *address, PATIENCE)?, "{address} does not answer after ADD");
    }
    row.answer.push(begin.elapsed());
    row.del.push(contestant.del(seat, &added)?);
    let begin = Instant::now();
    for address in &addresses {
        row.reachable_after += usize::from(answers(&contestant.host, *address, MOMENT)?);
    }
    let _inside = contestant.host.enter()?;
    while index_of(&link).is_some() {
        ensure!(begin.elapsed() < Duration::from_secs(10), "{link} stays");
        std::thread::sleep(Duration::from_millis(1));
    }
    row.gone.push(begin.elapsed());
    Ok(())
}

/// The host's end and the addresses, from a CNI result.
fn shown(added: &Added) -> Result<(String, Vec<IpAddr>)> {
    let link = added.answer["interfaces"][0]["name"].as_str().context("the result names no interface")?;
    let ips = added.answer["ips"].as_array().context("the result has no addresses")?;
    let bare = |ip: &Value| ip["address"].as_str()?.split('/').next()?.parse().ok();
    Ok((link.to_owned(), ips.iter().filter_map(bare).collect()))
}

/// Whether the workload's kernel answers: nobody listens on that port, so it refuses, and says so at once.
fn answers(host: &Host, address: IpAddr, patience: Duration) -> Result<bool> {
    let _inside = host.enter()?;
    let connected = TcpStream::connect_timeout(&SocketAddr::new(address, 9), patience);
    Ok(connected.map_or_else(|e| e.kind() == std::io::ErrorKind::ConnectionRefused, |_| true))
}
