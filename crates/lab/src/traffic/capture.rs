//! Sending frames on an interface, and seeing those that come in.

use std::io;
use std::time::{Duration, Instant};

use weft_kernel::netns::{Netns, index_of};
use weft_kernel::packet::PacketSocket;

use super::frame::Frame;
use super::inside;

fn open(netns: &Netns, ifname: &str) -> io::Result<PacketSocket> {
    inside(netns, || {
        let index = index_of(ifname).ok_or_else(|| io::Error::other(format!("there is no {ifname}")))?;
        PacketSocket::open(index)
    })
}

/// A way to send frames past the sender's own IP stack.
#[derive(Debug)]
pub struct Tap {
    socket: PacketSocket,
}

impl Tap {
    /// Opens an interface of a namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(netns: &Netns, ifname: &str) -> io::Result<Tap> {
        Ok(Tap { socket: open(netns, ifname)? })
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame)
    }
}

/// Frames that come in by an interface, from the moment it was opened.
#[derive(Debug)]
pub struct Capture {
    socket: PacketSocket,
}

impl Capture {
    /// Opens an interface of a namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(netns: &Netns, ifname: &str) -> io::Result<Capture> {
        Ok(Capture { socket: open(netns, ifname)? })
    }

    /// Waits for a frame that `wanted` likes, and gives all frames up to and with it. Frames keep their
    /// order on a wire: what was sent before the wanted one and is not there will not come.
    ///
    /// # Errors
    /// The kernel's; `TimedOut` after `patience`, naming what came instead.
    pub fn until(&self, patience: Duration, wanted: impl Fn(&Frame) -> bool) -> io::Result<Vec<Frame>> {
        let begin = Instant::now();
        let mut seen: Vec<Frame> = Vec::new();
        let mut buffer = vec![0; 65_536];
        while let Some(left) = patience.checked_sub(begin.elapsed()) {
            let Some(length) = self.socket.receive(&mut buffer, left)? else { break };
            let Some(frame) = Frame::read(&buffer[..length]) else { continue };
            let found = wanted(&frame);
            seen.push(frame);
            if found {
                return Ok(seen);
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no such frame among {seen:?}")))
    }

    /// The frames that are there already.
    ///
    /// # Errors
    /// The kernel's.
    pub fn drain(&self) -> io::Result<Vec<Frame>> {
        let mut seen = Vec::new();
        let mut buffer = vec![0; 65_536];
        while let Some(length) = self.socket.receive(&mut buffer, Duration::ZERO)? {
            seen.extend(Frame::read(&buffer[..length]));
        }
        Ok(seen)
    }
}
