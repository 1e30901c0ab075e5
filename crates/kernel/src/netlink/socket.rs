//! The netlink socket. It stays in the namespace of the thread that opened it (BAR.md R7: interrupted
//! dumps are repeated, interrupted calls resumed, and nothing waits for ever).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};

use super::attribute::find;
use super::message::{HEADER, Message, Messages};

const ERROR: u16 = 2; // NLMSG_ERROR
const DONE: u16 = 3; // NLMSG_DONE
const DUMP_INTERRUPTED: u16 = 0x10; // NLM_F_DUMP_INTR
const ACK_CAPPED: u16 = 0x100; // NLM_F_CAPPED
const ACK_TLVS: u16 = 0x200; // NLM_F_ACK_TLVS

/// Messages per send: their acknowledgements must fit the receive buffer.
const CHUNK: usize = 96;
/// The kernel packs answers into packets of at most 32 KiB (net/netlink/af_netlink.c `netlink_dump`).
const PACKET: usize = 64 << 10;
/// How long interrupted dumps are begun anew before the caller hears of it. Where others make and delete
/// links all the time, one in dozens comes through.
const RESTLESS: Duration = Duration::from_secs(5);
/// The kernel answers in microseconds; this bound only keeps a bug from hanging the agent.
const PATIENCE: Duration = Duration::from_secs(10);

/// A netlink protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Links, addresses, routes, neighbours (NETLINK_ROUTE).
    Route,
    /// nftables and conntrack (NETLINK_NETFILTER).
    Netfilter,
    /// Sockets (NETLINK_SOCK_DIAG).
    Diagnosis,
}

/// The kernel's no to one message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.describe())]
pub struct Refusal {
    /// The error number, positive (`libc::EEXIST`).
    pub errno: i32,
    /// What the kernel had to say about it (extended acknowledgement).
    pub reason: Option<String>,
}

impl Refusal {
    fn describe(&self) -> String {
        let errno = io::Error::from_raw_os_error(self.errno);
        match &self.reason {
            Some(reason) => format!("{reason} ({errno})"),
            None => errno.to_string(),
        }
    }
}

/// The conversation itself failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket could not be set up.
    #[error("failed to open a netlink socket")]
    Open(#[source] io::Error),
    /// Sending failed.
    #[error("failed to send {bytes} bytes over netlink")]
    Send {
        /// How many bytes.
        bytes: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Receiving failed; `ENOBUFS` means that events were lost.
    #[error("failed to receive from netlink")]
    Receive(#[source] io::Error),
    /// A request was refused as a whole.
    #[error("the kernel refused the request")]
    Refused(#[source] Refusal),
    /// Tables changed faster than they could be read.
    #[error("dumps were interrupted by concurrent changes for {} seconds", RESTLESS.as_secs())]
    Interrupted,
}

impl Error {
    /// Whether events were lost and a fresh read is due.
    #[must_use]
    pub fn lost_events(&self) -> bool {
        matches!(self, Error::Receive(e) if e.raw_os_error() == Some(libc::ENOBUFS))
    }

    /// Whether there was just nothing to receive for a while.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        matches!(self, Error::Receive(e) if e.kind() == io::ErrorKind::WouldBlock)
    }
}

/// A netlink socket of the namespace in which it was opened.
pub struct Socket {
    fd: OwnedFd,
    port: u32,
    next: u32,
    buffer: Vec<u8>,
    send_limit: usize,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::Open`] with the kernel's reason.
    pub fn open(family: Family) -> Result<Socket, Error> {
        Self::try_open(family).map_err(|e| Error::Open(e.into()))
    }

    fn try_open(family: Family) -> Result<Socket, Errno> {
        let protocol = match family {
            Family::Route => None, // NETLINK_ROUTE is protocol 0
            Family::Netfilter => Some(netlink::NETFILTER),
            Family::Diagnosis => Some(netlink::SOCK_DIAG),
        };
        let fd = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        net::bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        let port = SocketAddrNetlink::try_from(net::getsockname(&fd)?)?.pid();
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(PATIENCE))?;
        // Absence of either only costs detail in error messages.
        let _ = set_option(fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1);
        let _ = set_option(fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1);
        let _ = set_option(fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_GET_STRICT_CHK, 1);
        let send_limit = sockopt::socket_send_buffer_size(&fd)? / 2;
        Ok(Socket { fd, port, next: 1, buffer: vec![0; PACKET], send_limit })
    }

    /// The number under which the kernel knows this socket; events that it caused bear it.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Sends messages that all ask for an acknowledgement (`NLM_F_ACK`); returns one answer per message.
    ///
    /// # Errors
    /// Only when the conversation fails; a refused message is in its answer.
    pub fn transact(&mut self, messages: &Messages) -> Result<Vec<Result<(), Refusal>>, Error> {
        let mut answers = Vec::with_capacity(messages.len());
        for chunk in messages.starts.chunks(CHUNK) {
            let (from, to) = (chunk[0], chunk[0] + span(messages, chunk));
            let part = Messages {
                bytes: messages.bytes[from..to].to_vec(),
                starts: chunk.iter().map(|s| s - from).collect(),
            };
            let first = self.send(part)?;
            let mut part_answers: Vec<Option<Result<(), Refusal>>> = vec![None; chunk.len()];
            let mut missing = chunk.len();
            while missing > 0 {
                self.receive(|message| {
                    let index = message.sequence.wrapping_sub(first) as usize;
                    if message.kind == ERROR
                        && let Some(slot @ None) = part_answers.get_mut(index)
                    {
                        *slot = Some(verdict(&message));
                        missing -= 1;
                    }
                })?;
            }
            answers.extend(part_answers.into_iter().flatten());
        }
        Ok(answers)
    }

    /// Sends one request and hands each message of the answer to `each` until the kernel says that it is done.
    /// Dumps that the kernel marks as interrupted are begun anew: `restart` must forget what `each` has gathered.
    ///
    /// # Errors
    /// The conversation's, [`Error::Refused`] if the kernel refused, [`Error::Interrupted`] if the
    /// tables did not hold still.
    pub fn dump<T: Default>(
        &mut self,
        request: &Messages,
        mut each: impl FnMut(&mut T, &Message<'_>),
    ) -> Result<T, Error> {
        let deadline = Instant::now() + RESTLESS;
        while Instant::now() < deadline {
            let mut gathered = T::default();
            let first = self.send(request.clone())?;
            let (mut done, mut interrupted, mut refused) = (false, false, None);
            while !done {
                self.receive(|message| {
                    if message.sequence != first {
                        return; // an answer to an earlier request that was given up
                    }
                    interrupted |= message.flags & DUMP_INTERRUPTED != 0;
                    match message.kind {
                        ERROR => {
                            done = true;
                            refused = verdict(&message).err();
                        }
                        DONE => {
                            done = true;
                            refused = errno(&message).map(|errno| Refusal { errno, reason: None });
                        }
                        _ => each(&mut gathered, &message),
                    }
                })?;
            }
            match refused {
                // An earlier answer was given up in its middle (linux/netlink `cb_running`): the rest of it first.
                Some(refusal) if refusal.errno == libc::EBUSY => self.drain(),
                Some(refusal) if refusal.errno != libc::EINTR => return Err(Error::Refused(refusal)),
                None if !interrupted => return Ok(gathered),
                _ => {}
            }
        }
        Err(Error::Interrupted)
    }

    /// Sends messages as they are, numbered; returns the first one's number.
    ///
    /// # Errors
    /// [`Error::Send`].
    pub fn send(&mut self, mut messages: Messages) -> Result<u32, Error> {
        let first = self.next;
        self.next = self.next.wrapping_add(u32::try_from(messages.len()).unwrap_or(u32::MAX)).max(1);
        messages.number(first);
        let bytes = messages.size();
        if bytes > self.send_limit {
            // A netlink message is one buffer: it must fit the socket's send buffer whole.
            let wanted = i32::try_from(bytes.saturating_mul(2)).unwrap_or(i32::MAX);
            let _ = set_option(self.fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, wanted);
            self.send_limit = bytes;
        }
        rustix::io::retry_on_intr(|| net::send(&self.fd, &messages.bytes, SendFlags::empty()))
            .map_err(|e| Error::Send { bytes, source: e.into() })?;
        Ok(first)
    }

    /// Waits for one packet and hands over the messages in it.
    ///
    /// # Errors
    /// [`Error::Receive`], also when nothing came for ten seconds.
    pub fn receive(&mut self, mut each: impl FnMut(Message<'_>)) -> Result<(), Error> {
        let (filled, whole) =
            rustix::io::retry_on_intr(|| net::recv(&self.fd, &mut self.buffer[..], RecvFlags::TRUNC))
                .map_err(|e| Error::Receive(e.into()))?;
        if whole > filled {
            return Err(Error::Receive(Errno::MSGSIZE.into()));
        }
        Message::split(&self.buffer[..filled]).for_each(&mut each);
        Ok(())
    }

    /// Throws away what has come. A socket that was once too full takes nothing more until it is empty.
    pub fn drain(&mut self) {
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        loop {
            match net::recv(&self.fd, &mut self.buffer[..], flags) {
                Ok(_) | Err(Errno::INTR | Errno::NOBUFS) => {}
                Err(_) => return,
            }
        }
    }

    /// Subscribes to a multicast group (`RTNLGRP_*`, `NFNLGRP_*`).
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn join(&self, group: u32) -> Result<(), Error> {
        let group = i32::try_from(group).unwrap_or(i32::MAX);
        set_option(self.fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group)
            .map_err(|e| Error::Open(e.into()))
    }

    /// Makes the receive buffer `bytes` large, so that bursts of events fit.
    pub fn widen(&self, bytes: i32) {
        let _ = set_option(self.fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// How many bytes the messages that begin at `chunk` have.
fn span(messages: &Messages, chunk: &[usize]) -> usize {
    let last = chunk[chunk.len() - 1];
    let length = &messages.bytes[last..last + 4];
    let length = u32::from_ne_bytes([length[0], length[1], length[2], length[3]]) as usize;
    last + length.next_multiple_of(4) - chunk[0]
}

/// What an acknowledgement says (`nlmsgerr`: errno, the request's header, extended attributes).
pub(crate) fn verdict(message: &Message<'_>) -> Result<(), Refusal> {
    let Some(errno) = errno(message) else { return Ok(()) };
    let reason = (message.flags & ACK_TLVS != 0).then(|| {
        let request = message.payload.get(4..8).and_then(|l| l.try_into().ok()).map_or(0, u32::from_ne_bytes);
        let echoed =
            if message.flags & ACK_CAPPED != 0 { HEADER } else { (request as usize).next_multiple_of(4) };
        let tlvs = message.payload.get(4 + echoed..).unwrap_or_default();
        find(tlvs, 1).and_then(|a| a.text()).map(str::to_owned) // NLMSGERR_ATTR_MSG
    });
    Err(Refusal { errno, reason: reason.flatten() })
}

fn errno(message: &Message<'_>) -> Option<i32> {
    let code = i32::from_ne_bytes(message.structure::<4>()?);
    (code != 0).then(|| code.saturating_neg())
}

/// `setsockopt` with an integer.
fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> Result<(), Errno> {
    let size = libc::socklen_t::try_from(size_of::<i32>()).expect("4 fits");
    // SAFETY: `value` lives through the call and `size` is its size; the kernel only reads it.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    if result == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
    }
}
