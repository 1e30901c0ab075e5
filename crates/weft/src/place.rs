//! Where the configuration is, for every command alike.

use std::path::PathBuf;

use weft_agent::config;

/// What `$WEFT_CONFIG` says, or the usual place. With it a person speaks of another host on the same machine: one of
/// a lab.
pub(crate) fn config() -> PathBuf {
    let said = std::env::var_os("WEFT_CONFIG").filter(|path| !path.is_empty());
    said.map_or_else(|| config::PATH.into(), PathBuf::from)
}
