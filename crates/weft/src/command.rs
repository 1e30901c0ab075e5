//! The commands, one file each.

pub(crate) mod agent;
pub(crate) mod apply;
pub(crate) mod attach;
pub(crate) mod bandwidth;
pub(crate) mod cni;
pub(crate) mod delete;
pub(crate) mod detach;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod install;
pub(crate) mod inventory;
pub(crate) mod lab;
pub(crate) mod network;
pub(crate) mod plan;
pub(crate) mod status;
pub(crate) mod uninstall;
pub(crate) mod version;
