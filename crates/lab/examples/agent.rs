//! An agent without the rest of `weft`.
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let path = std::env::args().nth(3).ok_or("usage: agent agent --config FILE")?;
    Ok(weft_agent::run(&weft_agent::Config::load(Path::new(&path))?)?)
}
