//! Reading and writing kernel settings below `/proc/sys`, in the calling thread's network namespace.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

use crate::state::Sysctl;

/// The setting's value without the trailing newline; `None` where the kernel has no such setting.
///
/// # Errors
/// Any other than absence.
pub fn read(key: &Sysctl) -> io::Result<Option<String>> {
    match fs::read_to_string(format!("/proc/sys/{}", key.path())) {
        Ok(value) => Ok(Some(value.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes settings of one namespace, and remembers the way: to find `/proc/sys/net` takes the longer the more
/// namespaces there are (see [`rtnl::settings`](crate::rtnl::settings)), and settings come by interface.
#[derive(Debug, Default)]
pub struct Writer {
    /// `/proc/sys/net` of the namespace of the first call.
    net: Option<OwnedFd>,
    /// The folder of the last setting.
    last: Option<(String, OwnedFd)>,
}

impl Writer {
    /// Writes a setting. Absence is success: a kernel without IPv6 has nothing to switch off.
    ///
    /// # Errors
    /// Any other than absence.
    pub fn write(&mut self, key: &Sysctl, value: &str) -> io::Result<()> {
        match self.try_write(key, value) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Forgets the last folder. To be called when its interface may have been replaced by another of its name.
    pub fn forget(&mut self) {
        self.last = None;
    }

    fn try_write(&mut self, key: &Sysctl, value: &str) -> io::Result<()> {
        let (folder, name) = key.path().rsplit_once('/').ok_or(io::ErrorKind::InvalidInput)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match &mut self.last {
            Some((known, fd)) if known == folder => fd,
            last => {
                let open = |path: &str| rustix::fs::open(path, flags, Mode::empty());
                let fd = match folder.strip_prefix("net/") {
                    Some(rest) => {
                        let net = match &mut self.net {
                            Some(net) => net,
                            none => none.insert(open("/proc/sys/net")?),
                        };
                        rustix::fs::openat(net, rest, flags, Mode::empty())?
                    }
                    None => open(&format!("/proc/sys/{folder}"))?,
                };
                &mut last.insert((folder.to_owned(), fd)).1
            }
        };
        // Neither created nor truncated, as `fs::write` would.
        let file = rustix::fs::openat(fd, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        fs::File::from(file).write_all(value.as_bytes())
    }
}
