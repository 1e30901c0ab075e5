//! Why a layer cannot be unpacked.

use std::io;

use crate::image::Digest;

/// Why a layer cannot be unpacked. Nothing of it stays.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// One of its entries is hostile or not supported.
    #[error("its entry '{path}' is refused: {why}")]
    Entry {
        /// The entry's path, unprintable bytes escaped.
        path: String,
        /// Why.
        why: &'static str,
    },
    /// There is more of something than is taken ([`Limits`](crate::image::Limits)).
    #[error("it has more than {limit} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many are taken.
        limit: u64,
    },
    /// It would grow enormously: a decompression bomb.
    #[error("it unpacks to more than {ratio} times its size: that is no layer but a bomb")]
    Bomb {
        /// How many times are taken.
        ratio: u64,
    },
    /// It ends in the middle of an entry.
    #[error("it ends too early: the archive is truncated")]
    Truncated,
    /// It is no tar archive, or a damaged one.
    #[error("it is not a sound tar archive: {why}, at byte {at}")]
    Malformed {
        /// Where, in the unpacked archive.
        at: u64,
        /// Why.
        why: &'static str,
    },
    /// gzip or zstd refused its bytes.
    #[error("it cannot be decompressed")]
    Decompress {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its content is not what the image's configuration names.
    #[error("its content has the digest {found}, but the image names {expected}")]
    Digest {
        /// As the image says.
        expected: Digest,
        /// As it is.
        found: Digest,
    },
    /// The file system refused something.
    #[error("failed to {what} '{path}'")]
    Io {
        /// What.
        what: &'static str,
        /// The path inside the layer.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl LayerError {
    pub(crate) fn entry(path: &[u8], why: &'static str) -> LayerError {
        LayerError::Entry { path: show(path), why }
    }

    pub(crate) fn io(what: &'static str, path: &[u8], source: impl Into<io::Error>) -> LayerError {
        LayerError::Io { what, path: show(path), source: source.into() }
    }
}

/// Bytes of strangers as they may stand in a message: one line, not endless.
pub(crate) fn show(bytes: &[u8]) -> String {
    const MOST: usize = 200;
    let text: String = String::from_utf8_lossy(bytes).chars().take(MOST).collect();
    let clean = text.chars().flat_map(|c| {
        let escape = c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let (plain, escaped) = if escape { (None, Some(c.escape_unicode())) } else { (Some(c), None) };
        plain.into_iter().chain(escaped.into_iter().flatten())
    });
    clean.collect()
}
