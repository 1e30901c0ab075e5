//! The store of a single host: two files, because what is declared outlives a reboot and what is attached does not.
//!
//! Never shares them: one process holds both directories locked. Never follows a symbolic link.

mod aside;
mod attachments;
mod database;
mod declared;
mod directory;
mod row;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use weft_model::AttachmentId;

use self::attachments::Attachments;
pub use self::database::Condition;
use self::database::Database;
use self::declared::Declared;
use self::directory::Directory;
use self::row::Row;
use crate::{Loaded, Store, StoreError, Write};

/// Where the files lie. Both directories are made if they are missing, and kept at mode 0700.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Holds `declared.redb`; survives reboots.
    pub state_dir: PathBuf,
    /// Holds `attachments.redb`; may be emptied by a reboot.
    pub run_dir: PathBuf,
}

impl Default for Paths {
    fn default() -> Paths {
        Paths { state_dir: "/var/lib/weft".into(), run_dir: "/run/weft".into() }
    }
}

/// What [`Embedded::open`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The file of networks and kernel settings.
    pub declared: Condition,
    /// The file of workloads and resting addresses.
    pub attachments: Condition,
    /// Workloads of an earlier boot, forgotten now.
    pub dropped: Vec<AttachmentId>,
}

/// The store of a single host.
#[derive(Debug)]
pub struct Embedded {
    declared: Database<Declared>,
    attachments: Database<Attachments>,
}

impl Embedded {
    /// Opens both files, begins those that are missing, and replaces those that are damaged. What was
    /// recorded under another `boot_id` (`/proc/sys/kernel/random/boot_id`) is forgotten.
    ///
    /// # Errors
    /// [`StoreError::Held`] while another process has them open; `Symlink`, `WrongKind`, `Foreign` where
    /// something else stands in their place; `Newer` after a downgrade; `Io`. Damage is no error, nor is a
    /// sound file that cannot be written: see [`Condition`].
    pub fn open(paths: &Paths, boot_id: &str) -> Result<(Embedded, Opened), StoreError> {
        let state = Directory::open(&paths.state_dir, None)?;
        let run = Directory::open(&paths.run_dir, Some(&state))?;
        let (declared, declared_was) = Database::open(&state, Declared)?;
        let contents = Attachments { boot: boot_id.to_owned(), dropped: Vec::new() };
        let (mut attachments, attachments_was) = Database::open(&run, contents)?;
        let dropped = std::mem::take(&mut attachments.contents.dropped);
        let opened = Opened { declared: declared_was, attachments: attachments_was, dropped };
        Ok((Embedded { declared, attachments }, opened))
    }
}

impl Store for Embedded {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        let mut loaded = self.declared.read(|transaction| {
            let mut loaded = Loaded::default();
            declared::load(transaction, &mut loaded).map(|()| loaded)
        })?;
        let attached = self.attachments.read(|transaction| {
            let mut loaded = Loaded::default();
            attachments::load(transaction, &mut loaded).map(|()| loaded)
        })?;
        loaded.workloads = attached.workloads;
        loaded.resting = attached.resting;
        loaded.unreadable.extend(attached.unreadable);
        Ok(loaded)
    }

    /// One transaction per file. A batch that changes both commits what is declared first; should the
    /// second file then fail, the first has kept its part.
    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let rows: Vec<Row<'_>> = writes.iter().map(Row::new).collect::<Result<_, _>>()?;
        let (lasting, passing): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| row.write.outlives_boot());
        if !lasting.is_empty() {
            self.declared.commit(|t| lasting.iter().try_for_each(|row| declared::apply(t, row)))?;
        }
        if !passing.is_empty() {
            self.attachments.commit(|t| passing.iter().try_for_each(|row| attachments::apply(t, row)))?;
        }
        Ok(())
    }
}
