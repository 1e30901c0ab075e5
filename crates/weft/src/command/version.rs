//! `weft version`.

use crate::cli::Session;
use crate::output::entry;

/// The version of this program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(crate) fn run(session: &Session) -> anyhow::Result<()> {
    session.output.show(|| entry("version", VERSION), || format!("weft {VERSION}\n"))
}
