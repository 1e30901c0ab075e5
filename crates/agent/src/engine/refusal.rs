//! Objects that were refused: what was in force before still is, and `weft status` says so until somebody mends it.

use weft_model::ObjectId;
use weft_model::api::{Error, ErrorKind};
use weft_model::object::Flaw;

use super::Engine;

impl Engine {
    /// Refuses an object, and remembers that unless somebody only tried.
    pub(super) fn refuse(&mut self, id: &ObjectId, flaw: &Flaw, only_tried: bool) -> Error {
        if !only_tried {
            self.refusals.insert(id.clone(), flaw.to_string());
        }
        Error::new(ErrorKind::Invalid, format!("{id} makes no sense: {flaw}"))
            .hint("nothing was changed; correct the field and apply again")
    }

    /// Forgets what was mended, or is not wanted any more.
    pub(super) fn mended<'a>(&mut self, ids: impl Iterator<Item = &'a ObjectId>) {
        ids.for_each(|id| drop(self.refusals.remove(id)));
    }

    /// What is said of them.
    pub(super) fn refusals(&self) -> impl Iterator<Item = String> {
        self.refusals.iter().map(|(id, flaw)| {
            format!(
                "{id} was refused ({flaw}); what was in force before it still is: correct it, or delete it"
            )
        })
    }
}
