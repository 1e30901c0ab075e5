//! Whole calls of the plugin in this process, with a stand-in for the agent on a real socket.

#![allow(clippy::unwrap_used, reason = "the stand-ins are tests too, though not marked as such")]

mod add;
mod agent;
mod binary;
mod check;
mod del;
mod gc;
mod golden;
mod hostile;
mod ipam;
mod properties;
mod scene;
mod status;
mod version;
