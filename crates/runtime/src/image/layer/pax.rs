//! The extended header of an entry: lines `LENGTH KEY=VALUE` (POSIX.1-2024, pax, "pax Extended Header").

use super::LayerError;
use super::error::show;

/// What an extended header, or GNU tar's long names, say of the next entry.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    /// Seconds and nanoseconds.
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

const XATTR: &[u8] = b"SCHILY.xattr.";

impl Extended {
    /// Reads all lines; `at` is where they begin, for messages.
    pub(super) fn read(&mut self, mut bytes: &[u8], at: u64) -> Result<(), LayerError> {
        let malformed = |why| LayerError::Malformed { at, why };
        while !bytes.is_empty() {
            let line =
                line(bytes).ok_or_else(|| malformed("a line of an extended header has a wrong length"))?;
            bytes = &bytes[line.len..];
            let (key, value) = (line.key, line.value);
            let refused = || malformed("a value of an extended header makes no sense");
            match key {
                b"path" => self.path = Some(name(value).ok_or_else(refused)?),
                b"linkpath" => self.link = Some(name(value).ok_or_else(refused)?),
                b"size" => self.size = Some(number(value).ok_or_else(refused)?),
                b"uid" => self.uid = Some(id(value).ok_or_else(refused)?),
                b"gid" => self.gid = Some(id(value).ok_or_else(refused)?),
                b"mtime" => self.mtime = Some(time(value).ok_or_else(refused)?),
                _ if key.starts_with(XATTR) => {
                    let attribute = name(&key[XATTR.len()..]).ok_or_else(refused)?;
                    self.xattrs.retain(|(known, _)| *known != attribute);
                    self.xattrs.push((attribute, value.to_vec()));
                }
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(LayerError::Entry {
                        path: show(self.path.as_deref().unwrap_or_default()),
                        why: "sparse files in GNU tar's form are not supported; pack without --sparse",
                    });
                }
                _ => {} // times of access, names of owners, remarks
            }
        }
        Ok(())
    }
}

struct Line<'a> {
    len: usize,
    key: &'a [u8],
    value: &'a [u8],
}

fn line(bytes: &[u8]) -> Option<Line<'_>> {
    let space = bytes.iter().take(20).position(|b| *b == b' ')?;
    let len = usize::try_from(number(&bytes[..space])?).ok()?;
    let text = bytes.get(space + 1..len)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|b| *b == b'=')?;
    Some(Line { len, key: &text[..equals], value: &text[equals + 1..] })
}

/// A name that the kernel can take: not empty, no zero byte.
fn name(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty() && !value.contains(&0)).then(|| value.to_vec())
}

fn number(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// A user or group; the last number means "none" to chown(2).
fn id(value: &[u8]) -> Option<u32> {
    u32::try_from(number(value)?).ok().filter(|id| *id != u32::MAX)
}

/// Seconds with a fraction, perhaps before 1970.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, value) = value.strip_prefix(b"-").map_or((false, value), |rest| (true, rest));
    let mut parts = value.splitn(2, |b| *b == b'.');
    let seconds = i64::try_from(number(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanos = digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Option<Extended> {
        let mut extended = Extended::default();
        extended.read(text, 0).ok().map(|()| extended)
    }

    #[test]
    fn lines_and_their_values() {
        let text =
            b"12 path=a/b\n14 size=12345\n16 mtime=-1.250\n31 SCHILY.xattr.user.x=\0binary\n11 gid=007\n";
        let extended = read(text).unwrap();
        assert_eq!(extended.path.as_deref(), Some(&b"a/b"[..]));
        assert_eq!((extended.size, extended.gid), (Some(12345), Some(7)));
        assert_eq!(extended.mtime, Some((-2, 750_000_000)));
        assert_eq!(extended.xattrs, [(b"user.x".to_vec(), b"\0binary".to_vec())]);
    }

    #[test]
    fn lines_that_lie() {
        for bad in [
            &b"99 path=a\n"[..],
            b"5 path=a\n",
            b"x path=a\n",
            b"10 path=ab",
            b"9 path\n\n\n",
            b"10 path=\0\n\n",
            b"8 path=\n",
            b"11 size=-1\n",
            b"20 uid=4294967295\n\n\n",
            b"18 uid=4294967295\n",
            b"22 GNU.sparse.major=1\n",
            b"99999999999999999999999 path=a\n",
            b"13 mtime=1.x\n",
        ] {
            assert_eq!(read(bad), None, "{}", show(bad));
        }
        assert_eq!(read(b""), Some(Extended::default()));
    }
}
