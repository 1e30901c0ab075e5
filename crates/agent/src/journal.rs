//! Draining the journal: what plugins had to tell while there was no agent.
//!
//! Each entry is a file with an [`api::Detach`](weft_model::api::Detach) as JSON. What cannot be read is set aside with the suffix
//! `.unreadable`, never deleted.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use weft_model::AttachmentId;
use weft_model::api::Detach;

use crate::agent::Agent;
use crate::chain;
use crate::engine::Engine;

/// No honest entry is larger, in bytes.
const LARGEST: u64 = 64 << 10;

/// Works off the entry of one attachment: what was left undone must not undo what comes next under that name.
pub(crate) fn drain_one(engine: &mut Engine, folder: &Path, id: &AttachmentId) {
    let path = folder.join(id.journal_entry());
    if path.exists() {
        one(engine, &path);
    }
}

/// Detaches what the journal names; returns how many entries were drained.
pub(crate) fn drain(agent: &Agent, folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let mut drained = 0;
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        // Names that begin with a dot are entries still being written.
        let unfinished = entry.file_name().as_encoded_bytes().starts_with(b".");
        if unfinished || path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        drained += usize::from(one(&mut agent.engine(), &path));
    }
    drained
}

fn one(engine: &mut Engine, path: &Path) -> bool {
    let request = match read(path) {
        Ok(request) => request,
        Err(error) => {
            tracing::warn!(error = chain(&error), ?path, "set an unreadable journal entry aside");
            let _ = fs::rename(path, path.with_extension("unreadable"));
            return false;
        }
    };
    engine.detach(&request);
    if engine.is_owing() {
        return false; // the entry is the only record of it
    }
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(%error, ?path, "failed to remove a journal entry");
    }
    true
}

fn read(path: &Path) -> io::Result<Detach> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text)?;
    serde_json::from_str(&text).map_err(io::Error::other)
}
