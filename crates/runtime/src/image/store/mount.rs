//! A container's root file system: an image's layers below, a folder of its own on top, joined by overlayfs
//! (Documentation/filesystems/overlayfs.rst).

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount, unmount,
};

use super::{Image, Record, Store, StoreError, private_folder};
use crate::image::{Progress, Quiet};

/// The parts of a container's root file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rootfs {
    /// The layers' folders, the topmost first.
    pub lowerdirs: Vec<PathBuf>,
    /// What the container writes.
    pub upperdir: PathBuf,
    /// What overlayfs needs for itself.
    pub workdir: PathBuf,
    /// Where all of it is seen as one.
    pub merged: PathBuf,
    /// Whether device nodes in it can be opened.
    devices: bool,
}

impl Store {
    /// Leases the image to the container whose folder this is, and mounts its root file system at `merged` there,
    /// in the mount namespace of the calling thread. `volatile` is for what need not survive a crash of the host:
    /// without it unmounting writes all of it to the disk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn mount(&self, image: &Image, container: &Path, volatile: bool) -> Result<Rootfs, StoreError> {
        let rootfs = self.prepare(image, container)?;
        rootfs.attach(volatile)?;
        Ok(rootfs)
    }

    /// The same without mounting. Layers that are not unpacked are unpacked.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn prepare(&self, image: &Image, container: &Path) -> Result<Rootfs, StoreError> {
        self.hold_for(container, image)?;
        let records = self.stack(image, &Quiet)?;
        let mut lowerdirs = Vec::new();
        for record in records.iter().rev() {
            lowerdirs.push(self.layer(&record.chain_id).join("diff"));
            if record.opaque {
                break; // overlayfs does not look for this mark at a root
            }
        }
        let folder = |name: &str| container.join(name);
        let rootfs = Rootfs {
            lowerdirs,
            upperdir: folder("upper"),
            workdir: folder("work"),
            merged: folder("merged"),
            devices: self.policy.devices,
        };
        for path in [&rootfs.upperdir, &rootfs.workdir, &rootfs.merged] {
            private_folder(path, true)?;
        }
        match rootfs.lowerdirs.first() {
            Some(top) => as_in(top, &rootfs.upperdir)?,
            None => {
                // An image without layers: overlayfs wants something below.
                private_folder(&folder("empty"), true)?;
                fs::set_permissions(&rootfs.upperdir, fs::Permissions::from_mode(0o755))
                    .map_err(|source| StoreError::io("set the mode of", &rootfs.upperdir, source))?;
                return Ok(Rootfs { lowerdirs: vec![folder("empty")], ..rootfs });
            }
        }
        Ok(rootfs)
    }

    /// Where the layers of an image are, or will be, the topmost first.
    #[must_use]
    pub fn lowerdirs(&self, image: &Image) -> Vec<PathBuf> {
        image.layers.iter().rev().map(|layer| self.layer(&layer.chain_id).join("diff")).collect()
    }

    /// All layers of an image, unpacked, the lowest first.
    pub(crate) fn stack(&self, image: &Image, progress: &dyn Progress) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::with_capacity(image.layers.len());
        for layer in &image.layers {
            let record = self.unpacked(layer, &records, progress)?;
            records.push(record);
        }
        Ok(records)
    }
}

impl Rootfs {
    /// A plain folder of the host as the only layer below; devices in it are the host's and can be opened.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn over(lower: &Path, container: &Path) -> Result<Rootfs, StoreError> {
        let folder = |name: &str| container.join(name);
        let rootfs = Rootfs {
            lowerdirs: vec![lower.to_owned()],
            upperdir: folder("upper"),
            workdir: folder("work"),
            merged: folder("merged"),
            devices: true,
        };
        for path in [&rootfs.upperdir, &rootfs.workdir, &rootfs.merged] {
            private_folder(path, true)?;
        }
        as_in(lower, &rootfs.upperdir)?;
        Ok(rootfs)
    }
}

/// These would begin another layer or option.
fn plain<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), StoreError> {
    let special = |path: &&PathBuf| path.as_os_str().as_bytes().iter().any(|b| b":,\\".contains(b));
    match paths.into_iter().find(special) {
        None => Ok(()),
        Some(path) => {
            let why = "overlayfs cannot take a path with ':', ',' or '\\' in it";
            Err(StoreError::Unsafe { path: path.clone(), why })
        }
    }
}

/// The root of what is merged is the upper folder's: it must not hide that of the image.
fn as_in(model: &Path, folder: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::io("set owner and mode of", folder, source);
    let meta = fs::metadata(model).map_err(failed)?;
    std::os::unix::fs::chown(folder, Some(meta.uid()), Some(meta.gid())).map_err(failed)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(meta.mode() & 0o7777)).map_err(failed)
}

impl Rootfs {
    /// Mounts it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn attach(&self, volatile: bool) -> Result<(), StoreError> {
        let failed = |source| StoreError::Mount { what: "mount", path: self.merged.clone(), source };
        plain([&self.upperdir, &self.workdir])?;
        match self.attach_by_parts(volatile) {
            // Before Linux 6.7 a layer cannot be named by itself; and no word may have more than 255 bytes.
            Err(Errno::INVAL | Errno::NOSYS | Errno::TOOBIG) => {
                plain(&self.lowerdirs)?;
                self.attach_by_line(volatile).map_err(failed)
            }
            other => other.map_err(|errno| failed(errno.into())),
        }
    }

    fn attach_by_parts(&self, volatile: bool) -> Result<(), Errno> {
        let too_long = |path: &&PathBuf| path.as_os_str().len() > 255;
        if self.lowerdirs.iter().chain([&self.upperdir, &self.workdir]).any(|path| too_long(&path)) {
            return Err(Errno::TOOBIG);
        }
        let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&overlay, "source", "weft")?;
        for layer in &self.lowerdirs {
            fsconfig_set_string(&overlay, "lowerdir+", layer)?;
        }
        fsconfig_set_string(&overlay, "upperdir", &self.upperdir)?;
        fsconfig_set_string(&overlay, "workdir", &self.workdir)?;
        if volatile {
            fsconfig_set_flag(&overlay, "volatile")?;
        }
        fsconfig_create(&overlay)?;
        let attributes =
            if self.devices { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_NODEV };
        let mounted = fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        move_mount(&mounted, "", CWD, &self.merged, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
    }

    /// The older way: everything in one line, which has a page's length. Layers that do not fit are named by open
    /// files.
    fn attach_by_line(&self, volatile: bool) -> io::Result<()> {
        let line = |layers: Vec<String>| {
            let (upper, work) = (self.upperdir.display(), self.workdir.display());
            let volatile = if volatile { ",volatile" } else { "" };
            format!("lowerdir={},upperdir={upper},workdir={work}{volatile}", layers.join(":"))
        };
        let mut options = line(self.lowerdirs.iter().map(|p| p.display().to_string()).collect());
        let mut open = Vec::new();
        if options.len() > 4095 {
            for layer in &self.lowerdirs {
                open.push(fs::File::open(layer)?);
            }
            let name = |file: &fs::File| format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
            options = line(open.iter().map(name).collect());
        }
        let flags = if self.devices { MountFlags::empty() } else { MountFlags::NODEV };
        let options = std::ffi::CString::new(options)?;
        mount("weft", &self.merged, "overlay", flags, options.as_c_str()).map_err(Into::into)
    }

    /// Takes the mount away; that there is none is no error. With `lazy` one that is busy vanishes from sight and
    /// ends with its last user.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn detach(&self, lazy: bool) -> Result<(), StoreError> {
        let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
        match unmount(&self.merged, flags | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
            Err(errno) => {
                Err(StoreError::Mount { what: "unmount", path: self.merged.clone(), source: errno.into() })
            }
        }
    }
}
