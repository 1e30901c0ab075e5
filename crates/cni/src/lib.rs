//! The CNI plugin: what a container runtime executes to connect a container to a weft network.
//!
//! It parses what the runtime says, asks the node's agent over its socket, and prints the answer in the
//! words of the CNI version asked for. It touches neither the kernel's network nor any state of its own;
//! the one thing it writes are journal entries for detachments that no agent has heard of.
//!
//! Source of all rules: CNI SPEC.md 1.1.0 and the result formats of the versions before it.

mod args;
mod commands;
mod conf;
mod env;
mod error;
mod field;
mod host;
mod ipam;
mod offline;
mod result;
mod run;
mod version;

pub use args::{Args, ArgsError};
pub use conf::{Conf, ConfError, Dns, Essentials, GcConf, RuntimeConfig};
pub use env::{Command, Env, EnvError};
pub use field::FieldError;
pub use host::Host;
pub use result::{CniResult, Interface, Ip, Route, RouteAttributes};
pub use run::{Streams, run};
pub use version::{SpecVersion, UnknownVersion};
pub use weft_kernel::journal::JournalError;
