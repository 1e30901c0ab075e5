//! Long work says how far it is, to whoever wants to hear it.

use super::Digest;

/// What is being done to a layer or another blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It comes from a registry.
    Download,
    /// It is copied out of an archive or into one.
    Copy,
    /// Its files are written.
    Unpack,
    /// Nothing has to be done: it is there.
    Present,
}

/// Somebody who watches. Called from several threads.
pub trait Progress: Sync {
    /// Work on `what` begins; `total` is its size in bytes where that is known.
    fn begin(&self, act: Act, what: &Digest, total: Option<u64>) -> Box<dyn Meter>;
}

/// One piece of work under way. It is dropped when the work ends, also when it fails.
pub trait Meter: Send + Sync {
    /// So many more bytes are done.
    fn advance(&self, bytes: u64);
    /// It is finished and well.
    fn done(&self);
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn begin(&self, _: Act, _: &Digest, _: Option<u64>) -> Box<dyn Meter> {
        Box::new(Quiet)
    }
}

impl Meter for Quiet {
    fn advance(&self, _: u64) {}

    fn done(&self) {}
}
