//! Why an address could not be had, and what to do about it.
//!
//! Never decides anything: the pools do, these are the words for it.

use std::net::IpAddr;

use weft_model::api::{self, ErrorKind};
use weft_model::{AttachmentId, NetworkName};

use super::number::Family;

/// What an address is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The host's own address in the subnet, the first after the network address.
    Gateway,
    /// The subnet's own address (IPv4).
    Network,
    /// The subnet's last address (IPv4).
    Broadcast,
    /// The subnet-router anycast address (RFC 4291, 2.6.1).
    Anycast,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Gateway => "the gateway",
            Role::Network => "the network address",
            Role::Broadcast => "the broadcast address",
            Role::Anycast => "the subnet-router anycast address",
        })
    }
}

/// Why an address could not be had. One line each; [`AddressError::hint`] says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Every address that could have been given is held.
    #[error("no address is left in {place}: {used} used, {resting} resting, {usable} usable")]
    Exhausted {
        /// The subnet, or the ranges that were asked for.
        place: String,
        /// Held by workloads.
        used: u64,
        /// Freed a short while ago.
        resting: u64,
        /// All that a workload could have.
        usable: u64,
        /// Whether the request narrowed the choice to ranges.
        ranged: bool,
    },
    /// The address is in no subnet that this node gives addresses from.
    #[error("{address} lies outside network {network} ({subnets})")]
    OutsideNetwork {
        /// The address.
        address: IpAddr,
        /// The network.
        network: NetworkName,
        /// What it has, separated by commas.
        subnets: String,
    },
    /// The address lies in the network, and in no block of this node.
    #[error("{address} lies in network {network}, but not in this host's part of it ({blocks})")]
    NotHeld {
        /// The address.
        address: IpAddr,
        /// The network.
        network: NetworkName,
        /// This node's blocks, separated by commas.
        blocks: String,
    },
    /// No workload can have this address.
    #[error("{address} is {role} of network {network}")]
    Reserved {
        /// The address.
        address: IpAddr,
        /// What it is kept for.
        role: Role,
        /// The network.
        network: NetworkName,
    },
    /// Another attachment has it.
    #[error("{address} is held by {by}, so {wanted} cannot have it")]
    Taken {
        /// The address.
        address: IpAddr,
        /// Who has it.
        by: AttachmentId,
        /// Who wanted it.
        wanted: AttachmentId,
    },
    /// A range makes no sense, or not in this network.
    #[error("range {range}: {why}")]
    BadRange {
        /// The range as it was given.
        range: String,
        /// What is wrong with it.
        why: String,
    },
    /// The network has no subnet of this family.
    #[error("network {network} has no {family} subnet")]
    FamilyNotInNetwork {
        /// The family asked for.
        family: Family,
        /// The network.
        network: NetworkName,
    },
    /// An interface has at most one address per family.
    #[error("{id} asks for more than one {family} address")]
    MoreThanOne {
        /// Who asked.
        id: AttachmentId,
        /// The family asked for twice.
        family: Family,
    },
    /// The attachment has addresses already.
    #[error("{id} has its addresses already: {addresses}")]
    AlreadyAttached {
        /// The attachment.
        id: AttachmentId,
        /// What it holds, separated by commas.
        addresses: String,
    },
}

impl AddressError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            AddressError::Exhausted { ranged: true, .. } => {
                "widen the range (ipRanges), or remove workloads that are no longer needed".into()
            }
            AddressError::Exhausted { .. } => {
                "remove workloads that are no longer needed, or create a network \
                 with a larger subnet: weft network create NAME --subnet CIDR"
                    .into()
            }
            AddressError::OutsideNetwork { subnets, .. } => format!("choose an address in {subnets}"),
            AddressError::NotHeld { .. } => {
                "ask on the host that holds it, choose another address, or wait until this host has that block"
                    .into()
            }
            AddressError::Reserved { .. } => {
                "choose another address, or leave the choice to weft by asking for none".into()
            }
            AddressError::Taken { by, .. } => format!("choose another address, or remove {by} first"),
            AddressError::BadRange { .. } => {
                "give a subnet inside the network's, and first and last address inside that: \
                 rangeStart <= rangeEnd"
                    .into()
            }
            AddressError::FamilyNotInNetwork { .. } => {
                "ask for an address of a family the network has; see `weft network ls`".into()
            }
            AddressError::MoreThanOne { .. } => {
                "ask for one address per family; a second interface can have another".into()
            }
            AddressError::AlreadyAttached { .. } => "detach it first (CNI: DEL before a second ADD)".into(),
        }
    }
}

impl From<AddressError> for api::Error {
    fn from(error: AddressError) -> api::Error {
        let kind = match error {
            AddressError::Exhausted { .. } => ErrorKind::Exhausted,
            AddressError::NotHeld { .. } => ErrorKind::TryAgain,
            AddressError::Taken { .. } | AddressError::AlreadyAttached { .. } => ErrorKind::Exists,
            AddressError::OutsideNetwork { .. }
            | AddressError::Reserved { .. }
            | AddressError::BadRange { .. }
            | AddressError::FamilyNotInNetwork { .. }
            | AddressError::MoreThanOne { .. } => ErrorKind::Invalid,
        };
        api::Error::new(kind, error.to_string()).hint(error.hint())
    }
}
