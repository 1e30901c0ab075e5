//! How much of what comes from outside is taken: beyond these an image is refused.

/// The limits, with their defaults. They are far above what real images have (a large one of machine learning:
/// 300,000 entries, 10 GiB) and far below what would take a host down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a manifest or an index (the distribution specification asks registries for 4 MiB).
    pub manifest: u64,
    /// Bytes of an image's configuration.
    pub config: u64,
    /// Layers of an image: what overlayfs stacks (`OVL_MAX_STACK`, fs/overlayfs/params.h).
    pub layers: usize,
    /// Bytes of one layer as it is fetched.
    pub compressed: u64,
    /// Bytes of one layer when it is unpacked.
    pub unpacked: u64,
    /// Unpacked bytes for each fetched one, once more than [`Limits::RATIO_FREE`] came out.
    pub ratio: u64,
    /// Entries of one layer.
    pub entries: u64,
    /// Bytes of one file.
    pub file: u64,
    /// Bytes of a path (`PATH_MAX`, limits.h).
    pub path: usize,
    /// Folders above an entry, links followed: what is deeper cannot be removed with the file descriptors of one process.
    pub depth: usize,
    /// Bytes of the extended headers of one entry: long names and attributes.
    pub extended: u64,
    /// Bytes of the names of all folders of one layer, which are kept in memory until the end.
    pub folders: usize,
}

impl Limits {
    /// Bytes that come out of a layer before its ratio is looked at: a file of zeroes is no attack.
    pub const RATIO_FREE: u64 = 256 << 20;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            manifest: 4 << 20,
            config: 8 << 20,
            layers: 500,
            compressed: 64 << 30,
            unpacked: 128 << 30,
            ratio: 200,
            entries: 1_000_000,
            file: 64 << 30,
            path: 4095,
            depth: 256,
            extended: 1 << 20,
            folders: 64 << 20,
        }
    }
}
