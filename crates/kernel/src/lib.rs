//! How Linux is spoken to: netlink, network namespaces, nftables, sysctl; and a [`fake`] kernel.
//!
//! The one island of `unsafe`. Synchronous throughout, because namespaces belong to threads.
//! Nothing here knows what a workload or a service is, and no program is ever executed.

pub mod agent;
pub mod bpf;
pub mod change;
pub mod clock;
pub mod conntrack;
pub mod device;
pub mod fake;
pub mod filter;
pub mod journal;
pub mod linux;
pub mod listeners;
pub mod loopback;
pub mod memory;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod nflog;
pub mod nft;
pub mod offload;
pub mod ours;
pub mod packet;
pub mod peer;
pub mod process;
pub mod rtnl;
pub mod signal;
pub mod state;
pub mod sysctl;

pub use change::{Cause, Change, ChangeError, Kernel, ReadError};
pub use fake::FakeKernel;
pub use linux::Linux;
pub use state::State;
