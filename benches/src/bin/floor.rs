//! The floor as a program, executed as a runtime executes a plugin: `floor add|del NUMBER NETNS`.

use std::path::Path;

use anyhow::{Result, bail};
use weft_benches::floor::{self, Wire};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "add", number, netns] => floor::add(&Wire::new(number.parse()?), Path::new(netns)),
        [_, "del", number, _] => floor::delete(&Wire::new(number.parse()?)),
        _ => bail!("usage: floor add|del NUMBER NETNS"),
    }
}
