//! The container runner behind `weft run`: images, layers, cgroups, and the life of a process.
//!
//! There is no daemon: each container has a small process of its own that holds it, the shim.
//! Nothing here programs the network; the agent does, when it is asked.

pub mod image;
