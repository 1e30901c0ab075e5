//! Checksums that the hardware, or nobody, computes: datagrams without one, and telling a device not to offload.
//!
//! Some network cards and their virtual kin write wrong checksums into packets that travel in tunnels
//! (PAINS.md 6).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use weft_model::IfName;

const SIOCETHTOOL: libc::Ioctl = 0x8946; // linux/sockios.h
const SET_TX_CHECKSUM: u32 = 0x17; // ETHTOOL_STXCSUM, linux/ethtool.h

/// Has a UDP socket send IPv4 datagrams without a checksum (socket(7), `SO_NO_CHECK`), which nothing on the
/// way can get wrong.
///
/// # Errors
/// The kernel's.
pub fn without_checksum(socket: impl AsFd) -> io::Result<()> {
    let yes: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&yes)).expect("4 fits");
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `yes` lives through the call and `size` is its size; the kernel only reads it.
    let result =
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_NO_CHECK, (&raw const yes).cast(), size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the kernel compute all checksums of what leaves by a device (`ethtool -K DEV tx off`), in the calling
/// thread's namespace.
///
/// # Errors
/// The kernel's; `EOPNOTSUPP` where the device cannot change it.
pub fn switch_off(device: &IfName) -> io::Result<()> {
    #[repr(C)]
    struct EthtoolValue {
        command: u32,
        data: u32,
    }
    let socket =
        std::net::UdpSocket::bind("127.0.0.1:0").or_else(|_| std::net::UdpSocket::bind("[::1]:0"))?;
    let mut value = EthtoolValue { command: SET_TX_CHECKSUM, data: 0 };
    // SAFETY: ifreq is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(device.as_str().bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: `request` and the structure that it points to live through the call and have the layout that
    // SIOCETHTOOL expects (linux/if.h `ifreq`, linux/ethtool.h `ethtool_value`); the name ends with a NUL,
    // for an interface name has at most 15 bytes.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
