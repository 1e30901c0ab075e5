//! Which processes of the host hold a port: asked by netlink, and where the kernel does not answer that, read from
//! `/proc/net/tcp` and its like (proc(5)).
//!
//! Asked once, before a port is published: packets to it would no longer reach them.

mod diag;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// States of linux/tcp_states.h: a listening TCP socket, and a UDP socket without a peer.
const LISTENING: u8 = 10;
const UNCONNECTED: u8 = 7;

/// A socket that takes what comes to a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub at: SocketAddr,
    /// The socket's inode, by which its process can be found.
    pub inode: u64,
}

/// The sockets of the calling thread's namespace that listen, for TCP (6) and UDP (17); none for other protocols.
///
/// # Errors
/// When neither netlink nor `/proc` tells.
pub fn listeners(protocol: u8) -> io::Result<Vec<Listener>> {
    let (names, state) = match protocol {
        TCP => (["tcp", "tcp6"], LISTENING),
        UDP => (["udp", "udp6"], UNCONNECTED),
        _ => return Ok(Vec::new()),
    };
    let asked = [true, false].map(|ipv4| diag::listeners(ipv4, protocol, state));
    if let [Ok(v4), Ok(v6)] = asked {
        return Ok([v4, v6].concat());
    }
    let mut all = Vec::new();
    for name in names {
        all.extend(listed(name, protocol, state)?);
    }
    Ok(all)
}

/// Those in a file of `/proc/net`.
fn listed(name: &str, protocol: u8, wanted: u8) -> io::Result<Vec<Listener>> {
    let mut all = Vec::new();
    let file = match File::open(format!("/proc/thread-self/net/{name}")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all), // no IPv6
        Err(error) => return Err(error),
    };
    for line in BufReader::new(file).lines().skip(1) {
        match read(&line?) {
            Some((listener, state)) if state == wanted => all.push(listener),
            // Those that listen come first; the connections of a busy host need not be read.
            Some(_) if protocol == TCP => break,
            _ => {}
        }
    }
    Ok(all)
}

/// The processes whose open files a socket is among: number and name.
#[must_use]
pub fn holders(inode: u64) -> Vec<(u32, String)> {
    let wanted = format!("socket:[{inode}]");
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = processes.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let holds = |pid: &u32| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(|f| std::fs::read_link(f.path()).ok()).any(|to| to.as_os_str() == wanted.as_str())
    };
    let named = |pid: u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        (pid, name.trim_end().to_owned())
    };
    numbers.filter(holds).map(named).collect()
}

/// A line: local address (2nd word), state (4th), inode (10th).
fn read(line: &str) -> Option<(Listener, u8)> {
    let mut words = line.split_ascii_whitespace();
    let at = address(words.nth(1)?)?;
    let state = u8::from_str_radix(words.nth(1)?, 16).ok()?;
    let inode = words.nth(5)?.parse().ok()?;
    Some((Listener { at, inode }, state))
}

/// Address and port in hexadecimal; the address in words of 32 bits, each as the CPU has it.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    if !address.is_ascii() || address.len() % 8 != 0 {
        return None;
    }
    let words = (0..address.len() / 8).map(|i| u32::from_str_radix(&address[i * 8..i * 8 + 8], 16));
    let bytes: Vec<u8> =
        words.collect::<Result<Vec<u32>, _>>().ok()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use proptest::prelude::*;

    use super::*;
    use crate::netlink::{Family, Messages, Socket};
    use crate::netns::Netns;
    use crate::rtnl::link;

    #[test]
    fn who_listens_is_found_and_who_talks_is_not() {
        let netns = Netns::anonymous().unwrap();
        netns
            .run(|| {
                let mut messages = Messages::default();
                link::change(&mut messages, 1, &link::Change { up: Some(true), ..link::Change::default() });
                Socket::open(Family::Route).unwrap().transact(&messages).unwrap()[0].clone().unwrap();
                let tcp: Vec<_> = ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"]
                    .map(|at| TcpListener::bind(at).unwrap())
                    .into();
                let _talk = TcpStream::connect(tcp[0].local_addr().unwrap()).unwrap();
                let udp = UdpSocket::bind("[::1]:0").unwrap();
                let peer = UdpSocket::bind("[::1]:0").unwrap();
                peer.connect(udp.local_addr().unwrap()).unwrap();
                let at = |all: Vec<Listener>| {
                    let mut all: Vec<_> = all.into_iter().map(|l| l.at).collect();
                    all.sort();
                    all
                };
                let mut wanted: Vec<_> = tcp.iter().map(|l| l.local_addr().unwrap()).collect();
                wanted.sort();
                assert_eq!(at(listeners(TCP).unwrap()), wanted);
                assert_eq!(at(listeners(UDP).unwrap()), [udp.local_addr().unwrap()]);
                assert_eq!(listeners(132).unwrap(), []);
                let listed = |names: [&str; 2], protocol, state| {
                    at(names.iter().flat_map(|name| listed(name, protocol, state).unwrap()).collect())
                };
                assert_eq!(listed(["tcp", "tcp6"], TCP, LISTENING), wanted);
                assert_eq!(listed(["udp", "udp6"], UDP, UNCONNECTED), [udp.local_addr().unwrap()]);
                let found = listeners(UDP).unwrap();
                let holders = holders(found[0].inode);
                assert!(holders.iter().any(|(pid, _)| *pid == std::process::id()), "{holders:?}");
            })
            .unwrap();
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(line in "[0-9A-F: é]{0,120}") {
            let _ = read(&line);
        }
    }
}
