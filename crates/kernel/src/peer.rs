//! Who is at the other end of a local socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The user on whose behalf the peer connected (unix(7), `SO_PEERCRED`).
///
/// Only the user: a peer in a process namespace that ours cannot see has the process number 0, which
/// rustix's type for these credentials cannot hold. An agent in a container of its own has such peers.
///
/// # Errors
/// The kernel's, if this is no local socket.
pub fn uid(socket: impl AsFd) -> io::Result<u32> {
    let mut credentials = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut size = libc::socklen_t::try_from(size_of::<libc::ucred>()).expect("12 fits");
    let fd = socket.as_fd().as_raw_fd();
    let into = (&raw mut credentials).cast();
    // SAFETY: the kernel writes at most `size` bytes into `credentials`, all of whose values are valid.
    let result = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, into, &raw mut size) };
    if result == 0 { Ok(credentials.uid) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_other_end_is_us() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(uid(&one).unwrap(), rustix::process::geteuid().as_raw());
        let no_peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_ne!(uid(&no_peer).ok(), Some(0), "a socket without a peer is nobody's");
    }
}
