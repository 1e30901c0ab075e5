//! What the layers below hold. Only read, and only for folders that a layer uses without describing them:
//! without this `usr/bin/new` alone would give `usr` another owner and mode.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::OPEN_FOLDER;
use crate::image::layer::whiteout;

/// A layer below.
#[derive(Debug)]
pub(crate) struct Below {
    root: OwnedFd,
    opaque: bool,
}

impl Below {
    /// The layer in this folder; `opaque` if it hides everything below it.
    pub(crate) fn open(folder: &Path, opaque: bool) -> std::io::Result<Below> {
        Ok(Below { root: fs::open(folder, OPEN_FOLDER, Mode::empty())?, opaque })
    }
}

enum Look {
    Found(Box<Stat>),
    /// Not here, but perhaps further down.
    Absent,
    /// Not here, and nothing further down counts.
    Hidden,
}

/// How a folder is in a stack of layers, the topmost first.
pub(super) fn folder(below: &[Below], path: &[u8]) -> Option<Stat> {
    for layer in below {
        match look(layer, path) {
            Look::Found(stat) => return Some(*stat),
            Look::Hidden => return None,
            Look::Absent => {}
        }
    }
    None
}

fn look(layer: &Below, path: &[u8]) -> Look {
    let absent = |hidden| if hidden { Look::Hidden } else { Look::Absent };
    let mut hidden = layer.opaque;
    if path.is_empty() {
        return fs::fstat(&layer.root).map_or(Look::Hidden, |stat| Look::Found(Box::new(stat)));
    }
    let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
    let mut found = None;
    for end in ends.chain([path.len()]) {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match fs::openat2(&layer.root, &path[..end], flags, Mode::empty(), resolve) {
            Ok(folder) => {
                hidden |= whiteout::is_opaque(folder.as_fd());
                found = fs::fstat(&folder).ok();
            }
            Err(Errno::NOENT) => return absent(hidden),
            Err(_) => return Look::Hidden, // a file, a link, or the mark of a name that is gone
        }
    }
    found.map_or(Look::Hidden, |stat| Look::Found(Box::new(stat)))
}
