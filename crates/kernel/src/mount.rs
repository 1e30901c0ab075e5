//! What of the new mount API rustix does not have yet, and a program that cannot be written to.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::mount::{OpenTreeFlags, open_tree};

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const RDONLY: u64 = 0x1;
const IDMAP: u64 = 0x10_0000;

/// Makes a mount read-only, with all below it; `mount` is its root, such as `open_tree` gives (Linux 5.12).
///
/// # Errors
/// The kernel's.
pub fn read_only(mount: impl AsFd) -> io::Result<()> {
    let attributes = Attributes { set: RDONLY, clear: 0, propagation: 0, user_namespace: 0 };
    change(mount, &attributes, libc::AT_RECURSIVE)
}

/// Lets a mount that is nowhere yet show its files with the owners that they have in a user namespace: what the file
/// system has as 0 is there whoever is 0 in that namespace (Documentation/filesystems/idmappings.rst; Linux 5.12).
///
/// # Errors
/// The kernel's: `EINVAL` if the file system cannot be shown so, or the kernel knows nothing of it.
pub fn idmapped(mount: impl AsFd, user_namespace: impl AsFd) -> io::Result<()> {
    let namespace = u64::try_from(user_namespace.as_fd().as_raw_fd()).expect("descriptors are not negative");
    change(mount, &Attributes { set: IDMAP, clear: 0, propagation: 0, user_namespace: namespace }, 0)
}

fn change(mount: impl AsFd, attributes: &Attributes, flags: i32) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | flags;
    let fd = mount.as_fd().as_raw_fd();
    let size = size_of::<Attributes>();
    // SAFETY: the path is an empty string; the kernel reads `size` bytes of `attributes`.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), flags, std::ptr::from_ref(attributes), size)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// This program in a form that nobody can write to, not even root in a container that it starts
/// (CVE-2019-5736): executed by [`path`](Sealed::path), `/proc/self/exe` leads to a read-only mount of which the
/// file is the root, or to sealed memory.
#[derive(Debug)]
pub struct Sealed(OwnedFd);

impl Sealed {
    /// Seals the program that is running.
    ///
    /// # Errors
    /// If neither way works.
    pub fn of_self() -> io::Result<Sealed> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = open_tree(rustix::fs::CWD, "/proc/self/exe", flags);
        let sealed = mount.map_err(io::Error::from).and_then(|mount| read_only(&mount).map(|()| mount));
        Ok(Sealed(sealed.or_else(|_| copy())?))
    }

    /// Where it can be executed, as long as this value lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// A copy in memory that cannot be changed: for Linux before 5.12, and programs on mounts that cannot be cloned.
fn copy() -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = std::fs::File::from(memfd_create("weft", flags)?);
    io::copy(&mut std::fs::File::open("/proc/self/exe")?, &mut copy)?;
    fcntl_add_seals(&copy, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_program_cannot_be_written() {
        for sealed in [Sealed::of_self().unwrap(), Sealed(copy().unwrap())] {
            let opened = std::fs::File::options().write(true).open(sealed.path());
            // The memory opens, and then takes nothing.
            let written = opened.and_then(|mut file| io::Write::write_all(&mut file, b"#!"));
            assert!(written.is_err());
            assert!(std::fs::read(sealed.path()).unwrap().starts_with(b"\x7fELF"));
        }
    }
}
