//! Asking the tables: what the kernel will say, without the kernel.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_model::policy::Direction;

use super::{Class, Packet, PolicyPlan, Subject};

/// A plan's tables, made ready to be asked for many packets.
#[derive(Debug)]
pub struct Tables<'a> {
    plan: &'a PolicyPlan,
    subjects: BTreeMap<IpAddr, &'a Subject>,
}

impl<'a> Tables<'a> {
    /// Makes them ready.
    #[must_use]
    pub fn of(plan: &'a PolicyPlan) -> Tables<'a> {
        let addresses = |subject: &'a Subject| subject.addresses.iter().map(move |a| (*a, subject));
        Tables { plan, subjects: plan.subjects.values().flat_map(addresses).collect() }
    }

    /// Whether the policies of the ends that are on this host let a packet pass.
    #[must_use]
    pub fn pass(&self, packet: &Packet) -> bool {
        self.passes(packet, false)
    }

    /// The same with the policies under audit.
    #[must_use]
    pub fn pass_audit(&self, packet: &Packet) -> bool {
        self.passes(packet, true)
    }

    fn passes(&self, packet: &Packet, audit: bool) -> bool {
        if packet.source == packet.destination {
            return true;
        }
        Direction::BOTH.into_iter().all(|direction| {
            let (own, peer) = match direction {
                Direction::Ingress => (packet.destination, packet.source),
                Direction::Egress => (packet.source, packet.destination),
            };
            let judged = self.subjects.get(&own).and_then(|subject| subject.judged(direction));
            let table = judged.and_then(|judged| judged.table(audit));
            table.is_none_or(|table| table.row(self.plan.class(peer)).passes(packet.protocol, packet.port))
        })
    }
}

impl PolicyPlan {
    /// The class of an address.
    #[must_use]
    pub fn class(&self, address: IpAddr) -> Class {
        let of_block = || {
            let (_, (last, class)) = self.blocks.range(..=address).next_back()?;
            (address <= *last).then_some(*class)
        };
        self.peers.get(&address).copied().or_else(of_block).unwrap_or(Class::REST)
    }
}
