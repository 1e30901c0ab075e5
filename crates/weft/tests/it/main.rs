//! The whole program: what it prints, how it exits, what it leaves in a directory tree.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "clippy takes only #[test] functions for tests, not what they share"
)]

mod away;
mod canned;
mod cni;
mod explain;
mod host;
mod hostile;
mod install;
mod policy;
mod reference;
mod scene;
mod shapes;
mod text;
mod uninstall;
mod upgrade;
