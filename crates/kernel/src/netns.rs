//! Network namespaces: open, enter, make, and start programs in one.
//!
//! A namespace belongs to a thread. [`Netns::enter`] moves the calling thread and its guard moves it
//! back; sockets stay in the namespace in which they were opened.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A failure around a namespace.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened.
    #[error("failed to open the network namespace {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is something else.
    #[error("{path} is not a network namespace")]
    NotANamespace {
        /// The file.
        path: PathBuf,
    },
    /// The thread could not change its namespace.
    #[error("failed to enter the network namespace")]
    Enter(#[source] io::Error),
    /// A namespace could not be made.
    #[error("failed to make the network namespace {path}")]
    Create {
        /// Where it was to be mounted.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A namespace could not be unmounted.
    #[error("failed to remove the network namespace {path}")]
    Remove {
        /// Where it is mounted.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// An open network namespace. It lives at least as long as this value.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    inode: u64,
}

const NSFS_MAGIC: u64 = 0x6e73_6673; // linux/magic.h
const NS_GET_NSTYPE: libc::Ioctl = 0xb703; // linux/nsfs.h, _IO(0xb7, 0x3)

impl Netns {
    /// Opens the namespace whose file is `path`; refuses any other kind of file.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::NotANamespace`].
    pub fn open(path: &Path) -> Result<Netns, Error> {
        let open = |source: rustix::io::Errno| Error::Open { path: path.to_owned(), source: source.into() };
        // NONBLOCK: a fifo under that name must not hang the caller.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(open)?;
        let magic = rustix::fs::fstatfs(&fd).map_err(open)?.f_type;
        if u64::try_from(magic).ok() != Some(NSFS_MAGIC) || !is_network(fd.as_fd()) {
            return Err(Error::NotANamespace { path: path.to_owned() });
        }
        let inode = rustix::fs::fstat(&fd).map_err(open)?.st_ino;
        Ok(Netns { fd, inode })
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn current() -> Result<Netns, Error> {
        // Not /proc/self: that is the thread leader's.
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// The namespace's inode on nsfs: two open files are the same namespace exactly if these are equal.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Moves the calling thread into this namespace until the guard is dropped.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::Enter`] (`CAP_SYS_ADMIN` is needed).
    pub fn enter(&self) -> Result<Entered, Error> {
        let home = Netns::current()?;
        if home.inode == self.inode {
            return Ok(Entered { home: None, _thread: PhantomData });
        }
        go(self.fd.as_fd())?;
        Ok(Entered { home: Some(home), _thread: PhantomData })
    }

    /// Runs `work` with the calling thread in this namespace.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> Result<T, Error> {
        let _inside = self.enter()?;
        Ok(work())
    }

    /// Makes a namespace that lives as long as something refers to it, with nothing but a loopback that is down.
    ///
    /// # Errors
    /// [`Error::Create`].
    pub fn anonymous() -> Result<Netns, Error> {
        let create = |source| Error::Create { path: "(anonymous)".into(), source };
        // A thread of its own: `unshare` cannot be undone where /proc is not readable afterwards.
        std::thread::spawn(move || {
            unshare(libc::CLONE_NEWNET).map_err(create)?;
            Netns::current()
        })
        .join()
        .unwrap_or_else(|_| Err(create(io::ErrorKind::Other.into())))
    }

    /// Makes a namespace and mounts it at `path`, as `ip netns add` does.
    ///
    /// # Errors
    /// [`Error::Create`], also if `path` exists.
    pub fn create_at(path: &Path) -> Result<Netns, Error> {
        let netns = Netns::anonymous()?;
        netns.mount_at(path)?;
        Ok(netns)
    }

    /// Mounts this namespace at `path`, where it stays until [`remove_at`](Self::remove_at).
    ///
    /// # Errors
    /// [`Error::Create`], also if `path` exists.
    pub fn mount_at(&self, path: &Path) -> Result<(), Error> {
        let create = |source: io::Error| Error::Create { path: path.to_owned(), source };
        if path.parent() == Some(Path::new(NAMED)) {
            share(Path::new(NAMED)).map_err(create)?;
        }
        File::options().write(true).create_new(true).open(path).map_err(create)?;
        let source = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        rustix::mount::mount_bind(source.as_str(), path).map_err(|error| {
            let _ = std::fs::remove_file(path);
            create(error.into())
        })
    }

    /// Undoes [`create_at`](Self::create_at). Absence is success.
    ///
    /// # Errors
    /// [`Error::Remove`].
    pub fn remove_at(path: &Path) -> Result<(), Error> {
        let remove = |source: io::Error| Error::Remove { path: path.to_owned(), source };
        let _ = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH);
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(remove(error)),
            _ => Ok(()),
        }
    }

    /// Lets `command` start in this namespace.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let fd = self.fd.try_clone();
        // SAFETY: the closure runs between fork and exec; it only calls setns, which is safe there,
        // and reads a descriptor that it owns.
        unsafe {
            command.pre_exec(move || {
                let fd = fd.as_ref().map_err(|e| io::Error::from(e.kind()))?;
                if libc::setns(fd.as_raw_fd(), libc::CLONE_NEWNET) == 0 {
                    Ok(())
                } else {
                    Err(io::Error::last_os_error())
                }
            });
        }
        command
    }
}

/// Where `ip netns` looks for namespaces with names.
const NAMED: &str = "/run/netns";

/// Makes a folder a shared mount, as the first `ip netns add` does (iproute2, ip/ipnetns.c): if it came after ours, it would mount the
/// folder over what we have mounted in it, which nobody could take away then.
fn share(folder: &Path) -> io::Result<()> {
    use rustix::io::Errno;
    use rustix::mount::{MountPropagationFlags, mount_bind_recursive, mount_change};
    let shared = || mount_change(folder, MountPropagationFlags::SHARED | MountPropagationFlags::REC);
    match shared() {
        Err(Errno::INVAL) => mount_bind_recursive(folder, folder).and_then(|()| shared()).map_err(Into::into),
        other => other.map_err(Into::into),
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Keeps the thread in a namespace; dropping it brings the thread home.
///
/// Not `Send`: dropped on another thread it would move that one.
pub struct Entered {
    home: Option<Netns>,
    _thread: PhantomData<*mut ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            // A thread that cannot come home would work in a workload's namespace from here on:
            // ending the process is the safe answer, and its supervisor starts a fresh one.
            if go(home.fd.as_fd()).is_err() {
                std::process::abort();
            }
        }
    }
}

fn go(fd: BorrowedFd<'_>) -> Result<(), Error> {
    move_into_link_name_space(fd, Some(LinkNameSpaceType::Network)).map_err(|e| Error::Enter(e.into()))
}

/// Lets what `command` starts be killed when the *thread* that starts it ends, however it ends.
pub fn ends_with_thread(command: &mut Command) {
    // SAFETY: the closure runs between fork and exec; prctl is a bare system call, safe there.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        });
    }
}

/// Gives the calling thread namespaces of its own (`CLONE_NEWNET`, `CLONE_NEWNS`, …).
///
/// # Errors
/// The kernel's.
pub fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: only namespace flags are passed on; CLONE_FILES and CLONE_FS, which rustix marks
    // as unsafe for sharing descriptors between threads, are masked out.
    let result = unsafe { libc::unshare(flags & !(libc::CLONE_FILES | libc::CLONE_FS)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn is_network(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: NS_GET_NSTYPE takes no argument and only returns the kind.
    unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) == libc::CLONE_NEWNET }
}

/// The index of an interface in the calling thread's namespace.
#[must_use]
pub fn index_of(name: &str) -> Option<u32> {
    let name = CString::new(std::ffi::OsStr::new(name).as_bytes()).ok()?;
    // SAFETY: `name` is NUL-terminated and lives through the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// The name of an interface in the calling thread's namespace.
#[must_use]
pub fn name_of(index: u32) -> Option<String> {
    let mut name = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: the kernel writes at most IF_NAMESIZE bytes, which `name` has, the last of them NUL.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    let text = std::ffi::CStr::from_bytes_until_nul(&name).ok()?.to_str().ok()?;
    (!found.is_null()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_and_its_name_agree() {
        let other = Netns::anonymous().unwrap();
        other.run(|| assert_eq!(index_of("lo").and_then(name_of).as_deref(), Some("lo"))).unwrap();
        other.run(|| assert_eq!((index_of("eth0"), name_of(4711)), (None, None))).unwrap();
    }

    #[test]
    fn other_files_are_refused() {
        assert!(matches!(Netns::open(Path::new("/proc/self/ns/mnt")), Err(Error::NotANamespace { .. })));
        assert!(matches!(Netns::open(Path::new("/etc/passwd")), Err(Error::NotANamespace { .. })));
        assert!(matches!(Netns::open(Path::new("/nonexistent")), Err(Error::Open { .. })));
    }

    #[test]
    fn a_guard_brings_the_thread_home() {
        let home = Netns::current().unwrap();
        let other = Netns::anonymous().unwrap();
        assert_ne!(home.inode(), other.inode());
        other.run(|| assert_eq!(Netns::current().unwrap().inode(), other.inode())).unwrap();
        let panicked = std::panic::catch_unwind(|| other.run(|| panic!("inside")));
        assert!(panicked.is_err());
        assert_eq!(Netns::current().unwrap().inode(), home.inode());
    }

    #[test]
    fn a_program_starts_inside() {
        let other = Netns::anonymous().unwrap();
        let output = other.command("readlink").arg("/proc/self/ns/net").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), format!("net:[{}]", other.inode()));
    }
}
