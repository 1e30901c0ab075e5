//! The packet that is followed: the first of an honest connection, from a socket in the sender's namespace.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
use serde::Serialize;

use super::{Question, TraceError};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// By which our echo requests are told from those of others.
const MARK: &[u8] = b"weft trace";

/// A socket that is about to send.
pub(super) struct Probe {
    socket: OwnedFd,
    to: SocketAddr,
    protocol: u8,
    /// The port that it sends from, where the protocol has some.
    pub(super) port: Option<u16>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The connection stands, or a datagram or an echo came back.
    Accepted,
    /// Nobody listens at that port.
    Refused,
    /// Something on the way says that it cannot go on.
    Unreachable(String),
}

impl Probe {
    /// Binds a socket in the calling thread's network namespace.
    pub(super) fn open(question: &Question) -> Result<Probe, TraceError> {
        let make = |source: Errno| TraceError::Socket {
            what: "make a socket of the sender's",
            source: source.into(),
        };
        let family = if question.source.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let (kind, protocol) = match question.protocol {
            TCP => (SocketType::STREAM, None),
            UDP => (SocketType::DGRAM, None),
            ICMP => (SocketType::RAW, Some(ipproto::ICMP)),
            ICMPV6 => (SocketType::RAW, Some(ipproto::ICMPV6)),
            other => return Err(TraceError::Protocol(other)),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = net::socket_with(family, kind, flags, protocol).map_err(make)?;
        net::bind(&socket, &SocketAddr::new(question.source, 0)).map_err(make)?;
        let own = SocketAddr::try_from(net::getsockname(&socket).map_err(make)?).map_err(make)?;
        let port = matches!(question.protocol, TCP | UDP).then(|| own.port());
        let to = SocketAddr::new(question.destination, if port.is_some() { question.port } else { 0 });
        Ok(Probe { socket, to, protocol: question.protocol, port })
    }

    /// Sends it. What rules on the sender's own host refuse is no error.
    pub(super) fn send(&self) -> io::Result<()> {
        let sent = match (self.protocol, self.to.ip()) {
            (TCP, _) => net::connect(&self.socket, &self.to),
            (UDP, _) => net::connect(&self.socket, &self.to)
                .and_then(|()| net::send(&self.socket, MARK, SendFlags::empty()).map(drop)),
            (_, to) => net::sendto(&self.socket, &echo(to), SendFlags::empty(), &self.to).map(drop),
        };
        match sent {
            Ok(()) | Err(Errno::INPROGRESS | Errno::PERM | Errno::ACCESS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What has come back, if something has.
    pub(super) fn answer(&self) -> Option<Answer> {
        let failed = |error: Errno| match error {
            Errno::AGAIN | Errno::INTR => None,
            Errno::CONNREFUSED => Some(Answer::Refused),
            other => Some(Answer::Unreachable(io::Error::from(other).to_string())),
        };
        if self.protocol == TCP {
            let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
            poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).ok().filter(|ready| *ready > 0)?;
            return match sockopt::socket_error(&self.socket) {
                Ok(Ok(())) => Some(Answer::Accepted),
                Ok(Err(error)) | Err(error) => failed(error),
            };
        }
        let mut buffer = [0; 2048];
        loop {
            match net::recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Err(error) => return failed(error),
                Ok(_) if self.protocol == UDP => return Some(Answer::Accepted),
                // Echoes of others come here, too, and IPv4 brings its header along.
                Ok((length, _)) => {
                    let packet = &buffer[..length.min(2048)];
                    let skip = if self.to.is_ipv4() { usize::from(packet.first()? & 0x0f) * 4 } else { 0 };
                    let message = packet.get(skip..).unwrap_or_default();
                    if matches!(message.first(), Some(0 | 129)) && message.ends_with(MARK) {
                        return Some(Answer::Accepted);
                    }
                }
            }
        }
    }
}

/// An echo request (RFC 792, RFC 4443). Of ICMPv6 the kernel makes the checksum.
fn echo(to: IpAddr) -> Vec<u8> {
    let kind = if to.is_ipv4() { 8 } else { 128 };
    let mut message = [&[kind, 0, 0, 0, 0x77, 0x74, 0, 1], MARK].concat();
    if to.is_ipv4() {
        let sum =
            message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
        let mut sum: u32 = sum.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        message[2..4].copy_from_slice(&(!u16::try_from(sum).unwrap_or(0)).to_be_bytes());
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_makes_the_sum_come_out_even() {
        let message = echo([10, 0, 0, 1].into());
        let sum: u32 =
            message.chunks(2).map(|p| u32::from(p[0]) << 8 | u32::from(*p.get(1).unwrap_or(&0))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }
}
