//! A web server whose page is the address of whoever asks, and its client.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use weft_kernel::netns::Netns;

use super::inside;

/// How often a server looks whether it is to end.
const ROUND: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// How long a client may be silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// A web server. Every page is the address of the client. Dropping it ends it.
pub struct WebServer {
    address: SocketAddr,
    peers: Arc<Mutex<Vec<IpAddr>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl WebServer {
    /// Listens in a namespace; `[::]:PORT` is for both families, port 0 for any free one.
    ///
    /// # Errors
    /// Those of `bind`.
    pub fn start(netns: &Netns, address: SocketAddr) -> io::Result<WebServer> {
        let listener = inside(netns, || TcpListener::bind(address))?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let (peers, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (seen, ending) = (Arc::clone(&peers), Arc::clone(&stop));
        let thread = std::thread::spawn(move || serve(&listener, &seen, &ending));
        Ok(WebServer { address, peers, stop, thread: Some(thread) })
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Who has connected so far, in order.
    #[must_use]
    pub fn peers(&self) -> Vec<IpAddr> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, peers: &Arc<Mutex<Vec<IpAddr>>>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let _ = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&ROUND));
        while let Ok((stream, peer)) = listener.accept() {
            let peer = peer.ip().to_canonical();
            peers.lock().unwrap_or_else(PoisonError::into_inner).push(peer);
            // A thread each: one that stays silent must not hold up the others.
            std::thread::spawn(move || answer(stream, peer));
        }
    }
}

fn answer(mut stream: TcpStream, peer: IpAddr) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = [0; 1024];
    // What is asked for does not matter; that something is asked for does.
    if stream.read(&mut request)? == 0 {
        return Ok(());
    }
    let body = peer.to_string();
    let length = body.len();
    write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// Opens a connection from a namespace.
///
/// # Errors
/// Those of `connect`; `TimedOut` after `patience`.
pub fn connect(netns: &Netns, to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    inside(netns, || TcpStream::connect_timeout(&to, patience))
}

/// Fetches the page of a [`WebServer`]: the address under which it sees the namespace.
///
/// # Errors
/// Those of the connection; `InvalidData` if it is no page of such a server.
pub fn get(netns: &Netns, from: SocketAddr, patience: Duration) -> io::Result<IpAddr> {
    let mut stream = connect(netns, from, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let body = page.split_once("\r\n\r\n").map(|(_, body)| body);
    let address = body.and_then(|b| b.trim().parse().ok());
    address.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no such page: {page:?}")))
}
