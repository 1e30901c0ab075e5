//! What a container writes, kept as Docker's `json-file` driver keeps it: a JSON object per line.
//!
//! `{"log":"text\n","stream":"stdout","time":"2026-11-25T22:41:00.123Z"}`. When the file has half of the bytes that
//! the log may have, it becomes `log.jsonl.1`, and what was that before is dropped: a disk never fills with it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::time;

/// Bytes of a log unless something else is said.
pub const LIMIT: u64 = 20 << 20;
/// A line that is longer than this becomes several entries.
const LINE: usize = 16 << 10;
const NAME: &str = "log.jsonl";

/// One line that a container wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The text, with its newline if it had one.
    pub log: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// When it was read from the container.
    pub time: String,
}

/// The log of a container that runs.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    written: u64,
    half: u64,
    /// What has not ended with a newline yet, of standard output and of standard error.
    partial: [Vec<u8>; 2],
}

impl Writer {
    /// Continues the log in this folder.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(folder: &Path, limit: u64) -> io::Result<Writer> {
        let path = folder.join(NAME);
        let file = File::options().append(true).create(true).open(&path)?;
        let written = file.metadata()?.len();
        Ok(Writer { path, file, written, half: limit / 2, partial: [Vec::new(), Vec::new()] })
    }

    /// Notes what was written to a stream: 1 is standard output, 2 standard error.
    ///
    /// # Errors
    /// The file system's; nothing is written twice.
    pub fn note(&mut self, stream: u8, bytes: &[u8]) -> io::Result<()> {
        let n = usize::from(stream == 2);
        let mut pending = std::mem::take(&mut self.partial[n]);
        pending.extend_from_slice(bytes);
        let mut entries = Vec::new();
        let mut rest = &pending[..];
        loop {
            let end = match rest.iter().take(LINE).position(|b| *b == b'\n') {
                Some(at) => at + 1,
                None if rest.len() >= LINE => LINE,
                None => break,
            };
            let (line, next) = rest.split_at(end);
            entry(&mut entries, stream, line)?;
            rest = next;
        }
        self.partial[n] = rest.to_vec();
        self.append(&entries)
    }

    /// Notes what is left: the container writes no more.
    ///
    /// # Errors
    /// The file system's.
    pub fn finish(&mut self) -> io::Result<()> {
        let mut entries = Vec::new();
        for (n, stream) in [(0, 1), (1, 2)] {
            let rest = std::mem::take(&mut self.partial[n]);
            if !rest.is_empty() {
                entry(&mut entries, stream, &rest)?;
            }
        }
        self.append(&entries)
    }

    fn append(&mut self, entries: &[u8]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        if self.written > 0 && self.written + entries.len() as u64 > self.half {
            fs::rename(&self.path, older(&self.path))?;
            self.file = File::options().append(true).create(true).open(&self.path)?;
            self.written = 0;
        }
        self.file.write_all(entries)?;
        self.written += entries.len() as u64;
        Ok(())
    }
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("jsonl.1")
}

fn entry(into: &mut Vec<u8>, stream: u8, line: &[u8]) -> io::Result<()> {
    let stream = if stream == 2 { "stderr" } else { "stdout" };
    let log = String::from_utf8_lossy(line).into_owned();
    let entry = Entry { log, stream: stream.to_owned(), time: time::rfc3339(time::now()) };
    serde_json::to_writer(&mut *into, &entry)?;
    into.push(b'\n');
    Ok(())
}

/// Reads a log from its oldest entry, and then what is added to it.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: Option<BufReader<File>>,
    /// Files that come before the one that is being written.
    before: Vec<BufReader<File>>,
    unfinished: Vec<u8>,
}

impl Reader {
    /// Opens the log in this folder; there may be none yet.
    #[must_use]
    pub fn open(folder: &Path) -> Reader {
        let path = folder.join(NAME);
        let open = |path: &Path| File::open(path).ok().map(BufReader::new);
        let before = open(&older(&path)).into_iter().collect();
        Reader { file: open(&path), before, path, unfinished: Vec::new() }
    }

    /// The next entry, if there is one now. What is no entry is passed over.
    ///
    /// # Errors
    /// The file system's.
    pub fn read(&mut self) -> io::Result<Option<Entry>> {
        loop {
            if let Some(before) = self.before.first_mut() {
                match line(before, &mut Vec::new())? {
                    Some(text) => {
                        if let Ok(entry) = serde_json::from_slice(&text) {
                            return Ok(Some(entry));
                        }
                        continue;
                    }
                    None => {
                        self.before.remove(0);
                        continue;
                    }
                }
            }
            let Some(file) = &mut self.file else { return Ok(None) };
            match line(file, &mut self.unfinished)? {
                Some(text) => {
                    if let Ok(entry) = serde_json::from_slice(&text) {
                        return Ok(Some(entry));
                    }
                }
                None => return Ok(None),
            }
        }
    }

    /// Looks whether the file has become the older one since; call it when [`read`](Self::read) has nothing more.
    pub fn renew(&mut self) {
        use std::os::unix::fs::MetadataExt;
        let inode = |m: io::Result<fs::Metadata>| m.ok().map(|m| m.ino());
        let mine = self.file.as_ref().and_then(|f| inode(f.get_ref().metadata()));
        if mine.is_none() || mine != inode(fs::metadata(&self.path)) {
            // It may have got more between the last look and now.
            self.before.extend(self.file.take());
            self.file = File::open(&self.path).ok().map(BufReader::new);
        }
    }
}

/// A line with its newline; what is not finished waits in `unfinished`.
fn line(file: &mut BufReader<File>, unfinished: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    file.by_ref().take(1 << 20).read_until(b'\n', unfinished)?;
    if unfinished.last() != Some(&b'\n') {
        return Ok(None);
    }
    Ok(Some(std::mem::take(unfinished)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(folder: &Path) -> Vec<String> {
        let mut reader = Reader::open(folder);
        std::iter::from_fn(|| reader.read().unwrap()).map(|e| e.log).collect()
    }

    #[test]
    fn lines_are_entries() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Writer::open(folder.path(), LIMIT).unwrap();
        log.note(1, b"one\ntw").unwrap();
        log.note(2, b"error\n").unwrap();
        log.note(1, b"o\nthree").unwrap();
        assert_eq!(texts(folder.path()), ["one\n", "error\n", "two\n"]);
        log.finish().unwrap();
        assert_eq!(texts(folder.path()).last().unwrap(), "three");
    }

    #[test]
    fn a_long_line_is_cut_and_bad_text_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Writer::open(folder.path(), LIMIT).unwrap();
        log.note(1, &[b'x'; 40_000]).unwrap();
        log.note(1, b"\xff\n").unwrap();
        let lengths: Vec<usize> = texts(folder.path()).iter().map(|t| t.chars().count()).collect();
        assert_eq!(lengths, [16_384, 16_384, 40_000 - 2 * 16_384 + 2]);
    }

    #[test]
    fn it_never_outgrows_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Writer::open(folder.path(), 20_000).unwrap();
        for n in 0..2000 {
            log.note(1, format!("line {n}\n").as_bytes()).unwrap();
        }
        let files = fs::read_dir(folder.path()).unwrap().flatten();
        let size: u64 = files.map(|f| f.metadata().unwrap().len()).sum();
        assert!((10_000..=20_000).contains(&size), "{size}");
        assert_eq!(texts(folder.path()).last().unwrap(), "line 1999\n");
    }

    #[test]
    fn a_reader_follows_over_a_change_of_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Writer::open(folder.path(), 2000).unwrap();
        let mut reader = Reader::open(folder.path());
        let mut seen = Vec::new();
        for n in 0..200 {
            log.note(1, format!("{n}\n").as_bytes()).unwrap();
            reader.renew();
            while let Some(entry) = reader.read().unwrap() {
                seen.push(entry.log.trim().parse::<usize>().unwrap());
            }
        }
        assert_eq!(seen, (0..200).collect::<Vec<_>>());
    }
}
