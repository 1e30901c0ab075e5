//! bpf(2): maps, programs, links, and the names under which they outlive whoever made them.
//!
//! Each command takes a structure of its own out of the union `bpf_attr`; they are written here as bytes, at the
//! places that linux/bpf.h gives them.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketType};

const OBJ_PIN: i32 = 6;
const OBJ_GET: i32 = 7;

const SO_NETNS_COOKIE: i32 = 71; // linux/socket.h, since Linux 5.14
const BPF_FS_MAGIC: u64 = 0xcafe_4a11; // linux/magic.h

/// A command of bpf(2) failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A map could not be made.
    #[error("failed to make the BPF map {name}")]
    Map {
        /// Its name.
        name: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An element could not be read, written or deleted.
    #[error("failed to {what} an element of a BPF map")]
    Element {
        /// What was to be done.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel did not take a program.
    #[error("the kernel refused the BPF program {name}{}", verifier(log))]
    Program {
        /// Its name.
        name: &'static str,
        /// The verifier's last words.
        log: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program could not be attached.
    #[error("failed to attach the BPF program to {to}")]
    Attach {
        /// The cgroup.
        to: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something could not be given a name, or found under one.
    #[error("failed to {what} {path}")]
    Pin {
        /// What was to be done.
        what: &'static str,
        /// The name.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel has no number for the namespace (Linux before 5.14).
    #[error("failed to ask for the network namespace's number")]
    Cookie(#[source] io::Error),
}

fn verifier(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!(" ({log})") }
}

/// The structure of one command.
pub(super) struct Attributes([u64; 18]);

impl Attributes {
    pub(super) fn new() -> Attributes {
        Attributes([0; 18])
    }

    pub(super) fn word(mut self, at: usize, value: u32) -> Attributes {
        let mut bytes = self.0[at / 8].to_ne_bytes();
        bytes[at % 8..at % 8 + 4].copy_from_slice(&value.to_ne_bytes());
        self.0[at / 8] = u64::from_ne_bytes(bytes);
        self
    }

    pub(super) fn double(mut self, at: usize, value: u64) -> Attributes {
        self.0[at / 8] = value;
        self
    }

    pub(super) fn pointer<T>(self, at: usize, to: *const T) -> Attributes {
        self.double(at, to.addr() as u64)
    }

    /// At most 15 bytes of a name.
    pub(super) fn name(mut self, at: usize, name: &str) -> Attributes {
        let mut bytes = [0_u8; 16];
        let length = name.len().min(15);
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        for (index, half) in bytes.chunks_exact(8).enumerate() {
            // `at` is 28 or 48: names begin at a multiple of 4, not of 8.
            let at = at + index * 8;
            let word = |from: usize| {
                u32::from_ne_bytes([half[from], half[from + 1], half[from + 2], half[from + 3]])
            };
            self = self.word(at, word(0)).word(at + 4, word(4));
        }
        self
    }
}

/// Calls bpf(2).
///
/// # Safety
/// Every address in `attributes` must be valid for what `command` reads or writes there.
pub(super) unsafe fn bpf(command: i32, attributes: &Attributes) -> io::Result<i64> {
    let size = size_of::<Attributes>();
    // SAFETY: the kernel reads `size` bytes of the structure, which lives through the call; what addresses in it
    // point to is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.0.as_ptr(), size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Takes hold of a descriptor that bpf(2) has returned.
pub(super) fn descriptor(result: i64) -> io::Result<OwnedFd> {
    let fd = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: bpf(2) has just opened it for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn raw(fd: &impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd().cast_unsigned()
}

/// Something that can bear a name in the BPF file system and lives as long as that is there.
pub trait Object: Sized {
    /// Its descriptor.
    fn fd(&self) -> &OwnedFd;

    /// Gives it a name.
    ///
    /// # Errors
    /// [`Error::Pin`].
    fn pin(&self, path: &Path) -> Result<(), Error> {
        let fail = |source| Error::Pin { what: "pin a BPF object to", path: path.to_owned(), source };
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|e| fail(e.into()))?;
        let attributes = Attributes::new().pointer(0, name.as_ptr()).word(8, raw(self.fd()));
        // SAFETY: `name` ends with NUL and lives through the call.
        unsafe { bpf(OBJ_PIN, &attributes) }.map(|_| ()).map_err(fail)
    }
}

/// Finds what bears a name; `None` if nothing does.
pub(super) fn pinned(path: &Path) -> Result<Option<OwnedFd>, Error> {
    let fail = |source| Error::Pin { what: "open the BPF object", path: path.to_owned(), source };
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|e| fail(e.into()))?;
    let attributes = Attributes::new().pointer(0, name.as_ptr());
    // SAFETY: `name` ends with NUL and lives through the call.
    match unsafe { bpf(OBJ_GET, &attributes) }.and_then(descriptor) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fail(error)),
    }
}

/// Whether a folder is in a BPF file system, where names for BPF objects can be.
#[must_use]
pub fn is_bpf_filesystem(folder: &Path) -> bool {
    rustix::fs::statfs(folder).is_ok_and(|fs| u64::try_from(fs.f_type).ok() == Some(BPF_FS_MAGIC))
}

/// The number of the calling thread's network namespace, as programs see it.
///
/// # Errors
/// [`Error::Cookie`].
pub fn netns_cookie() -> Result<u64, Error> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None);
    let socket = socket.map_err(|e| Error::Cookie(e.into()))?;
    let mut cookie = 0_u64;
    let mut size = libc::socklen_t::try_from(size_of::<u64>()).expect("8 fits");
    let into = (&raw mut cookie).cast();
    // SAFETY: the kernel writes at most `size` bytes into `cookie`, all of whose values are valid.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, into, &raw mut size)
    };
    if result == 0 { Ok(cookie) } else { Err(Error::Cookie(io::Error::last_os_error())) }
}
