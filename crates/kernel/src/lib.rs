//! How Linux is spoken to: netlink, network namespaces, nftables, sysctl; and a [`fake`] kernel.
//!
//! The one island of `unsafe`. Synchronous throughout, because namespaces belong to threads.
//! Nothing here knows what a workload or a service is, and no program is ever executed.

pub mod netlink;
pub mod netns;
pub mod nft;
