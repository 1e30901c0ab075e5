//! Archives made for a purpose, entry by entry, also such as no program would write.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use weft_runtime::image::{LayerError, Limits, Policy, Quiet, Unpacked, unpack};

/// An archive under construction.
#[derive(Clone, Default)]
pub(crate) struct Pack {
    bytes: Vec<u8>,
    pub(crate) mode: Option<u32>,
    pub(crate) owner: (u64, u64),
}

impl Pack {
    /// One entry with these raw fields.
    pub(crate) fn raw(mut self, kind: u8, path: &[u8], link: &[u8], size: u64, device: (u32, u32)) -> Pack {
        let mut header = tar::Header::new_gnu();
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..path.len().min(100)].copy_from_slice(&path[..path.len().min(100)]);
        gnu.linkname[..link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(self.mode.unwrap_or(if kind == b'5' { 0o755 } else { 0o644 }));
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_mtime(1_000_000_000);
        header.set_size(size);
        header.set_device_major(device.0).unwrap();
        header.set_device_minor(device.1).unwrap();
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self
    }

    fn content(mut self, content: &[u8]) -> Pack {
        self.bytes.extend_from_slice(content);
        let padded = self.bytes.len().next_multiple_of(512);
        self.bytes.resize(padded, 0);
        self
    }

    pub(crate) fn file(self, path: &str, content: &[u8]) -> Pack {
        self.raw(b'0', path.as_bytes(), b"", content.len() as u64, (0, 0)).content(content)
    }

    pub(crate) fn folder(self, path: &str) -> Pack {
        self.raw(b'5', path.as_bytes(), b"", 0, (0, 0))
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Pack {
        self.raw(b'2', path.as_bytes(), target.as_bytes(), 0, (0, 0))
    }

    pub(crate) fn name(self, path: &str, target: &str) -> Pack {
        self.raw(b'1', path.as_bytes(), target.as_bytes(), 0, (0, 0))
    }

    /// An extended header for the next entry.
    pub(crate) fn pax(self, pairs: &[(&str, &[u8])]) -> Pack {
        let mut text = Vec::new();
        for (key, value) in pairs {
            let rest = key.len() + value.len() + 3;
            let mut len = rest + 1;
            while len.to_string().len() + rest != len {
                len += 1;
            }
            text.extend_from_slice(format!("{len} {key}=").as_bytes());
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        self.raw(b'x', b"pax", b"", text.len() as u64, (0, 0)).content(&text)
    }

    pub(crate) fn mode(mut self, mode: u32) -> Pack {
        self.mode = Some(mode);
        self
    }

    pub(crate) fn owner(mut self, uid: u64, gid: u64) -> Pack {
        self.owner = (uid, gid);
        self
    }

    /// Without the two blocks of zeroes that end an archive.
    pub(crate) fn cut(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn done(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}

/// A folder with a layer's place in it, and beside it what must not change.
pub(crate) struct Ground {
    pub(crate) folder: tempfile::TempDir,
    before: BTreeMap<PathBuf, String>,
}

impl Ground {
    pub(crate) fn new() -> Ground {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("canary")).unwrap();
        fs::write(folder.path().join("canary/file"), "untouched").unwrap();
        fs::create_dir(folder.path().join("diff")).unwrap();
        let before = tree(&folder.path().join("canary"));
        Ground { folder, before }
    }

    pub(crate) fn diff(&self) -> PathBuf {
        self.folder.path().join("diff")
    }

    pub(crate) fn canary(&self) -> PathBuf {
        self.folder.path().join("canary")
    }

    pub(crate) fn unpack(&self, archive: &[u8]) -> Result<Unpacked, LayerError> {
        self.unpack_with(archive, &Policy::default())
    }

    pub(crate) fn unpack_with(&self, archive: &[u8], policy: &Policy) -> Result<Unpacked, LayerError> {
        unpack(archive, &self.diff(), &[], policy, &Quiet)
    }

    pub(crate) fn limited(&self, archive: &[u8], limits: Limits) -> Result<Unpacked, LayerError> {
        self.unpack_with(archive, &Policy { limits, devices: false })
    }

    /// Only the layer's own place may have changed.
    pub(crate) fn assert_untouched(&self) {
        assert_eq!(tree(&self.canary()), self.before);
        let mut names: Vec<_> =
            fs::read_dir(self.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["canary", "diff"]);
    }
}

/// Everything about a tree that a layer sets, by path.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let (mut open, mut found) = (vec![root.to_owned()], BTreeMap::new());
    let mut inodes: BTreeMap<u64, PathBuf> = BTreeMap::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let kind = meta.file_type();
            let what = if kind.is_dir() {
                open.push(path.clone());
                "folder".to_owned()
            } else if kind.is_symlink() {
                format!("link to {}", fs::read_link(&path).unwrap().display())
            } else if kind.is_file() {
                format!("file {:?}", String::from_utf8_lossy(&fs::read(&path).unwrap()))
            } else if kind.is_char_device() {
                format!("character device {}", meta.rdev())
            } else {
                "other".to_owned()
            };
            let name = path.strip_prefix(root).unwrap().to_owned();
            let shared = inodes.entry(meta.ino()).or_insert_with(|| name.clone()).clone();
            let shared = if meta.nlink() > 1 && !kind.is_dir() {
                format!(" links {}", meta.nlink())
            } else {
                drop(shared);
                String::new()
            };
            let mode = if kind.is_symlink() { 0 } else { meta.permissions().mode() };
            let time = (meta.mtime(), meta.mtime_nsec());
            found.insert(name, format!("{what} {mode:o} {}:{} {time:?}{shared}", meta.uid(), meta.gid()));
        }
    }
    found
}
