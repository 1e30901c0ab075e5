//! Read, diff, apply.

use weft_kernel::state::Kind;
use weft_kernel::{Change, ChangeError, Kernel, ReadError, State};

use crate::{Wanted, steps};

/// What a sync did.
#[derive(Debug, Default)]
pub struct Report {
    /// Changes that were made.
    pub made: Vec<Change>,
    /// Changes that were refused; their neighbours were made all the same (invariant 7).
    pub refused: Vec<ChangeError>,
}

impl Report {
    fn apply<K: Kernel>(&mut self, kernel: &mut K, steps: Vec<Change>) {
        let answers = kernel.apply(&steps);
        for (step, answer) in steps.into_iter().zip(answers) {
            match answer {
                Ok(()) => self.made.push(step),
                Err(error) => self.refused.push(error),
            }
        }
    }
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
    Ok(sync_from(kernel, wanted, &found))
}

/// Makes the kernel match, from what has just been read of it, the settings that are wanted included.
pub fn sync_from<K: Kernel>(kernel: &mut K, wanted: &Wanted, found: &State) -> Report {
    let mut first = steps(wanted, found);
    let after_rules = first.iter().position(|step| step.rank() > RULES).unwrap_or(first.len());
    let mut rest = first.split_off(after_rules);
    let mut report = Report::default();
    report.apply(kernel, first);
    if !report.refused.is_empty() {
        // Perhaps a guard is not in force: what exists is kept in order, but no wire is opened (BAR.md 16).
        rest.retain(|step| !opens_a_wire(step));
    }
    report.apply(kernel, rest);
    report
}

/// The rank of additions to nftables, the guards of new wires among them.
const RULES: u8 = 1;

fn opens_a_wire(step: &Change) -> bool {
    match step {
        Change::CreateWire(..) | Change::Configure(..) | Change::Finish(..) => true,
        Change::SetLink(_, link) => link.kind == Kind::Wire && link.up,
        _ => false,
    }
}
