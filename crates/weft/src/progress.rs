//! How far long work is: bars on a terminal, a line for each piece elsewhere, nothing with `--json`. All of it on
//! standard error.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use weft_runtime::image::{Act, Digest, Meter, Progress, Quiet};

use crate::output::{Output, complain};
use crate::render::image::bytes;

/// Whoever watches, given how this run speaks.
pub(crate) fn watcher(output: Output) -> Box<dyn Progress> {
    if output.json {
        Box::new(Quiet)
    } else if std::io::stderr().is_terminal() {
        Box::new(Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10))))
    } else {
        Box::new(Lines)
    }
}

fn word(act: Act) -> &'static str {
    match act {
        Act::Download => "fetching",
        Act::Copy => "copying",
        Act::Unpack => "unpacking",
        Act::Present => "present",
    }
}

/// An archive as a whole has no digest yet.
fn name(what: &Digest) -> String {
    if *what == Digest::of(b"") { "archive".to_owned() } else { what.short() }
}

struct Bars(MultiProgress);

impl Progress for Bars {
    fn begin(&self, act: Act, what: &Digest, total: Option<u64>) -> Box<dyn Meter> {
        if act == Act::Present {
            return Box::new(Quiet);
        }
        let template = match total {
            Some(_) => {
                "{prefix:12} {msg:9} [{bar:28}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}"
            }
            None => "{prefix:12} {msg:9} {binary_bytes} {binary_bytes_per_sec}",
        };
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar()) // a plain bar is better than none
            .progress_chars("=> ");
        let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
        let bar = self.0.add(bar.with_style(style).with_prefix(name(what)).with_message(word(act)));
        Box::new(Bar(bar))
    }
}

struct Bar(ProgressBar);

impl Meter for Bar {
    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    fn done(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

struct Lines;

impl Progress for Lines {
    fn begin(&self, act: Act, what: &Digest, _: Option<u64>) -> Box<dyn Meter> {
        if act == Act::Present {
            return Box::new(Quiet);
        }
        Box::new(Line { act, what: name(what), seen: AtomicU64::new(0) })
    }
}

struct Line {
    act: Act,
    what: String,
    seen: AtomicU64,
}

impl Meter for Line {
    fn advance(&self, bytes: u64) {
        self.seen.fetch_add(bytes, Ordering::Relaxed);
    }

    fn done(&self) {
        let did = match self.act {
            Act::Download => "fetched",
            Act::Copy => "copied",
            Act::Unpack => "unpacked",
            Act::Present => "present",
        };
        complain(&format!("{did} {}  {}\n", self.what, bytes(self.seen.load(Ordering::Relaxed))));
    }
}
