//! What can be done for `DEL` when the agent does not do it.

use std::path::Path;

use weft_model::AttachmentId;
use weft_model::api::Detach;

use crate::conf::Essentials;
use weft_kernel::journal;

/// Leaves word for the agent. A failure to do so is noted and no more: a `DEL` that fails keeps a pod from
/// ending, and the agent finds what is left over by itself (PAINS.md 3).
pub(crate) fn leave_word(essentials: &Essentials, detach: &Detach, notes: &mut Vec<String>) {
    match journal::write(&essentials.journal, detach) {
        Ok(()) => {
            notes.push(format!("{}: left word for the agent in {}", detach.id, essentials.journal.display()));
        }
        Err(error) => {
            let reason = std::error::Error::source(&error).map(|s| format!(": {s}")).unwrap_or_default();
            notes.push(format!("{}: {error}{reason}; the next GC will remove what is left", detach.id));
        }
    }
}

/// Deletes the wire at once without an agent.
pub(crate) fn cut_wire(netns: Option<&Path>, id: &AttachmentId) {
    // What fails here the next agent makes good: word of the attachment is left for it.
    let _ = weft_kernel::linux::cut_wire(netns, id);
}
