//! Datagrams: a socket in a namespace, a server that sends back what it gets, and one exchange.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use weft_kernel::netns::Netns;

use super::inside;

/// How often a server looks whether it is to end.
const ROUND: Duration = Duration::from_millis(20);

/// Binds a socket in a namespace.
///
/// # Errors
/// Those of `bind`.
pub fn udp(netns: &Netns, address: SocketAddr) -> io::Result<UdpSocket> {
    inside(netns, || UdpSocket::bind(address))
}

/// Sends one datagram, once, and waits for one answer.
///
/// # Errors
/// Those of the socket; `WouldBlock` if no answer came within `patience`.
pub fn exchange(
    socket: &UdpSocket,
    to: SocketAddr,
    payload: &[u8],
    patience: Duration,
) -> io::Result<Vec<u8>> {
    socket.set_read_timeout(Some(patience))?;
    socket.send_to(payload, to)?;
    let mut buffer = vec![0; 65_536];
    let (length, _) = socket.recv_from(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

/// Sends every datagram back. Dropping it ends it.
pub struct UdpEcho {
    port: u16,
    peers: Arc<Mutex<Vec<IpAddr>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpEcho {
    /// Listens in a namespace; `[::]:PORT` is for both families, port 0 for any free one.
    ///
    /// # Errors
    /// Those of `bind`.
    pub fn start(netns: &Netns, address: SocketAddr) -> io::Result<UdpEcho> {
        let socket = udp(netns, address)?;
        let port = socket.local_addr()?.port();
        socket.set_read_timeout(Some(ROUND))?;
        let (peers, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (seen, ending): (Arc<Mutex<Vec<IpAddr>>>, _) = (Arc::clone(&peers), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !ending.load(Ordering::Relaxed) {
                let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(peer.ip().to_canonical());
                let _ = socket.send_to(&buffer[..length], peer);
            }
        });
        Ok(UdpEcho { port, peers, stop, thread: Some(thread) })
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From where datagrams came so far, in order.
    #[must_use]
    pub fn peers(&self) -> Vec<IpAddr> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
