//! ICMP echo over raw sockets: no setting of the namespace has to allow it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
use weft_kernel::netns::Netns;

use super::frame::checksum;
use super::inside;

/// Sends one echo request with `size` bytes behind its ICMP header and waits for the answer.
///
/// # Errors
/// The kernel's (`EMSGSIZE` when the packet exceeds the interface's MTU: it is never fragmented for
/// IPv4); `TimedOut` after `patience`.
pub fn ping(netns: &Netns, to: IpAddr, size: usize, patience: Duration) -> io::Result<()> {
    let (family, protocol, [request, reply]) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, [8, 0]),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, [128, 129]),
    };
    let socket = inside(netns, || {
        let socket = net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))?;
        net::connect(&socket, &SocketAddr::new(to, 0))?;
        Ok(socket)
    })?;
    // Echoes of others arrive at every raw socket of the namespace: ours are told by these bytes.
    let mark = crate::tag();
    let mut message = vec![request, 0, 0, 0, 0x77, 0x65, 0, 1];
    message.extend(mark.bytes().cycle().take(size));
    if to.is_ipv4() {
        let sum = checksum(&[&message]).to_be_bytes();
        message[2..4].copy_from_slice(&sum); // for ICMPv6 the kernel does it
        sockopt::set_ip_mtu_discover(&socket, sockopt::Ipv4PathMtuDiscovery::DO)?;
    }
    net::send(&socket, &message, SendFlags::empty())?;
    let begin = Instant::now();
    let mut buffer = vec![0; 65_536];
    while let Some(left) = patience.checked_sub(begin.elapsed()).filter(|left| !left.is_zero()) {
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(left))?;
        let (length, _) = match net::recv(&socket, &mut buffer[..], RecvFlags::empty()) {
            Err(rustix::io::Errno::AGAIN) => break,
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        let received = &buffer[..length];
        // IPv4 raw sockets hand over the IP header, too.
        let skip = if to.is_ipv4() { usize::from(received.first().unwrap_or(&0) & 0x0f) * 4 } else { 0 };
        let answer = received.get(skip..).unwrap_or_default();
        if answer.first() == Some(&reply) && answer.get(8..) == message.get(8..) {
            return Ok(());
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer from {to}")))
}
