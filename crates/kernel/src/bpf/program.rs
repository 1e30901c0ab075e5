//! Programs, and their ties to the places where they are called.

use std::os::fd::OwnedFd;
use std::path::Path;

use super::syscall::{Attributes, Error, Object, bpf, descriptor, pinned, raw};

const PROG_LOAD: i32 = 5;
const GET_INFO: i32 = 15; // BPF_OBJ_GET_INFO_BY_FD
const LINK_CREATE: i32 = 28;
const CGROUP_LINK: u32 = 3; // BPF_LINK_TYPE_CGROUP
const CGROUP_SOCK_ADDR: u32 = 18; // BPF_PROG_TYPE_CGROUP_SOCK_ADDR

/// Where in a cgroup a program is called (linux/bpf.h `bpf_attach_type`): for each, IPv4 and IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachType {
    /// connect(2) of an IPv4 socket.
    Connect4 = 10,
    /// connect(2) of an IPv6 socket.
    Connect6 = 11,
    /// sendmsg(2) of a UDP socket with a destination, IPv4.
    Send4 = 14,
    /// The same, IPv6.
    Send6 = 15,
    /// recvmsg(2) of a UDP socket that asks for the source, IPv4.
    Receive4 = 19,
    /// The same, IPv6.
    Receive6 = 20,
    /// getpeername(2), IPv4.
    Peer4 = 29,
    /// getpeername(2), IPv6.
    Peer6 = 30,
}

/// A program that the kernel has taken.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
    at: AttachType,
}

/// A program's tie to a cgroup: it is called as long as this, or a name for it, is there.
#[derive(Debug)]
pub struct Link {
    fd: OwnedFd,
}

impl Object for Link {
    fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

impl Program {
    /// Hands a program about sockets' addresses to the kernel.
    ///
    /// # Errors
    /// [`Error::Program`] with the verifier's words.
    pub fn load(name: &'static str, at: AttachType, code: &[u64]) -> Result<Program, Error> {
        let load = |log: Option<&mut [u8]>| {
            let mut attributes = Attributes::new()
                .word(0, CGROUP_SOCK_ADDR)
                .word(4, u32::try_from(code.len()).unwrap_or(u32::MAX))
                .pointer(8, code.as_ptr())
                .pointer(16, c"Apache-2.0".as_ptr())
                .name(48, name)
                .word(68, at as u32);
            if let Some(log) = log {
                let size = u32::try_from(log.len()).unwrap_or(u32::MAX);
                attributes = attributes.word(24, 1).word(28, size).pointer(32, log.as_mut_ptr());
            }
            // SAFETY: code, licence and log live through the call; the kernel writes at most the log's size.
            unsafe { bpf(PROG_LOAD, &attributes) }.and_then(descriptor)
        };
        match load(None) {
            Ok(fd) => Ok(Program { fd, at }),
            Err(source) => {
                let mut log = vec![0; 64 << 10];
                let _ = load(Some(&mut log));
                Err(Error::Program { name, log: last_words(&log), source })
            }
        }
    }

    /// Has it called for the processes of a cgroup (version 2) and those below.
    ///
    /// # Errors
    /// [`Error::Attach`].
    pub fn attach(&self, cgroup: &Path) -> Result<Link, Error> {
        let fail = |source| Error::Attach { to: cgroup.to_owned(), source };
        let folder = std::fs::File::open(cgroup).map_err(fail)?;
        let attributes =
            Attributes::new().word(0, raw(&self.fd)).word(4, raw(&folder)).word(8, self.at as u32);
        // SAFETY: there is no address in it.
        let fd = unsafe { bpf(LINK_CREATE, &attributes) }.and_then(descriptor);
        fd.map(|fd| Link { fd }).map_err(fail)
    }
}

/// The last two lines of a verifier's log but for its statistics.
fn last_words(log: &[u8]) -> String {
    let end = log.iter().position(|b| *b == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    let said: Vec<&str> = text.lines().filter(|l| !l.is_empty() && !l.starts_with("processed ")).collect();
    said[said.len().saturating_sub(2)..].join("; ")
}

/// The number of the cgroup for whose processes the program of a link is called; `None` if no link bears this name, or
/// another hand has cut it off: then the name is left, and the program is never called.
///
/// # Errors
/// [`Error::Pin`].
pub fn attached_to(path: &Path) -> Result<Option<u64>, Error> {
    let Some(link) = pinned(path)? else { return Ok(None) };
    // `struct bpf_link_info`: type, number, program's number, a gap, then for a cgroup its number.
    let mut info = [0_u64; 4];
    let size = u32::try_from(size_of_val(&info)).unwrap_or(0);
    let attributes = Attributes::new().word(0, raw(&link)).word(4, size).pointer(8, info.as_mut_ptr());
    // SAFETY: the kernel writes at most `size` bytes into `info`, which lives through the call.
    let asked = unsafe { bpf(GET_INFO, &attributes) };
    asked.map_err(|source| Error::Pin { what: "ask about the BPF link", path: path.to_owned(), source })?;
    let kind = info[0].to_ne_bytes();
    let is_cgroup = kind[..4] == CGROUP_LINK.to_ne_bytes();
    Ok(Some(info[2]).filter(|number| is_cgroup && *number != 0))
}
