//! Layers: archives of what an image adds, changes and takes away, made into folders that overlayfs stacks.
//!
//! An archive comes from strangers. Its bytes are decompressed under limits ([`source`]), its headers read
//! strictly ([`entries`]), and every path is resolved by the kernel beneath the layer's folder ([`tree`]).

mod entries;
mod error;
mod pax;
mod source;
mod tree;
mod unpack;
mod whiteout;

pub(crate) use entries::{Entries, Kind};
pub use error::LayerError;
pub(crate) use error::show;
pub(crate) use source::decompress;
pub use unpack::{Policy, Unpacked, unpack};
