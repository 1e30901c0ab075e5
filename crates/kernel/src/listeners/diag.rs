//! The sockets that listen, as the kernel tells by netlink (linux/inet_diag.h, linux/sock_diag.h): it walks those alone, where
//! `/proc/net/tcp` walks the table of all connections, milliseconds on a large host.

use std::net::{IpAddr, SocketAddr};

use super::Listener;
use crate::netlink::{Error, Family, Message, Messages, Socket};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// Where `struct inet_diag_msg` has the source's port and address, and the inode; its length.
const PORT: usize = 4;
const ADDRESS: usize = 8;
const INODE: usize = 68;
const LENGTH: usize = 72;

/// The sockets of one family and protocol in that state (linux/tcp_states.h) in the calling thread's namespace.
///
/// # Errors
/// [`Error::Refused`] where the kernel has nothing that answers (CONFIG_INET_DIAG).
pub(super) fn listeners(ipv4: bool, protocol: u8, state: u8) -> Result<Vec<Listener>, Error> {
    let family = if ipv4 { libc::AF_INET } else { libc::AF_INET6 };
    let mut request = [0; 56]; // struct inet_diag_req_v2
    request[0] = family.to_le_bytes()[0];
    request[1] = protocol;
    request[4..8].copy_from_slice(&(1_u32 << state).to_ne_bytes());
    let mut messages = Messages::default();
    messages.push(BY_FAMILY, DUMP, &request, |_| ());
    Socket::open(Family::Diagnosis)?
        .dump(&messages, |all: &mut Vec<Listener>, message| all.extend(read(message)))
}

fn read(message: &Message<'_>) -> Option<Listener> {
    let told = message.payload.get(..LENGTH).filter(|_| message.kind == BY_FAMILY)?;
    let of = |from: usize, to: usize| &told[from..to];
    let address = match i32::from(told[0]) {
        libc::AF_INET => IpAddr::from(<[u8; 4]>::try_from(of(ADDRESS, ADDRESS + 4)).ok()?),
        libc::AF_INET6 => IpAddr::from(<[u8; 16]>::try_from(of(ADDRESS, ADDRESS + 16)).ok()?),
        _ => return None,
    };
    let port = u16::from_be_bytes(of(PORT, PORT + 2).try_into().ok()?);
    let inode = u32::from_ne_bytes(of(INODE, LENGTH).try_into().ok()?);
    Some(Listener { at: SocketAddr::new(address, port), inode: inode.into() })
}
