//! Which workload has which address: pools, reservations, rest after release, subnets to choose.
//!
//! Nothing here reads a clock, a file or the kernel: the time comes with the call, and the same calls
//! give the same addresses.
//!
//! ```text
//!   Addresses (one network on this node)
//!     ├─ Pool 10.119.0.0/16    reserved | used | resting | free      each address is in exactly one
//!     └─ Pool fd…::/64         free = runs of neighbouring addresses, so size costs nothing
//! ```

pub mod block;
mod error;
mod network;
mod number;
mod pool;
mod range;
mod runs;
mod subnet;
#[cfg(test)]
mod tests;

pub use error::{AddressError, Role};
pub use network::{Addresses, Wish};
pub use number::Family;
pub use pool::{Pool, REST};
pub use subnet::{SubnetError, choose_subnets, overlaps, validate_subnet};
