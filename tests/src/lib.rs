//! Fixtures for tests with whole programs: a private host, images, and real container engines.
//!
//! [`Sandbox`] is the host, [`Network`] the CNI network under test, an [`Engine`] the runtime that
//! calls it, and [`suite::run`] what every pair of them has to pass.

pub mod cnitool;
pub mod containerd;
pub mod cri;
pub mod engine;
pub mod images;
pub mod network;
pub mod podman;
pub mod programs;
pub mod scene;
pub mod sandbox;
pub mod snapshot;
pub mod suite;
pub mod wait;

pub use engine::Engine;
pub use network::Network;
pub use sandbox::Sandbox;
