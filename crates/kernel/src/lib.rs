//! How Linux is spoken to: netlink, network namespaces, nftables, sysctl; and a [`fake`] kernel.
//!
//! The one island of `unsafe`. Synchronous throughout, because namespaces belong to threads.
//! Nothing here knows what a workload or a service is, and no program is ever executed.

pub mod change;
pub mod fake;
pub mod linux;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod offload;
pub mod ours;
pub mod packet;
pub mod peer;
pub mod rtnl;
pub mod state;
pub mod sysctl;

pub use change::{Cause, Change, ChangeError, Kernel, ReadError};
pub use fake::FakeKernel;
pub use linux::Linux;
pub use state::State;
