//! How a layer says that something of the layers below is gone: in archives by names (OCI image specification,
//! layer.md, "Whiteouts"), in overlayfs by a character device 0/0 and by an attribute
//! (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").

use std::os::fd::BorrowedFd;

use rustix::fs::{self, AtFlags, FileType, Mode, Stat, XattrFlags};
use rustix::io::Errno;

/// What an entry's last name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark<'a> {
    /// Nothing of this kind.
    None,
    /// The folder that it stands in hides what lies below it.
    Opaque,
    /// This name is gone.
    Gone(&'a [u8]),
    /// What the file system AUFS kept for itself.
    Foreign,
    /// It takes away something that cannot be named.
    Nonsense,
}

impl Mark<'_> {
    pub(super) fn of(name: &[u8]) -> Mark<'_> {
        match name.strip_prefix(b".wh.") {
            None => Mark::None,
            Some(b".wh..opq") => Mark::Opaque,
            Some(rest) if rest.starts_with(b".wh.") => Mark::Foreign,
            Some(b"" | b"." | b"..") => Mark::Nonsense,
            Some(gone) => Mark::Gone(gone),
        }
    }
}

const OPAQUE: &str = "trusted.overlay.opaque";

/// Makes the mark of a name that is gone.
pub(super) fn make(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)
}

/// True of such a mark.
pub(super) fn is_mark(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// True if `name` in the folder is such a mark.
pub(super) fn is_marked(parent: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(is_mark(&stat)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Lets a folder hide what lies below it. Needs CAP_SYS_ADMIN.
pub(super) fn make_opaque(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    fs::fsetxattr(folder, OPAQUE, b"y", XattrFlags::empty())
}

/// True of a folder that hides what lies below it.
pub(super) fn is_opaque(folder: BorrowedFd<'_>) -> bool {
    let mut value = [0; 4];
    fs::fgetxattr(folder, OPAQUE, &mut value[..]).is_ok_and(|len| value[..len] == *b"y")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_what_they_mean() {
        for (name, mark) in [
            (&b"a"[..], Mark::None),
            (b".whx", Mark::None),
            (b".wh.a", Mark::Gone(b"a")),
            (b".wh.a.wh.", Mark::Gone(b"a.wh.")),
            (b".wh...", Mark::Nonsense),
            (b".wh..", Mark::Nonsense),
            (b".wh.", Mark::Nonsense),
            (b".wh..wh..opq", Mark::Opaque),
            (b".wh..wh.plnk", Mark::Foreign),
        ] {
            assert_eq!(Mark::of(name), mark, "{}", String::from_utf8_lossy(name));
        }
    }
}
