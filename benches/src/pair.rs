//! Two containers on two hosts, or at the two ends of one wire, and what is measured between them.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_setaffinity};
use weft_kernel::netns::Netns;

/// Both ends of every path run on this one: wake-ups across CPUs would hide the path (BAR.md, performance gates).
const CPU: usize = 0;
const ROUNDS: usize = 4_000;
const STREAM: Duration = Duration::from_millis(700);

/// Round trips and throughput of a path.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Median of TCP round trips with one byte, in microseconds.
    pub round_trip: f64,
    /// One connection, in Gbit/s.
    pub stream: f64,
}

fn pin() -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(CPU);
    sched_setaffinity(None, &cpus).context("failed to pin a thread")
}

/// Measures from one namespace to an address in the other.
///
/// # Errors
/// What the kernel refused.
pub fn measure(from: &Netns, to: &Netns, address: IpAddr) -> Result<Figures> {
    measure_at(from, to, SocketAddr::new(address, 0))
}

/// The same, to a certain port.
///
/// # Errors
/// What the kernel refused.
pub fn measure_at(from: &Netns, to: &Netns, at: SocketAddr) -> Result<Figures> {
    let listener = to.run(|| TcpListener::bind(at))??;
    let at = listener.local_addr()?;
    let server = std::thread::spawn(move || serve(&listener));
    pin()?;
    let connect = || from.run(|| TcpStream::connect_timeout(&at, Duration::from_secs(10)));
    let mut stream = connect()??;
    stream.set_nodelay(true)?;
    let mut times = Vec::with_capacity(ROUNDS);
    let mut byte = [1_u8];
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        times.push(begin.elapsed());
    }
    drop(stream);
    times.sort_unstable();
    let mut stream = connect()??;
    let payload = vec![0x55; 128 << 10];
    let begin = Instant::now();
    let mut bytes = 0_u64;
    while begin.elapsed() < STREAM {
        bytes += stream.write(&payload)? as u64;
    }
    let stream_time = begin.elapsed();
    drop(stream);
    server.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
    Ok(Figures {
        round_trip: times[times.len() / 2].as_secs_f64() * 1e6,
        stream: bytes as f64 * 8.0 / stream_time.as_secs_f64() / 1e9,
    })
}

/// First echoes single bytes, then swallows a stream.
fn serve(listener: &TcpListener) -> Result<()> {
    pin()?;
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut byte = [0_u8];
    while stream.read(&mut byte)? == 1 {
        stream.write_all(&byte)?;
    }
    let (mut stream, _) = listener.accept()?;
    let mut buffer = vec![0; 256 << 10];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

/// The median time of a connection's beginning, in microseconds, over `count` of them: `connect` alone, which has the whole
/// handshake done on this CPU when it returns.
///
/// # Errors
/// What the kernel refused.
pub fn connects(from: &Netns, to: &Netns, at: SocketAddr, count: usize) -> Result<f64> {
    pin()?;
    let listener = to.run(|| TcpListener::bind(at))??;
    let at = listener.local_addr()?;
    let mut times = Vec::with_capacity(count);
    from.run(|| -> Result<()> {
        for _ in 0..count {
            let begin = Instant::now();
            let stream = TcpStream::connect_timeout(&at, Duration::from_secs(10))?;
            times.push(begin.elapsed());
            // Reset, so that neither end keeps the port.
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
            drop(stream);
            drop(listener.accept());
        }
        Ok(())
    })??;
    times.sort_unstable();
    Ok(times[times.len() / 2].as_secs_f64() * 1e6)
}
