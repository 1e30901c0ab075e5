//! Numbered packets and bytes at a constant rate, each awaited: what of them is lost, and how long nothing came.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weft_kernel::netns::Netns;

use super::{UdpEcho, connect, inside, udp};

/// A hundred a second (BAR.md, R2).
const EVERY: Duration = Duration::from_millis(10);
/// What has not come back so long after the last one was sent is lost.
const LATE: Duration = Duration::from_secs(2);
const BLOCK: usize = 1000;
/// Fewer prove nothing: so many are sent, however soon the end is asked for.
const LEAST: u64 = 100;

/// What a stream saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Packets, or blocks of a connection, that were sent.
    pub sent: u64,
    /// Those that came back.
    pub back: u64,
    /// The longest time in which none came back.
    pub gap: Duration,
}

impl Figures {
    /// How many did not come back.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sent - self.back
    }
}

/// A stream from one namespace to another and back. Dropping it ends it.
pub struct Pulse {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<Figures>>>,
    _echo: Option<UdpEcho>,
}

impl Pulse {
    /// Datagrams, each with its number, to `address` in `to`, which sends them back.
    ///
    /// # Errors
    /// Those of the sockets.
    pub fn datagrams(from: &Netns, to: &Netns, address: IpAddr) -> io::Result<Pulse> {
        let echo = UdpEcho::start(to, SocketAddr::new(address, 0))?;
        let any = if address.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        let socket = udp(from, SocketAddr::new(any, 0))?;
        socket.connect(SocketAddr::new(address, echo.port()))?;
        socket.set_nonblocking(true)?;
        let end = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&end);
        let thread = std::thread::spawn(move || count(&socket, &ending));
        Ok(Pulse { end, thread: Some(thread), _echo: Some(echo) })
    }

    /// One connection, a kilobyte at a time, each awaited.
    ///
    /// # Errors
    /// Those of the sockets; the connection stands when this returns.
    pub fn connection(from: &Netns, to: &Netns, address: IpAddr) -> io::Result<Pulse> {
        let listener = inside(to, || TcpListener::bind(SocketAddr::new(address, 0)))?;
        let at = listener.local_addr()?;
        std::thread::spawn(move || echo(&listener));
        let stream = connect(from, at, Duration::from_secs(10))?;
        let end = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&end);
        let thread = std::thread::spawn(move || converse(stream, &ending));
        Ok(Pulse { end, thread: Some(thread), _echo: None })
    }

    /// Ends it.
    ///
    /// # Errors
    /// Those that the stream met on its way: a connection that was reset, a destination out of reach.
    pub fn finish(mut self) -> io::Result<Figures> {
        self.end.store(true, Ordering::Relaxed);
        let thread = self.thread.take().ok_or_else(|| io::Error::other("the stream has ended before"))?;
        thread.join().map_err(|_| io::Error::other("the stream panicked"))?
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn count(socket: &UdpSocket, end: &AtomicBool) -> io::Result<Figures> {
    let mut figures = Figures { sent: 0, back: 0, gap: Duration::ZERO };
    let mut last = Instant::now();
    let mut read = |figures: &mut Figures| {
        while socket.recv(&mut [0; 16]).is_ok() {
            figures.back += 1;
            figures.gap = figures.gap.max(last.elapsed());
            last = Instant::now();
        }
    };
    while !end.load(Ordering::Relaxed) || figures.sent < LEAST {
        // A destination that is out of reach for now is a lost packet, not the end.
        let _ = socket.send(&figures.sent.to_be_bytes());
        figures.sent += 1;
        std::thread::sleep(EVERY);
        read(&mut figures);
    }
    let deadline = Instant::now() + LATE;
    while figures.back < figures.sent && Instant::now() < deadline {
        std::thread::sleep(EVERY);
        read(&mut figures);
    }
    Ok(figures)
}

fn echo(listener: &TcpListener) -> io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

fn converse(mut stream: std::net::TcpStream, end: &AtomicBool) -> io::Result<Figures> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_nodelay(true)?;
    let mut figures = Figures { sent: 0, back: 0, gap: Duration::ZERO };
    while !end.load(Ordering::Relaxed) || figures.sent < LEAST {
        let number = figures.sent.to_be_bytes()[7];
        let begin = Instant::now();
        stream.write_all(&[number; BLOCK])?;
        figures.sent += 1;
        let mut back = [0; BLOCK];
        stream.read_exact(&mut back)?;
        if back != [number; BLOCK] {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the stream gave back something else"));
        }
        figures.back += 1;
        figures.gap = figures.gap.max(begin.elapsed());
        std::thread::sleep(EVERY);
    }
    Ok(figures)
}
