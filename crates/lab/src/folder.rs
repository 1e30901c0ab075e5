//! A folder of a lab's own, gone with it.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// A folder that only its owner can look into. Dropping it removes it with all that is in it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes a folder below the system's temporary one. Its path is short enough for sockets (108 bytes).
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn new() -> Result<Folder, Error> {
        let path = std::env::temp_dir().join(format!("weft-lab-{}", crate::tag()));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|source| Error::File { path: path.clone(), source })?;
        Ok(Folder { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
