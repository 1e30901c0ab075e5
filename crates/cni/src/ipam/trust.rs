//! Which programs may be executed: those that the administrator lists, where nobody else could have put them.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::IpamError;
use crate::host::Host;

/// Whether the administrator allows `name`.
pub(super) fn listed(name: &str, host: &Host) -> Result<(), IpamError> {
    let path = &host.ipam_allowed;
    let unread = |source| IpamError::List { path: path.clone(), source };
    let refused = || IpamError::NotListed { name: name.to_owned(), list: path.clone() };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(refused()),
        Err(e) => return Err(unread(e)),
    };
    let metadata = file.metadata().map_err(unread)?;
    if !metadata.is_file() {
        return Err(IpamError::Untrusted { path: path.clone(), reason: "is not a file" });
    }
    trusted(path, &metadata, host.trusted_uid)?;
    let mut text = String::new();
    file.take(64 << 10).read_to_string(&mut text).map_err(unread)?;
    let mut names = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    if names.any(|listed| listed == name) { Ok(()) } else { Err(refused()) }
}

/// The first program called `name`. One that is not to be trusted is an error and not passed over:
/// otherwise its neighbour further on would be taken without anybody noticing.
pub(super) fn search(name: &str, dirs: &[PathBuf], uid: u32) -> Result<PathBuf, IpamError> {
    for dir in dirs {
        let program = dir.join(name);
        let Ok(metadata) = fs::metadata(&program) else { continue };
        if !metadata.is_file() || metadata.mode() & 0o111 == 0 {
            return Err(IpamError::Untrusted { path: program, reason: "is not an executable file" });
        }
        trusted(&program, &metadata, uid)?;
        // Whoever can write in the directory can put another file in the place of the one looked at.
        let source = |source| IpamError::Exec { program: program.clone(), source };
        trusted(dir, &fs::metadata(dir).map_err(source)?, uid)?;
        return Ok(program);
    }
    Err(IpamError::NotFound { name: name.to_owned(), dirs: dirs.to_vec() })
}

fn trusted(path: &Path, metadata: &Metadata, uid: u32) -> Result<(), IpamError> {
    let refused = |reason| Err(IpamError::Untrusted { path: path.to_owned(), reason });
    if metadata.uid() != uid {
        return refused("does not belong to root");
    }
    if metadata.mode() & 0o022 != 0 {
        return refused("can be written by others");
    }
    Ok(())
}
