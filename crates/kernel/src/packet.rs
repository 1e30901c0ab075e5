//! Whole Ethernet frames in and out of one interface (packet(7)), for probes, traces and attacks in tests.
//!
//! A packet socket sees frames before any rule of netfilter does, and sends past all of them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const ALL: u16 = 0x0003; // ETH_P_ALL, linux/if_ether.h
const IGNORE_OUTGOING: libc::c_int = 23; // PACKET_IGNORE_OUTGOING, linux/if_packet.h (since 4.20)

/// A socket for the frames of one interface, whoever they are for.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// Opens a socket on the interface with this index in the calling thread's network namespace. It
    /// receives what comes in by the interface, not what leaves by it.
    ///
    /// # Errors
    /// The kernel's; `EPERM` without `CAP_NET_RAW`, `ENODEV` without such an interface.
    pub fn open(index: u32) -> io::Result<PacketSocket> {
        // No protocol yet: before `bind` it would receive from all interfaces.
        let fd = net::socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        option(fd.as_fd(), libc::SOL_PACKET, IGNORE_OUTGOING, 1)?;
        // SAFETY: sockaddr_ll is plain data for which all zeroes is a valid value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).expect("address families fit 16 bits");
        address.sll_protocol = ALL.to_be();
        address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
        let size = libc::socklen_t::try_from(size_of_val(&address)).expect("20 fits");
        // SAFETY: `address` lives through the call and `size` is its size; the kernel only reads it.
        let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size) };
        if bound == 0 { Ok(PacketSocket { fd }) } else { Err(io::Error::last_os_error()) }
    }

    /// Sends a frame, its Ethernet header first.
    ///
    /// # Errors
    /// The kernel's; `ENETDOWN` when the interface is down.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        rustix::io::retry_on_intr(|| net::send(&self.fd, frame, SendFlags::empty()))?;
        Ok(())
    }

    /// Waits for a frame and returns how many of its bytes `buffer` got; `None` when none came in time.
    ///
    /// # Errors
    /// The kernel's; `ENETDOWN` once the interface went down.
    pub fn receive(&self, buffer: &mut [u8], patience: Duration) -> io::Result<Option<usize>> {
        let timeout = Timespec::try_from(patience).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        if rustix::io::retry_on_intr(|| poll(&mut fds, Some(&timeout)))? == 0 {
            return Ok(None);
        }
        let (filled, _) =
            rustix::io::retry_on_intr(|| net::recv(&self.fd, &mut *buffer, RecvFlags::empty()))?;
        Ok(Some(filled))
    }
}

fn option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<i32>()).expect("4 fits");
    // SAFETY: `value` lives through the call and `size` is its size; the kernel only reads it.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
