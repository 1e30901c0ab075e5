//! Fixtures for tests with whole programs: a private host, images, and real container engines.
//!
//! [`Sandbox`] is the host, [`Network`] the CNI network under test, an [`Engine`] the runtime that
//! calls it, and [`suite::run`] what every pair of them has to pass.
//!
//! A network of one's own is a folder of plugins, a conflist, and how its host is made ready:
//!
//! ```no_run
//! use std::path::Path;
//! use weft_tests::containerd::{Containerd, Release, SOCKET};
//! use weft_tests::{Network, Sandbox, cri::Cri, suite, wait};
//!
//! # fn main() -> anyhow::Result<()> {
//! let conflist = r#"{ "cniVersion": "1.1.0", "name": "weft", "plugins": [{ "type": "weft-cni" }] }"#;
//! let network = Network::new("target/debug", conflist)?
//!     .prepare(|host| {
//!         host.copy_in(Path::new("target/debug/weft"), "/run/bin/weft")?;
//!         host.daemon("agent", &[], &["/run/bin/weft", "agent"])?.leave();
//!         wait::until("the agent", wait::LONG, || host.run(&["/run/bin/weft", "status"]).map(|_| ()))
//!     })
//!     .leaks(|host| {
//!         let kept = host.run(&["/run/bin/weft", "inventory"])?;
//!         Ok(kept.lines().map(str::to_owned).collect())
//!     });
//! let host = Sandbox::new()?;
//! let _containerd = Containerd::start(&host, &network, Release::two()?)?;
//! suite::run(&host, &network, &Cri::connect(&host, SOCKET)?)
//! # }
//! ```

pub mod cases;
pub mod chain;
pub mod cnitool;
pub mod confinement;
pub mod containerd;
pub mod containers;
pub mod cri;
pub mod engine;
pub mod fleet;
pub mod ground;
pub mod host;
pub mod images;
pub mod network;
pub mod outside;
pub mod podman;
pub mod programs;
pub mod reference;
pub mod registry;
pub mod sandbox;
pub mod scene;
pub mod services;
pub mod snapshot;
pub mod streams;
pub mod suite;
pub mod wait;
pub mod weft;

pub use confinement::Confinement;
pub use engine::Engine;
pub use host::{Agent, Host};
pub use network::Network;
pub use sandbox::Sandbox;
