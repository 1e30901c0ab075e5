//! How much a TCP connection carries: one end sends as fast as it may, the other one counts.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weft_kernel::netns::Netns;

use super::inside;

/// How long either end may wait for the other.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the sender looks whether it is to end.
const ROUND: Duration = Duration::from_millis(50);

/// A connection whose sender never pauses. Dropping it ends both ends.
pub struct Stream {
    receiver: TcpStream,
    stop: Arc<AtomicBool>,
    sender: Option<JoinHandle<()>>,
}

/// What arrived within a time.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    /// Bytes of payload.
    pub bytes: u64,
    /// How long was counted.
    pub time: Duration,
}

impl Arrived {
    /// Bits of payload per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.time.as_secs_f64()
    }
}

impl Stream {
    /// Connects from the sender's namespace to `at` in the receiver's, and begins to send.
    ///
    /// # Errors
    /// Those of the sockets.
    pub fn start(sender: &Netns, receiver: &Netns, at: SocketAddr) -> io::Result<Stream> {
        let listener = inside(receiver, || TcpListener::bind(at))?;
        let mut from = inside(sender, || TcpStream::connect_timeout(&at, PATIENCE))?;
        let (receiver, _) = listener.accept()?;
        receiver.set_read_timeout(Some(PATIENCE))?;
        from.set_write_timeout(Some(ROUND))?;
        let stop = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&stop);
        let sender = std::thread::spawn(move || {
            let payload = vec![0x55; 64 << 10];
            while !ending.load(Ordering::Relaxed) {
                match from.write(&payload) {
                    Err(e) if !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
                    _ => {}
                }
            }
        });
        Ok(Stream { receiver, stop, sender: Some(sender) })
    }

    /// Counts what arrives for so long.
    ///
    /// # Errors
    /// Those of the socket; a connection that ended is one.
    pub fn count(&mut self, time: Duration) -> io::Result<Arrived> {
        let mut buffer = vec![0; 64 << 10];
        let (start, mut bytes) = (Instant::now(), 0);
        while start.elapsed() < time {
            match self.receiver.read(&mut buffer)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                length => bytes += length as u64,
            }
        }
        Ok(Arrived { bytes, time: start.elapsed() })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.receiver.shutdown(std::net::Shutdown::Both);
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
    }
}
