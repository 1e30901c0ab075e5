//! One database file: opened with every page verified, begun anew when it is damaged, committed to.
//!
//! Never trusts a file: redb verifies page checksums only when it is told to check on open, and may panic
//! on damage otherwise (cberner/redb#1334).

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::PathBuf;
use std::sync::Arc;

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{
    Builder, ReadTransaction, ReadableDatabase as _, ReadableTable as _, StorageBackend as _,
    TableDefinition, WriteTransaction,
};

use super::aside;
use super::directory::{Directory, Found};
use crate::StoreError;

/// Numbers about the file: `schema`, `generation` (commits so far), and what contents keep there.
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// The layout of the tables this version reads and writes.
const SCHEMA: u64 = 1;

/// Bytes of pages that redb keeps in memory. The whole of a host's state is about half of that.
const CACHE: usize = 1 << 20;

/// What one of the files holds.
pub(super) trait Contents {
    /// The file's name.
    const NAME: &'static str;

    /// Makes missing tables and forgets what no longer counts. Called at each opening, in a transaction.
    fn prepare(&mut self, transaction: &WriteTransaction) -> Result<(), redb::Error>;
}

/// In which state a file was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There, and sound.
    Kept,
    /// Not there; an empty one was begun: the first start, or someone removed the file. The kernel knows.
    Begun,
    /// Damaged. An empty one was begun: the agent rebuilds what it can from the kernel.
    SetAside {
        /// Where the damaged file is now.
        to: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It cannot be written, or not even be begun, for now: `load` gives what there is, `commit` fails until
    /// it can be.
    Unwritable {
        /// Why not.
        why: String,
    },
}

/// An open file.
pub(super) struct Database<C> {
    directory: Arc<Directory>,
    pub(super) contents: C,
    live: Live,
    generation: u64,
}

enum Live {
    /// The file itself.
    File(redb::Database),
    /// A copy in memory of a file that cannot be written.
    Copy(redb::Database),
    /// An empty one in memory, because there is no sound file and no room to begin one.
    StandIn(redb::Database),
    /// Closed by a failed commit; the next call opens it again.
    Closed,
}

impl<C: Contents> Database<C> {
    pub(super) fn open(directory: &Arc<Directory>, contents: C) -> Result<(Self, Condition), StoreError> {
        let directory = Arc::clone(directory);
        let mut this = Database { directory, contents, live: Live::Closed, generation: 0 };
        let condition = this.open_or_begin()?;
        Ok((this, condition))
    }

    fn open_or_begin(&mut self) -> Result<Condition, StoreError> {
        let Some(found) = self.directory.file(C::NAME)? else {
            return self.begin_or_stand_in(None);
        };
        let attempts = aside::failed_attempts(&self.directory, C::NAME);
        if attempts >= aside::ATTEMPTS {
            let why = format!("the last {attempts} attempts to open it ended the process");
            return self.begin_or_stand_in(Some(why));
        }
        aside::begin_attempt(&self.directory, C::NAME, attempts + 1);
        let opened = self.open_file_or_copy(found);
        aside::end_attempt(&self.directory, C::NAME);
        match opened {
            Err(error) if error.is_damage() => self.begin_or_stand_in(Some(with_cause(&error))),
            opened => opened,
        }
    }

    /// Opens a file, or a copy of it in memory where it cannot be written.
    fn open_file_or_copy(&mut self, found: Found) -> Result<Condition, StoreError> {
        match self.open_file(found) {
            Ok(()) => Ok(Condition::Kept),
            Err(error) if error.is_unwritable() => {
                self.open_copy().map(|()| Condition::Unwritable { why: with_cause(&error) })
            }
            Err(error) => Err(error),
        }
    }

    /// Verifies a file and makes it the live one.
    fn open_file(&mut self, found: Found) -> Result<(), StoreError> {
        if let Some(refused) = found.read_only {
            return Err(StoreError::io("write", &self.path(), refused));
        }
        self.not_empty(&found.file)?;
        let database = self.verify(found.file)?;
        self.live = Live::File(database);
        Ok(())
    }

    fn verify(&mut self, file: File) -> Result<redb::Database, StoreError> {
        let backend = FileBackend::new(file).map_err(|e| self.error("open", e))?;
        self.prepared(builder().create_with_backend(backend))
    }

    /// Verifies a copy of the file in memory and makes that the live one.
    fn open_copy(&mut self) -> Result<(), StoreError> {
        let path = self.path();
        let mut file = self.find()?.file;
        self.not_empty(&file)?;
        let backend = copy(&mut file).map_err(|e| StoreError::io("read", &path, e))?;
        let database = self.prepared(builder().create_with_backend(backend))?;
        self.live = Live::Copy(database);
        Ok(())
    }

    /// Begins a new file. It gets its name when it is complete, so that a crash leaves none or all of it.
    /// A damaged file in its place is put aside at the last moment, to be found again if there is no room
    /// for a new one. Returns where it is then.
    fn begin(&mut self, damaged: bool) -> Result<Option<PathBuf>, StoreError> {
        let name = format!("{}.new", C::NAME);
        let made = self.directory.create(&name).and_then(|file| self.verify(file));
        let begun = made.and_then(|database| {
            let aside = damaged.then(|| aside::set_aside(&self.directory, C::NAME)).transpose()?;
            self.directory.rename(&name, C::NAME)?;
            self.live = Live::File(database);
            Ok(aside)
        });
        if begun.is_err() {
            let _ = self.directory.remove(&name);
        }
        begun
    }

    /// Begins a new file, in place of a damaged one if it is said what is wrong with that. Where there is no
    /// room for it, it goes without: the kernel knows what there is, and must be kept in order meanwhile.
    fn begin_or_stand_in(&mut self, damage: Option<String>) -> Result<Condition, StoreError> {
        match self.begin(damage.is_some()) {
            Ok(aside) => {
                aside::end_attempt(&self.directory, C::NAME);
                Ok(match (aside, damage) {
                    (Some(to), Some(why)) => Condition::SetAside { to, why },
                    _ => Condition::Begun,
                })
            }
            Err(error) if error.is_unwritable() => {
                let database = self.prepared(builder().create_with_backend(InMemoryBackend::new()))?;
                self.live = Live::StandIn(database);
                let damage = damage.map(|why| format!("{why}; ")).unwrap_or_default();
                Ok(Condition::Unwritable { why: format!("{damage}{}", with_cause(&error)) })
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the file the live one, if it can be written by now.
    fn make_writable(&mut self) -> Result<(), StoreError> {
        match self.live {
            Live::File(_) => Ok(()),
            Live::StandIn(_) => {
                let damaged = self.directory.file(C::NAME)?.is_some();
                self.begin(damaged).map(drop)
            }
            Live::Copy(_) | Live::Closed => self.find().and_then(|found| self.open_file(found)),
        }
    }

    /// redb takes an empty file for one to begin; here an empty file has lost its contents.
    fn not_empty(&self, file: &File) -> Result<(), StoreError> {
        let path = self.path();
        let length = file.metadata().map_err(|e| StoreError::io("look at", &path, e))?.len();
        if length > 0 {
            return Ok(());
        }
        Err(StoreError::io("open", &path, io::Error::new(io::ErrorKind::UnexpectedEof, "the file is empty")))
    }

    fn prepared(
        &mut self,
        opened: Result<redb::Database, redb::DatabaseError>,
    ) -> Result<redb::Database, StoreError> {
        let database = opened.map_err(|e| self.error("open", e))?;
        let prepared = transaction(&database, |transaction| {
            let found = {
                let mut meta = transaction.open_table(META)?;
                let found = meta.get("schema")?.map_or(SCHEMA, |value| value.value());
                meta.insert("schema", found.max(SCHEMA))?;
                self.generation = meta.get("generation")?.map_or(0, |value| value.value());
                found
            };
            if found <= SCHEMA {
                self.contents.prepare(transaction)?;
            }
            Ok(found)
        });
        let found = prepared.map_err(|e| self.error("open", e))?;
        if found > SCHEMA {
            return Err(StoreError::Newer { path: self.path(), found, known: SCHEMA });
        }
        Ok(database)
    }

    /// Runs `apply` in a transaction of its own, which survives kill -9 and power loss on return.
    ///
    /// redb refuses all work after an I/O error until it is opened anew, so a failed commit does that; the
    /// generation then tells whether the transaction got through before the error.
    pub(super) fn commit(
        &mut self,
        apply: impl Fn(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        self.make_writable()?;
        let Live::File(database) = &self.live else { unreachable!("make_writable leaves the file open") };
        let wanted = self.generation + 1;
        let done = transaction(database, |transaction| {
            transaction.open_table(META)?.insert("generation", wanted)?;
            apply(transaction)
        });
        let Err(error) = done else {
            self.generation = wanted;
            return Ok(());
        };
        self.live = Live::Closed;
        match self.find().and_then(|found| self.open_file_or_copy(found)) {
            Ok(_) if self.generation == wanted => Ok(()),
            _ => Err(self.error("write", error)),
        }
    }

    /// Reads with `read`, from the copy if there is only that.
    pub(super) fn read<T>(
        &mut self,
        read: impl Fn(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        if matches!(self.live, Live::Closed) {
            let found = self.find()?;
            self.open_file_or_copy(found)?;
        }
        let (Live::File(database) | Live::Copy(database) | Live::StandIn(database)) = &self.live else {
            unreachable!("open_file_or_copy leaves one of them open")
        };
        let transaction = database.begin_read().map_err(|e| self.error("read", e))?;
        read(&transaction).map_err(|e| self.error("read", e))
    }

    fn find(&self) -> Result<Found, StoreError> {
        let missing = || StoreError::io("open", &self.path(), io::ErrorKind::NotFound);
        self.directory.file(C::NAME)?.ok_or_else(missing)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.path(C::NAME)
    }

    fn error(&self, action: &'static str, error: impl Into<redb::Error>) -> StoreError {
        StoreError::redb(action, &self.path(), error.into())
    }
}

impl<C: Contents> fmt::Debug for Database<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("path", &self.path()).field("generation", &self.generation).finish()
    }
}

fn copy(file: &mut File) -> io::Result<InMemoryBackend> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    let backend = InMemoryBackend::new();
    backend.set_len(bytes.len() as u64)?;
    backend.write(0, &bytes)?;
    Ok(backend)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder
}

/// A transaction in two phases: after one-phase commits redb answers damage of the newest commit's pages
/// by going back to the commit before, silently; after two-phase ones it reports the damage.
fn transaction<T>(
    database: &redb::Database,
    work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
) -> Result<T, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    let result = work(&transaction)?;
    transaction.commit()?;
    Ok(result)
}

fn with_cause(error: &StoreError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}").replace('\n', " "),
        None => error.to_string(),
    }
}
