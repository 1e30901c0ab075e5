//! Images: where they come from, how they are kept, and what is made of them for a container.
//!
//! What is fetched or loaded lands in a [`Store`] under the name of its digest; each layer is unpacked once and
//! shared by all images that hold it. docs/images.md draws the folders.

mod archive;
mod digest;
mod document;
mod layer;
mod limits;
mod platform;
mod progress;
mod pull;
mod reference;
mod registry;
mod store;

pub use archive::{ArchiveError, Format, load_archive, load_folder, save_archive, save_folder};
pub use digest::{Digest, DigestError, Hasher, chain_id};
pub use document::{
    Descriptor, Document, DocumentError, Execution, History, ImageConfig, Index, Manifest, RootFs,
};
pub use layer::{LayerError, Policy, Unpacked, unpack};
pub use limits::Limits;
pub use platform::{Platform, PlatformError};
pub use progress::{Act, Meter, Progress, Quiet};
pub use pull::{PullError, Pulled, pull};
pub use reference::{Reference, ReferenceError};
pub use registry::{Credentials, Registry, RegistryError, RegistryOptions};
pub use store::{Details, Image, Layer, LayerDetails, Pruned, Rootfs, Store, StoreError, Usage};
