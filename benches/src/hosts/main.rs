//! `make bench-overlay` and `make bench-scale`: several hosts, measured.

#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

mod churn;
mod overlay;
mod scale;

use anyhow::{Result, bail};
use weft_benches::machine;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    println!("{}", machine::describe());
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["overlay", program] => overlay::run(program.as_ref()),
        ["scale", program] => scale::run(program.as_ref()),
        _ => bail!("usage: bench-hosts overlay|scale PATH-OF-WEFT"),
    }
}
