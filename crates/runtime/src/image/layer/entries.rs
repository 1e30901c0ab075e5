//! The entries of a tar archive, read strictly (POSIX.1-2024, pax, "ustar Interchange Format"; GNU tar manual,
//! "The Standard Format"). What can be read in two ways is refused.

use super::error::show;
use super::pax::Extended;
use super::{LayerError, source::Source};
use crate::image::Limits;

const BLOCK: usize = 512;
pub(super) const TOO_DEEP: &str = "it lies too deep";

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    /// A symbolic link to any text.
    Link(Vec<u8>),
    /// Another name of what the archive holds at this path; cleaned as paths are.
    Name(Vec<u8>),
    Pipe,
    /// Character devices are true.
    Device(bool, u32, u32),
}

/// One entry. Its path is clean: relative, without `.`, `..` and doubled slashes; empty for the root itself.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Bytes of content that follow.
    pub(crate) size: u64,
    /// Permissions with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads an archive entry by entry.
pub(crate) struct Entries<'a> {
    source: &'a mut Source,
    limits: &'a Limits,
    /// Content of the current entry that has not been taken.
    left: u64,
    /// What follows it up to the next block.
    padding: u64,
    count: u64,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(source: &'a mut Source, limits: &'a Limits) -> Entries<'a> {
        Entries { source, limits, left: 0, padding: 0, count: 0 }
    }

    /// The next entry; what was left of the last one's content is passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, LayerError> {
        let mut extended = Extended::default();
        let mut extended_bytes = 0;
        loop {
            self.content(&mut |_| Ok(()))?;
            let at = self.source.taken;
            let Some(block) = self.block()? else { return Ok(None) };
            let header = tar::Header::from_byte_slice(&block);
            let malformed = |why| LayerError::Malformed { at, why };
            check(&block, header).ok_or_else(|| malformed("a header's checksum is wrong"))?;
            let size = number(header.entry_size(), &block[124..136])
                .ok_or_else(|| malformed("a size makes no sense"))?;
            self.count += 1;
            if self.count > self.limits.entries {
                return Err(LayerError::Limit { what: "entries", limit: self.limits.entries });
            }
            let kind = block[156];
            if !matches!(kind, b'L' | b'K' | b'x' | b'g') {
                return self.entry(&block, header, size, extended, at).map(Some);
            }
            extended_bytes += size;
            if extended_bytes > self.limits.extended {
                return Err(LayerError::Limit {
                    what: "bytes in the headers of one entry",
                    limit: self.limits.extended,
                });
            }
            self.expect(size);
            let mut text = Vec::new();
            self.content(&mut |bytes| {
                text.extend_from_slice(bytes);
                Ok(())
            })?;
            match kind {
                b'L' => extended.path = Some(until_zero(text)),
                b'K' => extended.link = Some(until_zero(text)),
                b'x' => extended.read(&text, at)?,
                // Global headers: as in the other readers of layers, they say nothing.
                _ => {}
            }
        }
    }

    /// Hands the current entry's content to `sink`.
    pub(crate) fn content(
        &mut self,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), LayerError>,
    ) -> Result<(), LayerError> {
        while self.left > 0 {
            let there = self.source.peek()?;
            let count = there.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            if count == 0 {
                return Err(LayerError::Truncated);
            }
            sink(&there[..count])?;
            self.source.take(count);
            self.left -= count as u64;
        }
        while self.padding > 0 {
            let count = self.source.peek()?.len().min(usize::try_from(self.padding).unwrap_or(BLOCK));
            if count == 0 {
                return Err(LayerError::Truncated);
            }
            self.source.take(count);
            self.padding -= count as u64;
        }
        Ok(())
    }

    fn expect(&mut self, size: u64) {
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    /// The next header, or `None` at the end: a block of zeroes, or no further byte.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, LayerError> {
        let mut block = [0; BLOCK];
        match self.source.fill(&mut block)? {
            BLOCK if block == [0; BLOCK] => Ok(None),
            BLOCK => Ok(Some(block)),
            0 => Ok(None),
            _ => Err(LayerError::Truncated),
        }
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        header: &tar::Header,
        size: u64,
        extended: Extended,
        at: u64,
    ) -> Result<Entry, LayerError> {
        let malformed = |why| LayerError::Malformed { at, why };
        let raw = extended.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let target = || extended.link.clone().or_else(|| header.link_name_bytes().map(|b| b.into_owned()));
        let path = clean(&raw, self.limits)?;
        let is_folder = raw.ends_with(b"/") || path.is_empty();
        let device = |character| {
            let number = |n: std::io::Result<Option<u32>>| n.ok().flatten();
            let (major, minor) = (number(header.device_major()), number(header.device_minor()));
            let sound = "a device without numbers";
            Ok(Kind::Device(
                character,
                major.ok_or_else(|| malformed(sound))?,
                minor.ok_or_else(|| malformed(sound))?,
            ))
        };
        let kind = match header.entry_type().as_byte() {
            b'0' | 0 | b'7' if is_folder => Kind::Folder, // before POSIX a folder had no type
            b'0' | 0 | b'7' => Kind::File,
            b'1' => {
                let target = target().ok_or_else(|| LayerError::entry(&raw, "a hard link to nothing"))?;
                Kind::Name(
                    clean(&target, self.limits).map_err(|_| {
                        LayerError::entry(&raw, "it is a hard link that leads out of the layer")
                    })?,
                )
            }
            b'2' => {
                let target = target().filter(|t| !t.is_empty() && t.len() <= self.limits.path);
                Kind::Link(
                    target
                        .ok_or_else(|| LayerError::entry(&raw, "a symbolic link to nothing, or too long"))?,
                )
            }
            b'3' => device(true)?,
            b'4' => device(false)?,
            b'5' => Kind::Folder,
            b'6' => Kind::Pipe,
            b'S' => {
                let why = "sparse files in GNU tar's form are not supported; pack without --sparse";
                return Err(LayerError::entry(&raw, why));
            }
            _ => return Err(LayerError::entry(&raw, "it is of a kind that tar does not define")),
        };
        let small = |n, field| number(n, field).and_then(|n| u32::try_from(n).ok());
        let owner = |n, field| small(n, field).filter(|n| *n != u32::MAX);
        let size = extended.size.unwrap_or(size);
        // Only files have content; a size beside another kind is a remark (a hard link's: its file's size).
        let size = if kind == Kind::File { size } else { 0 };
        if size > self.limits.file {
            return Err(LayerError::Limit { what: "bytes in one file", limit: self.limits.file });
        }
        self.expect(size);
        Ok(Entry {
            path,
            kind,
            size,
            mode: small(header.mode().map(u64::from), &block[100..108])
                .ok_or_else(|| malformed("a mode makes no sense"))?
                & 0o7777,
            uid: extended
                .uid
                .or_else(|| owner(header.uid(), &block[108..116]))
                .ok_or_else(|| malformed("a user makes no sense"))?,
            gid: extended
                .gid
                .or_else(|| owner(header.gid(), &block[116..124]))
                .ok_or_else(|| malformed("a group makes no sense"))?,
            mtime: match extended.mtime {
                Some(time) => time,
                // Before 1970 the number is a negative one in base 256, which wraps back here.
                None => {
                    let seconds = number(header.mtime(), &block[136..148]);
                    (seconds.ok_or_else(|| malformed("a time makes no sense"))?.cast_signed(), 0)
                }
            },
            xattrs: extended.xattrs,
        })
    }
}

/// A number of a header. An empty field is 0, as other readers have it.
fn number(parsed: std::io::Result<u64>, field: &[u8]) -> Option<u64> {
    parsed.ok().or_else(|| field.iter().all(|b| matches!(b, 0 | b' ')).then_some(0))
}

/// Compares a header's checksum: the sum of its bytes, its own field counted as spaces.
fn check(block: &[u8; BLOCK], header: &tar::Header) -> Option<()> {
    let sum = |bytes: &[u8]| bytes.iter().map(|b| u32::from(*b)).sum::<u32>();
    let spaces = 8 * u32::from(b' ');
    (header.cksum().ok()? == sum(block) - sum(&block[148..156]) + spaces).then_some(())
}

/// GNU tar ends a long name with a zero byte.
fn until_zero(mut text: Vec<u8>) -> Vec<u8> {
    text.truncate(text.iter().position(|b| *b == 0).unwrap_or(text.len()));
    text
}

/// A path as the kernel resolves it, from the layer's root; refused if it would leave there.
fn clean(raw: &[u8], limits: &Limits) -> Result<Vec<u8>, LayerError> {
    if raw.len() > limits.path {
        return Err(LayerError::Entry { path: show(raw), why: "its path is too long" });
    }
    if raw.starts_with(b"/") {
        return Err(LayerError::entry(raw, "its path is absolute"));
    }
    let mut path = Vec::with_capacity(raw.len());
    for word in raw.split(|b| *b == b'/') {
        match word {
            b"" | b"." => {}
            b".." => return Err(LayerError::entry(raw, "its path has '..' in it")),
            _ if word.len() > 255 => return Err(LayerError::entry(raw, "a name in its path is too long")),
            _ => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(word);
            }
        }
    }
    if path.split(|b| *b == b'/').count() > limits.depth {
        return Err(LayerError::entry(raw, TOO_DEEP));
    }
    if raw.is_empty() {
        return Err(LayerError::entry(raw, "it has no path"));
    }
    Ok(path)
}
