//! `make bench-policy` and `make bench-path`: what policy costs, measured.

#![allow(clippy::print_stdout, reason = "the tables are what this program is for")]

mod changes;
mod course;
mod packets;
mod path;
mod report;
mod resident;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use weft_benches::{document, machine};

use self::report::Report;

const USAGE: &str =
    "usage: bench-policy policy|changes|packets|resident|path [--write FILE] [--gate] [--weft PATH]";

fn main() -> Result<ExitCode> {
    let mut words = std::env::args().skip(1);
    let what = words.next().context(USAGE)?;
    if what == "hold" {
        return resident::hold().map(|()| ExitCode::SUCCESS);
    }
    let (mut write, mut gate, mut weft) = (None, false, PathBuf::from("target/dist/weft"));
    while let Some(word) = words.next() {
        match word.as_str() {
            "--gate" => gate = true,
            "--write" => write = Some(words.next().context("--write: in which file?")?),
            "--weft" => weft = words.next().context("--weft: which program?")?.into(),
            _ => bail!(USAGE),
        }
    }
    let mut report = Report::default();
    report.line(&format!("Measured on {}.", machine::describe()));
    match what.as_str() {
        "policy" => {
            resident::run(&mut report)?;
            changes::run(&mut report)?;
            packets::run(&mut report)?;
        }
        "changes" => changes::run(&mut report)?,
        "packets" => packets::run(&mut report)?,
        "resident" => resident::run(&mut report)?,
        "path" => path::run(&std::path::absolute(weft)?, &mut report)?,
        _ => bail!(USAGE),
    }
    let passed = report.finish();
    if let Some(file) = write {
        let name = if what == "path" { "bench-path" } else { "bench-policy" };
        document::write(file.as_ref(), name, report.text())
            .with_context(|| format!("failed to write {file}"))?;
    }
    Ok(if gate && !passed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
