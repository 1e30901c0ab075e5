//! A host between a client and a server, each in a namespace of its own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};
use weft_kernel::netns::Netns;
use weft_lab::Namespace;

/// The backends: two addresses of one server.
pub(crate) const BACKENDS: [SocketAddr; 2] = [
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(10, 102, 0, 2), 8001)),
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(10, 102, 0, 3), 8001)),
];
const ROUNDS: usize = 3_000;
/// Connections before those that count.
const WARM: usize = 300;

pub(crate) struct Ground {
    pub(crate) host: Netns,
    client: Namespace,
    _server: Namespace,
    stop: Arc<AtomicBool>,
}

impl Ground {
    pub(crate) fn new() -> Result<Ground> {
        let (host, client, server) = (Netns::anonymous()?, Namespace::new()?, Namespace::new()?);
        for (link, inside, subnet) in [("client", &client, 101), ("server", &server, 102)] {
            let path = inside.path().display().to_string();
            ip(&host, &format!("link add {link} up type veth peer name eth0 netns {path}"))?;
            ip(&host, &format!("addr add 10.{subnet}.0.1/24 dev {link}"))?;
            ip(inside.netns(), "link set eth0 up")?;
            ip(inside.netns(), &format!("addr add 10.{subnet}.0.2/24 dev eth0"))?;
            ip(inside.netns(), &format!("route add default via 10.{subnet}.0.1"))?;
        }
        ip(server.netns(), "addr add 10.102.0.3/24 dev eth0")?;
        host.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
        let stop = Arc::new(AtomicBool::new(false));
        for backend in BACKENDS {
            let listener = server.netns().run(|| TcpListener::bind(backend))??;
            let stop = stop.clone();
            std::thread::spawn(move || serve(&listener, &stop));
        }
        Ok(Ground { host, client, _server: server, stop })
    }

    /// Median of connect, request and answer from the client, in microseconds.
    pub(crate) fn connect(&self, to: SocketAddr) -> Result<f64> {
        pin()?;
        let mut times = Vec::with_capacity(ROUNDS);
        self.client.netns().run(|| -> Result<()> {
            for round in 0..ROUNDS + WARM {
                let begin = Instant::now();
                let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
                stream.write_all(b"x")?;
                stream.read_exact(&mut [0])?;
                if round >= WARM {
                    times.push(begin.elapsed());
                }
            }
            Ok(())
        })??;
        Ok(super::median(times).as_secs_f64() * 1e6)
    }

    /// Runs a program on the host with a text as its input; how long it took.
    pub(crate) fn feed(&self, program: &[&str], text: &str) -> Result<Duration> {
        let begin = Instant::now();
        let mut command = self.host.command(program[0]);
        command.args(&program[1..]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("failed to run {}", program[0]))?;
        child.stdin.take().context("it has an input")?.write_all(text.as_bytes())?;
        let output = child.wait_with_output()?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program:?}: {}", words.chars().take(500).collect::<String>());
        Ok(begin.elapsed())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Client and server run on one processor: wake-ups across them would hide the path.
fn pin() -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(0);
    sched_setaffinity(None, &cpus).context("failed to pin a thread")
}

fn serve(listener: &TcpListener, stop: &AtomicBool) -> Result<()> {
    pin()?;
    while !stop.load(Ordering::Relaxed) {
        let (mut stream, _) = listener.accept()?;
        let mut byte = [0];
        if stream.read_exact(&mut byte).is_ok() {
            let _ = stream.write_all(&byte);
        }
    }
    Ok(())
}

fn ip(netns: &Netns, words: &str) -> Result<()> {
    let mut command: Command = netns.command("ip");
    let output = command.args(words.split(' ')).output()?;
    ensure!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
