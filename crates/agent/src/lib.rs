//! The node agent: store → plan → dataplane, and the socket on which people and plugins speak to it.

pub mod config;
pub mod host;

pub use config::{Config, ConfigError};

use weft_model::api::Owned;

/// Runs the agent until it is told to stop. Traffic goes on without it.
///
/// # Errors
/// What keeps it from starting, in words for a person.
pub fn run(_config: &Config) -> Result<(), String> {
    Err("not yet".to_owned())
}

/// Everything of weft's in this kernel, read without an agent.
///
/// # Errors
/// When the kernel cannot be read.
pub fn inventory() -> Result<Vec<Owned>, String> {
    Ok(Vec::new())
}

/// Removes everything of weft's from this kernel and puts back the settings that it had changed,
/// without an agent. Returns the equivalent commands of what was done. Absence is success.
///
/// # Errors
/// What could not be removed.
pub fn remove_all(_config: &Config) -> Result<Vec<String>, String> {
    Ok(Vec::new())
}
