//! Who may speak to whom: the world's policies, resolved for the workloads of this host.
//!
//! ```text
//!   objects ──[`resolve`]──▶ terms in order ──[`compile`]──▶ rows: (class of peers) → ports that pass
//!                              │
//!                              └──[`verdict`]──▶ one packet, with names: the oracle, and `weft explain`
//! ```
//!
//! Addresses that no policy here tells apart are one class and need no entry. A class is what matches the same set of the
//! peers that local policies mention; its digest is made from them alone, so that it means the same after every change.
//!
//! What stands is kept in an index, [`Standing`]: a change of one policy, namespace or workload derives anew what hangs on it and
//! says in what the plan differs, [`Difference`]. The plan of a whole world is the same, with everything changed.

pub mod cases;
pub mod compile;
pub mod difference;
pub mod explain;
pub mod fix;
pub mod host;
pub mod matcher;
pub mod numbering;
pub mod resolve;
pub mod standing;
pub mod tables;
pub mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use weft_model::policy::{Direction, Failsafe};
use weft_model::{AttachmentId, IfName};

pub use compile::{Ports, Row};
pub use difference::Difference;
pub use numbering::Numbering;
pub use resolve::{Rule, Terms};
pub use standing::{Standing, Touched};
pub use tables::Tables;
pub use verdict::{Packet, Verdict, verdict};

/// What tells a class of peers from others: a digest of the matchers that its members match. Zero: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Class(pub u64);

impl Class {
    /// Whatever no policy here mentions.
    pub const REST: Class = Class(0);
}

/// What the policies of the world come to on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PolicyPlan {
    /// Workloads of which at least one direction is judged.
    pub subjects: BTreeMap<AttachmentId, Subject>,
    /// The host itself, if it is judged; the name of its wire's end is [`host::HOST`].
    pub host: Option<Subject>,
    /// What passes to and from the host all the same.
    pub failsafe: Failsafe,
    /// The class of each workload's address, if it is not [`Class::REST`].
    pub peers: BTreeMap<IpAddr, Class>,
    /// The class of further addresses: by the first of each range its last; ranges do not overlap.
    pub blocks: BTreeMap<IpAddr, (IpAddr, Class)>,
    /// Every class with its number in the packet's mark: 1 to [`numbering::LAST`].
    pub classes: BTreeMap<Class, u16>,
    /// What judging must be able to do; absent if nobody here is judged.
    pub frame: Option<Frame>,
    /// Policies that cannot be in force as they were meant, and why.
    pub problems: Vec<String>,
}

/// What judging must be able to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// By how many leading bits ranges of ports are given ([`compile::prefixes`]): 1 to 15.
    pub bits: BTreeSet<u8>,
    /// Whether something is under audit.
    pub audit: bool,
    /// Whether workloads are judged, and not only the host. What the host asks for is not among the above.
    pub workloads: bool,
}

/// A workload whose traffic is judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// `namespace/container`.
    pub name: String,
    /// The host's end of its wire.
    pub host_end: IfName,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// What may reach it.
    pub ingress: Option<Arc<Judged>>,
    /// What it may reach.
    pub egress: Option<Arc<Judged>>,
}

impl PolicyPlan {
    /// All whose traffic is judged, the host among them.
    pub fn all(&self) -> impl Iterator<Item = &Subject> {
        self.subjects.values().chain(&self.host)
    }

    /// Whether nobody's traffic is judged.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.subjects.is_empty() && self.host.is_none()
    }
}

impl Subject {
    /// What judges a direction.
    #[must_use]
    pub fn judged(&self, direction: Direction) -> Option<&Judged> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// What judges one direction of a workload. Workloads that the same policies select share their tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// What is in force.
    pub enforced: Option<Table>,
    /// What would be in force together with the policies under audit; absent if there are none.
    pub audit: Option<Table>,
    /// The names of the policies that say something here, in order.
    pub by: Arc<[Arc<str>]>,
}

impl Judged {
    /// What is in force, or what would be with the policies under audit.
    #[must_use]
    pub fn table(&self, audit: bool) -> Option<&Table> {
        if audit { self.audit.as_ref() } else { self.enforced.as_ref() }
    }
}

/// Which packets pass: by the class of the other end, and ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Table {
    /// Classes that are treated otherwise than the rest.
    pub rows: BTreeMap<Class, Arc<Row>>,
    /// The rest.
    pub rest: Row,
}

impl Table {
    /// The row of a class.
    #[must_use]
    pub fn row(&self, class: Class) -> &Row {
        self.rows.get(&class).map_or(&self.rest, |row| row)
    }
}

#[cfg(test)]
mod tests;
