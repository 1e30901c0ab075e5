//! Traffic, in plain Rust: servers and clients, pings, and frames that no honest workload sends.
//!
//! A socket belongs to the namespace in which it was opened, so each is opened there and can then be
//! used from any thread.

mod capture;
pub mod frame;
mod ping;
mod pulse;
mod stream;
mod udp;
mod web;

pub use capture::{Capture, Tap};
pub use frame::Frame;
pub use ping::ping;
pub use pulse::{Figures, Pulse};
pub use stream::{Arrived, Stream};
pub use udp::{UdpEcho, exchange, udp};
pub use web::{WebServer, connect, get};

use std::io;

use weft_kernel::netns::Netns;

/// Runs `work` in a namespace.
fn inside<T>(netns: &Netns, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    netns.run(work).map_err(io::Error::other)?
}
