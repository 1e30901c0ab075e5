//! Netlink: messages, attributes and the socket, for routing and nftables alike.
//!
//! One small codec serves both families; see docs/decisions/0002 for why it is our own.

mod attribute;
mod message;
mod socket;

pub use attribute::{Attribute, Attributes, attributes, find};
pub use message::{Message, Messages};
pub(crate) use socket::verdict;
pub use socket::{Error, Family, Refusal, Socket};
