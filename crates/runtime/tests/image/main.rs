//! Layers and the store on the real file system, as root: what is benign becomes what GNU tar makes of it, and what
//! is hostile touches nothing outside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod hostile;
mod layers;
mod pack;
mod random;
mod store;
