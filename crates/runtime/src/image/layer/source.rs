//! A layer's bytes on their way from the file to the reader of its archive:
//!
//! ```text
//!  file ── decompress (a thread) ──┬── chunks ──▶ whoever unpacks
//!                                  └── chunks ──▶ digest (a thread)
//! ```
//!
//! A chunk is written once and read by both. The channels are short, so that the slower sets the pace.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::LayerError;
use crate::image::{Digest, Hasher, Limits, Meter};

type Chunk = Arc<Vec<u8>>;

/// Bytes of a chunk: few system calls for large files, and still in the processor's cache when it is read.
const CHUNK: usize = 128 << 10;
/// Chunks on the way at most.
const DEPTH: usize = 8;

/// The unpacked archive, chunk by chunk.
pub(crate) struct Source {
    chunks: Receiver<Result<Chunk, LayerError>>,
    chunk: Chunk,
    at: usize,
    /// Bytes that have been taken.
    pub(super) taken: u64,
}

impl Source {
    /// What is there next; empty only at the end.
    pub(super) fn peek(&mut self) -> Result<&[u8], LayerError> {
        while self.at == self.chunk.len() {
            match self.chunks.recv() {
                Ok(chunk) => (self.chunk, self.at) = (chunk?, 0),
                Err(_) => return Ok(&[]),
            }
        }
        Ok(&self.chunk[self.at..])
    }

    /// Goes on by `count` bytes that [`peek`](Self::peek) has shown.
    pub(super) fn take(&mut self, count: usize) {
        self.at += count;
        self.taken += count as u64;
    }

    /// Fills `buffer` as far as there are bytes and says how far that was.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        let mut done = 0;
        while done < buffer.len() {
            let there = self.peek()?;
            let count = there.len().min(buffer.len() - done);
            if count == 0 {
                break;
            }
            buffer[done..done + count].copy_from_slice(&there[..count]);
            self.take(count);
            done += count;
        }
        Ok(done)
    }

    /// Reads to the end: all bytes belong to the digest.
    pub(super) fn drain(&mut self) -> Result<(), LayerError> {
        loop {
            match self.peek()?.len() {
                0 => return Ok(()),
                count => self.take(count),
            }
        }
    }
}

/// Decompresses `input`, whatever of gzip, zstd and plain it is, lets `work` read it, and gives what that
/// returned with the digest of the whole.
///
/// # Errors
/// [`LayerError`], from here or from `work`.
pub(crate) fn decompress<T>(
    input: impl Read + Send,
    limits: &Limits,
    meter: &dyn Meter,
    work: impl FnOnce(&mut Source) -> Result<T, LayerError>,
) -> Result<(T, Digest), LayerError> {
    thread::scope(|scope| {
        let (chunks, receiver) = sync_channel(DEPTH);
        let (copies, hashed) = sync_channel::<Chunk>(DEPTH);
        let reader = scope.spawn(move || {
            if let Err(error) = pump(input, limits, meter, &chunks, &copies) {
                let _ = chunks.send(Err(error)); // nobody listens: the work has failed by itself
            }
        });
        let digest = scope.spawn(move || {
            let mut hasher = Hasher::default();
            hashed.iter().for_each(|chunk| hasher.update(&chunk));
            hasher.finish()
        });
        let mut source = Source { chunks: receiver, chunk: Chunk::default(), at: 0, taken: 0 };
        let done = work(&mut source).and_then(|value| source.drain().map(|()| value));
        drop(source); // the reader may wait for room
        for thread in [reader.join(), Ok(())] {
            thread.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        let digest = digest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        done.map(|value| (value, digest))
    })
}

/// Reads, decompresses and hands out, until the end or until nobody takes it any more.
fn pump(
    input: impl Read,
    limits: &Limits,
    meter: &dyn Meter,
    chunks: &SyncSender<Result<Chunk, LayerError>>,
    copies: &SyncSender<Chunk>,
) -> Result<(), LayerError> {
    let failed = |source| LayerError::Decompress { source };
    let read = Rc::new(Cell::new(0));
    let counted = Counted { input, read: Rc::clone(&read) };
    let mut decoder = decoder(BufReader::with_capacity(CHUNK, counted)).map_err(failed)?;
    let (mut out, mut seen) = (0, 0);
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        decoder.by_ref().take(CHUNK as u64).read_to_end(&mut chunk).map_err(failed)?;
        if chunk.is_empty() {
            return Ok(());
        }
        out += chunk.len() as u64;
        meter.advance(read.get() - seen);
        seen = read.get();
        if out > limits.unpacked {
            return Err(LayerError::Limit { what: "bytes when unpacked", limit: limits.unpacked });
        }
        if out > Limits::RATIO_FREE && out / limits.ratio.max(1) > seen {
            return Err(LayerError::Bomb { ratio: limits.ratio });
        }
        let chunk = Arc::new(chunk);
        let copy = Arc::clone(&chunk);
        if chunks.send(Ok(chunk)).is_err() || copies.send(copy).is_err() {
            return Ok(());
        }
    }
}

/// By the first bytes, not by what a media type claims: the digest of what comes out is checked in any case.
fn decoder<'a>(mut input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let magic = input.fill_buf()?;
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        // A frame (RFC 8878, 3.1.1), or one to be skipped (3.1.2) as zstd:chunked may put first.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(27)?; // 128 MiB of memory at most, what the program zstd takes
            Box::new(decoder)
        }
        _ => Box::new(input),
    })
}

/// Counts what is read from the file.
struct Counted<R> {
    input: R,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.read.set(self.read.get() + count as u64);
        Ok(count)
    }
}
