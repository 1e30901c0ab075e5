//! Waiting for conditions, with a bound: never a sleep in the hope that something has happened.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Long enough for a starved machine; a test that meets its condition never waits for it.
pub const LONG: Duration = Duration::from_secs(60);

/// Calls `probe` until it succeeds, and gives its value.
///
/// # Errors
/// The last failure of `probe`, once `bound` has passed.
pub fn until<T>(what: &str, bound: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > bound => {
                return Err(error).with_context(|| format!("waited {} s for {what}", bound.as_secs()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
