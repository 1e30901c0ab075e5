//! `weft`: every command a person types, the agent among them.
//!
//! Nothing here changes a network: commands ask the agent, or call the crates that do.

mod away;
mod cli;
mod client;
mod command;
mod containers;
mod failure;
mod install;
mod manifest;
mod member;
mod output;
mod place;
mod process;
mod progress;
mod reference;
mod render;
mod settings;
mod table;
mod target;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
