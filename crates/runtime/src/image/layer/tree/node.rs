//! Making what an entry describes, with all that belongs to it.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::{Tree, kind, open_folder, split, stat, times};
use crate::image::layer::entries::{Entries, Entry};
use crate::image::layer::{LayerError, whiteout};

impl Tree<'_> {
    /// A folder. One that is there gets the entry's owner and mode and keeps its content.
    pub(crate) fn folder(&mut self, entry: &Entry) -> Result<u64, LayerError> {
        let failed = |error| LayerError::io("make the folder", &entry.path, error);
        let folder = if entry.path.is_empty() {
            self.root.try_clone().map_err(|e| LayerError::io("open", b"/", e))?
        } else {
            let (parent, name) = self.parent(&entry.path)?;
            match fs::mkdirat(&*parent, name, Mode::from_raw_mode(entry.mode & 0o777)) {
                Ok(()) => {}
                Err(Errno::EXIST)
                    if kind(&stat(parent.as_fd(), name).map_err(failed)?) == FileType::Directory => {}
                Err(Errno::EXIST) => {
                    let was_gone = self.clear(&parent, entry, name)?;
                    fs::mkdirat(&*parent, name, Mode::from_raw_mode(entry.mode & 0o777)).map_err(failed)?;
                    if was_gone {
                        // Taken away and made anew in one layer: nothing of the old one shines through.
                        let made = open_folder(&parent, name).map_err(failed)?;
                        whiteout::make_opaque(made.as_fd()).map_err(failed)?;
                    }
                }
                Err(error) => return Err(failed(error)),
            }
            open_folder(&parent, name).map_err(failed)?
        };
        own(&folder, entry)?;
        let left_out = attributes(&folder, entry)?;
        self.remember(&entry.path, entry.mtime)?;
        if !entry.path.is_empty() {
            // What stands in it most likely comes next.
            self.way.push((entry.path.clone(), Rc::new(folder)));
        }
        Ok(left_out)
    }

    /// A file, with its content.
    pub(crate) fn file(&mut self, entry: &Entry, entries: &mut Entries<'_>) -> Result<u64, LayerError> {
        let (parent, name) = self.parent(&entry.path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let open = || fs::openat(&*parent, name, flags, mode);
        let file = match open() {
            Err(Errno::EXIST) => {
                self.clear(&parent, entry, name)?;
                open()
            }
            other => other,
        };
        let file = file.map_err(|error| LayerError::io("make the file", &entry.path, error))?;
        entries.content(&mut |mut bytes| {
            while !bytes.is_empty() {
                match rustix::io::write(&file, bytes) {
                    Ok(count) => bytes = &bytes[count..],
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(LayerError::io("write the file", &entry.path, error)),
                }
            }
            Ok(())
        })?;
        own(&file, entry)?;
        let left_out = attributes(&file, entry)?;
        fs::futimens(&file, &times(entry.mtime))
            .map_err(|error| LayerError::io("set the time of", &entry.path, error))?;
        Ok(left_out)
    }

    /// A symbolic link. Its text is the image's business: it is followed inside a container, not here.
    pub(crate) fn link(&mut self, entry: &Entry, target: &[u8]) -> Result<(), LayerError> {
        self.place(entry, |parent, name| fs::symlinkat(target, parent, name))
    }

    /// A pipe or a device.
    pub(crate) fn special(&mut self, entry: &Entry, kind: FileType, device: u64) -> Result<(), LayerError> {
        self.place(entry, |parent, name| fs::mknodat(parent, name, kind, Mode::empty(), device))?;
        let (parent, name) = self.parent(&entry.path)?;
        fs::chmodat(&*parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
            .map_err(|error| LayerError::io("set the mode of", &entry.path, error))
    }

    /// Makes something that has no content and sets its owner and time.
    fn place(
        &mut self,
        entry: &Entry,
        make: impl Fn(&OwnedFd, &[u8]) -> Result<(), Errno>,
    ) -> Result<(), LayerError> {
        let failed = |error| LayerError::io("make", &entry.path, error);
        let (parent, name) = self.parent(&entry.path)?;
        match make(&parent, name) {
            Err(Errno::EXIST) => {
                self.clear(&parent, entry, name)?;
                make(&parent, name).map_err(failed)?;
            }
            other => other.map_err(failed)?,
        }
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        fs::chownat(&*parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        fs::utimensat(&*parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    /// Another name of a file of this layer.
    pub(crate) fn name(&mut self, entry: &Entry, target: &[u8]) -> Result<(), LayerError> {
        let failed = |error| LayerError::io("link", &entry.path, error);
        let absent = || LayerError::entry(&entry.path, "it is a hard link to what is not in the layer");
        let (folder, target_name) = split(target);
        let folder = self.open(folder).map_err(|_| absent())?;
        let there = stat(folder.as_fd(), target_name).map_err(|_| absent())?;
        if !matches!(kind(&there), FileType::RegularFile | FileType::Symlink | FileType::Fifo) {
            return Err(LayerError::entry(&entry.path, "it is a hard link to what cannot have two names"));
        }
        let (parent, name) = self.parent(&entry.path)?;
        let link = || fs::linkat(&*folder, target_name, &*parent, name, AtFlags::empty());
        match link() {
            Err(Errno::EXIST) => {
                let old = stat(parent.as_fd(), name).map_err(failed)?;
                if (old.st_dev, old.st_ino) == (there.st_dev, there.st_ino) {
                    return Ok(());
                }
                self.clear(&parent, entry, name)?;
                link().map_err(failed)
            }
            other => other.map_err(failed),
        }
    }

    /// `name` in the entry's folder is gone. What this layer itself put there stays, but hides what is below.
    pub(crate) fn gone(&mut self, entry: &Entry, name: &[u8]) -> Result<(), LayerError> {
        let failed = |error| LayerError::io("mark as gone", &entry.path, error);
        let (parent, _) = self.parent(&entry.path)?;
        match whiteout::make(parent.as_fd(), name) {
            Err(Errno::EXIST)
                if kind(&stat(parent.as_fd(), name).map_err(failed)?) == FileType::Directory =>
            {
                whiteout::make_opaque(open_folder(&parent, name).map_err(failed)?.as_fd()).map_err(failed)
            }
            Err(Errno::EXIST) => Ok(()),
            other => other.map_err(failed),
        }
    }

    /// The entry's folder hides what is below.
    pub(crate) fn opaque(&mut self, entry: &Entry) -> Result<(), LayerError> {
        let failed = |error| LayerError::io("mark as opaque the folder of", &entry.path, error);
        let (folder, _) = split(&entry.path);
        if folder.is_empty() {
            self.opaque = true;
            return Ok(());
        }
        let (fd, _) = self.parent(&entry.path)?;
        whiteout::make_opaque(open_folder(&fd, b".").map_err(failed)?.as_fd()).map_err(failed)
    }
}

/// Owner first: a change of owner takes setuid, setgid and capabilities away (chown(2)). Most files are born as they
/// shall be; asking costs a tenth of what each change costs the file system's journal.
fn own(fd: &OwnedFd, entry: &Entry) -> Result<(), LayerError> {
    let failed = |error| LayerError::io("set owner and mode of", &entry.path, error);
    let born = fs::fstat(fd).map_err(failed)?;
    let foreign = (born.st_uid, born.st_gid) != (entry.uid, entry.gid);
    if foreign {
        fs::fchown(fd, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid))).map_err(failed)?;
    }
    if foreign || born.st_mode & 0o7777 != entry.mode {
        fs::fchmod(fd, Mode::from_raw_mode(entry.mode)).map_err(failed)?;
    }
    Ok(())
}

/// Sets those extended attributes that an image may bring, and counts the others.
///
/// Never `trusted.*`: overlayfs believes what it says (`trusted.overlay.redirect` leads into other folders).
/// Not `security.selinux`, `security.ima` and the like: they are this host's.
fn attributes(fd: &OwnedFd, entry: &Entry) -> Result<u64, LayerError> {
    let mut left_out = 0;
    for (name, value) in &entry.xattrs {
        let users = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
        if !users && name != b"security.capability" {
            left_out += 1;
            continue;
        }
        match fs::fsetxattr(fd, &name[..], value, XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP) if users => left_out += 1, // tmpfs before Linux 6.6
            other => other.map_err(|error| LayerError::io("set an attribute of", &entry.path, error))?,
        }
    }
    Ok(left_out)
}
