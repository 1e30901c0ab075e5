//! `bench-unpack`: layers unpacked by weft beside `zstd -dc LAYER | tar -x` and `gzip -dc LAYER | tar -x` of the same
//! archives, turn by turn, in one folder. weft also checks both digests and every path; tar does not.
//!
//! Unpacking is what is timed, by the clock and in computing time, which a busy machine spoils less. Writing to the disk
//! is timed by itself, for both: it is the disk's speed, not theirs.
//!
//! `bench-unpack [FOLDER [ROUNDS]]`

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use weft_runtime::image::{Policy, Quiet, unpack};

/// Turns of each, unless something else is said.
const ROUNDS: usize = 7;
/// What weft may take of tar's time (issue 4).
const GATE: f64 = 1.2;

/// What layers are packed from: trees that every Debian has.
const LAYERS: [(&str, &[&str]); 2] = [
    ("programs: few large files", &["usr/bin", "usr/sbin"]),
    (
        "a system: many small files",
        &["usr/share/doc", "usr/share/zoneinfo", "usr/share/man", "usr/lib/python3", "etc"],
    ),
];

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let folder = words.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let rounds = words.next().and_then(|rounds| rounds.parse().ok()).filter(|n| *n > 0).unwrap_or(ROUNDS);
    match run(&folder, rounds) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("bench-unpack: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Where a result is written; a reader that has gone needs nothing more.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Times of one way, in seconds.
#[derive(Default)]
struct Times {
    unpack: Vec<f64>,
    /// Of all processors together.
    computing: Vec<f64>,
    sync: Vec<f64>,
}

fn run(folder: &Path, rounds: usize) -> Result<bool> {
    let name = format!("weft-bench-{}", std::process::id());
    let place = Place(folder.join(name));
    fs::create_dir(&place.0).with_context(|| format!("failed to make {}", place.0.display()))?;
    say(
        "| layer | files | unpacked | tar | weft | ratio | MiB/s | computing: tar, weft | to the disk: tar, weft |",
    );
    say("|---|---|---|---|---|---|---|---|---|");
    let mut kept = true;
    for (what, trees) in LAYERS {
        for program in ["zstd", "gzip"] {
            kept &= layer(&place.0, what, trees, program, rounds)?;
        }
    }
    say(&format!("weft takes at most {GATE} of tar's time: {}", if kept { "yes" } else { "NO" }));
    Ok(kept)
}

/// A folder that goes with this value.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // a measurement's remains are no failure of it
    }
}

fn layer(place: &Path, what: &str, trees: &[&str], program: &str, rounds: usize) -> Result<bool> {
    let (archive, packed) = (place.join("layer.tar"), place.join("layer.packed"));
    let trees: Vec<&str> = trees.iter().copied().filter(|tree| Path::new("/").join(tree).exists()).collect();
    let words =
        [&["--format=gnu", "--numeric-owner", "-C", "/", "-cf", text(&archive)?][..], &trees].concat();
    succeed(Command::new("tar").args(words).stderr(Stdio::null()))?;
    let level = if program == "zstd" { "-3" } else { "-6" };
    succeed(Command::new(program).args([level, "-c", text(&archive)?]).stdout(File::create(&packed)?))?;
    let (mut tar, mut weft) = (Times::default(), Times::default());
    let mut done = None;
    for round in 0..rounds {
        // Who is first has the warmer cache or the colder disk: they change places.
        for turn in 0..2 {
            let into = place.join("into");
            fs::create_dir(&into)?;
            let (begin, before) = (Instant::now(), computing()?);
            let times = if (round + turn) % 2 == 0 {
                by_tar(program, &packed, &into)?;
                &mut tar
            } else {
                done = Some(unpack(File::open(&packed)?, &into, &[], &Policy::default(), &Quiet)?);
                &mut weft
            };
            times.unpack.push(begin.elapsed().as_secs_f64());
            times.computing.push(computing()? - before);
            let begin = Instant::now();
            rustix::fs::syncfs(File::open(&into)?)?;
            times.sync.push(begin.elapsed().as_secs_f64());
            fs::remove_dir_all(&into)?;
            rustix::fs::syncfs(File::open(place)?)?;
        }
    }
    let done = done.context("nothing was unpacked")?;
    let (theirs, ours) = (median(&mut tar.unpack), median(&mut weft.unpack));
    let size = fs::metadata(&archive)?.len() as f64 / f64::from(1 << 20);
    let ratio = ours / theirs;
    say(&format!(
        "| {what}, {program} | {} | {size:.0} MiB | {theirs:.2} s | {ours:.2} s | {ratio:.2} | {:.0} | {:.2} s, {:.2} s | {:.2} s, {:.2} s |",
        done.entries,
        size / ours,
        median(&mut tar.computing),
        median(&mut weft.computing),
        median(&mut tar.sync),
        median(&mut weft.sync),
    ));
    fs::remove_file(&archive)?;
    fs::remove_file(&packed)?;
    Ok(ratio <= GATE)
}

/// As a person would type it: both programs at once, joined by a pipe.
fn by_tar(program: &str, packed: &Path, into: &Path) -> Result<()> {
    let mut first = Command::new(program).args(["-dc", text(packed)?]).stdout(Stdio::piped()).spawn()?;
    let pipe = first.stdout.take().context("no pipe")?;
    let words = ["--numeric-owner", "--same-owner", "-p", "-C", text(into)?, "-xf", "-"];
    succeed(Command::new("tar").args(words).stdin(pipe))?;
    ensure!(first.wait()?.success(), "{program} failed");
    Ok(())
}

/// Computing time of this process and of its children that have ended, in seconds (proc(5), stat).
fn computing() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("no name in /proc/self/stat")?;
    let ticks = fields.split_whitespace().skip(11).take(4).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("failed to run {command:?}"))?;
    // tar says 1 when a file changed while it was read.
    if status.success() || status.code() == Some(1) { Ok(()) } else { bail!("{command:?}: {status}") }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not text")
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}
