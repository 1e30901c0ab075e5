//! A process of a host's own with one socket: it connects, talks, and prints whom it believes to have talked to.
//!
//! `sock tcp|udp|connected TO`: for TCP the page of the lab's web server, for UDP an echo, by a socket without and
//! with a peer. Prints the peer by getpeername(2), the source of the answer by recvfrom(2), and the answer.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail};

const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [how, to] = words.as_slice() else { bail!("sock tcp|udp|connected TO") };
    let to: SocketAddr = to.parse()?;
    let lines = match how.as_str() {
        "tcp" => tcp(to)?,
        "udp" => udp(to, false)?,
        "connected" => udp(to, true)?,
        other => bail!("what is {other}?"),
    };
    Ok(writeln!(std::io::stdout(), "{}", lines.join(" "))?)
}

fn tcp(to: SocketAddr) -> Result<Vec<String>> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).context("failed to connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let peer = stream.peer_addr()?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let body = page.split_once("\r\n\r\n").context("no page")?.1;
    Ok(vec![peer.to_string(), peer.to_string(), body.trim().to_owned()])
}

fn udp(to: SocketAddr, connected: bool) -> Result<Vec<String>> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut peer = to;
    if connected {
        socket.connect(to)?;
        socket.send(b"hello")?;
        peer = socket.peer_addr()?;
    } else {
        socket.send_to(b"hello", to)?;
    }
    let mut buffer = [0; 64];
    let (length, from) = socket.recv_from(&mut buffer).context("no answer")?;
    Ok(vec![peer.to_string(), from.to_string(), String::from_utf8_lossy(&buffer[..length]).into_owned()])
}
