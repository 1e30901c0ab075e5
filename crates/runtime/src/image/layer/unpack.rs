//! A layer's archive becomes a folder, or nothing.

use std::io::Read;
use std::path::Path;

use rustix::fs::FileType;

use super::entries::{Entries, Entry, Kind};
use super::tree::{Below, Tree};
use super::whiteout::Mark;
use super::{LayerError, decompress};
use crate::image::{Digest, Limits, Meter};

/// What is allowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy {
    /// How much of anything.
    pub limits: Limits,
    /// Whether device nodes are made outside `dev`. In `dev` they are left out in any case: containers get a
    /// `/dev` of their own.
    pub devices: bool,
}

/// What a layer has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// The digest of the archive, unpacked.
    pub diff_id: Digest,
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Device nodes that were left out.
    pub devices: u64,
    /// Extended attributes that were left out.
    pub attributes: u64,
    /// Whether everything below is hidden.
    pub opaque: bool,
}

/// Unpacks a layer into an empty folder. `below` are the folders of the layers below it, the topmost first, each
/// with whether it hides all that is below.
///
/// # Errors
/// [`LayerError`]. What has been written until then is in the folder; nothing is anywhere else.
pub fn unpack(
    archive: impl Read + Send,
    into: &Path,
    below: &[(&Path, bool)],
    policy: &Policy,
    meter: &dyn Meter,
) -> Result<Unpacked, LayerError> {
    let open = |(folder, opaque): &(&Path, bool)| {
        Below::open(folder, *opaque)
            .map_err(|e| LayerError::io("open", folder.as_os_str().as_encoded_bytes(), e))
    };
    let below = below.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let (unpacked, diff_id) = decompress(archive, &policy.limits, meter, |source| {
        let mut tree = Tree::new(into, &below, &policy.limits)?;
        let mut entries = Entries::new(source, &policy.limits);
        let mut done = Unpacked {
            diff_id: Digest::of(b""),
            entries: 0,
            bytes: 0,
            devices: 0,
            attributes: 0,
            opaque: false,
        };
        while let Some(entry) = entries.next()? {
            done.entries += 1;
            done.bytes += entry.size;
            put(&mut tree, &mut entries, &entry, policy, &mut done)?;
        }
        done.opaque = tree.opaque;
        tree.finish()?;
        Ok(done)
    })?;
    Ok(Unpacked { diff_id, ..unpacked })
}

fn put(
    tree: &mut Tree<'_>,
    entries: &mut Entries<'_>,
    entry: &Entry,
    policy: &Policy,
    done: &mut Unpacked,
) -> Result<(), LayerError> {
    let name = entry.path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    match Mark::of(name) {
        Mark::None => {}
        Mark::Opaque => return tree.opaque(entry),
        Mark::Gone(name) => return tree.gone(entry, name),
        Mark::Foreign => return Ok(()),
        Mark::Nonsense => {
            return Err(LayerError::entry(&entry.path, "it takes away something without a name"));
        }
    }
    if entry.path.is_empty() && entry.kind != Kind::Folder {
        return Err(LayerError::entry(b"./", "the root of a layer is a folder"));
    }
    match &entry.kind {
        Kind::Folder => done.attributes += tree.folder(entry)?,
        Kind::File => done.attributes += tree.file(entry, entries)?,
        Kind::Link(target) => tree.link(entry, target)?,
        Kind::Name(target) => tree.name(entry, target)?,
        Kind::Pipe => tree.special(entry, FileType::Fifo, 0)?,
        Kind::Device(..) if entry.path.starts_with(b"dev/") => done.devices += 1,
        Kind::Device(true, 0, 0) => {
            // To overlayfs it would be the mark of a name that is gone.
            return Err(LayerError::entry(
                &entry.path,
                "it is the device 0/0, with which overlayfs hides files",
            ));
        }
        Kind::Device(..) if !policy.devices => {
            let why = "it is a device node outside dev; allow such with --devices";
            return Err(LayerError::entry(&entry.path, why));
        }
        Kind::Device(character, major, minor) => {
            let kind = if *character { FileType::CharacterDevice } else { FileType::BlockDevice };
            tree.special(entry, kind, rustix::fs::makedev(*major, *minor))?;
        }
    }
    Ok(())
}
