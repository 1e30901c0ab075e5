//! The container runner behind `weft run`: images, layers, cgroups, and the life of a process.
//!
//! There is no daemon: each container has a small process of its own that holds it, the [`shim`].
//! Nothing here programs the network; the agent does, when it is asked.

mod birth;
pub mod cgroup;
pub mod channel;
pub mod container;
mod etc;
pub mod explain;
pub mod image;
pub mod launch;
pub mod log;
pub mod name;
pub mod places;
pub mod reconcile;
pub mod release;
pub mod report;
pub mod rootfs;
pub mod seat;
mod seccomp;
pub mod shim;
pub mod spec;
pub mod stop;
pub mod time;
mod users;
pub mod wish;

pub use container::Container;
pub use name::Name;
pub use places::Places;
pub use report::Refusal;
pub use spec::Spec;
