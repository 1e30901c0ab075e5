//! Read, diff, apply.

use weft_kernel::{Change, ChangeError, Kernel, ReadError};

use crate::{Wanted, steps};

/// What a sync did.
#[derive(Debug, Default)]
pub struct Report {
    /// Changes that were made.
    pub made: Vec<Change>,
    /// Changes that were refused; their neighbours were made all the same (invariant 7).
    pub refused: Vec<ChangeError>,
}

/// A sync that could not begin.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The kernel could not be read, so nothing was changed.
    #[error("failed to read the kernel's state")]
    Read(#[source] ReadError),
}

/// Makes the kernel match, from whatever it holds now. Idempotent; needs no memory.
///
/// # Errors
/// [`SyncError::Read`]; refused changes are in the report.
pub fn sync<K: Kernel>(kernel: &mut K, wanted: &Wanted) -> Result<Report, SyncError> {
    let keys: Vec<_> = wanted.state.sysctls.keys().cloned().collect();
    let found = kernel.read(&keys).map_err(SyncError::Read)?;
    let steps = steps(wanted, &found);
    let answers = kernel.apply(&steps);
    let mut report = Report::default();
    for (step, answer) in steps.into_iter().zip(answers) {
        match answer {
            Ok(()) => report.made.push(step),
            Err(error) => report.refused.push(error),
        }
    }
    Ok(report)
}
