//! From policies to tables: for each class of peers, which protocols and ports pass.
//!
//! All that is ordered (tiers, priorities, first match) is decided here; what is left is a set of what passes.

use serde::Serialize;
use weft_model::policy::Protocol;
use weft_model::{NodeName, World};

use super::{Numbering, PolicyPlan, Standing, Touched};

/// Ports that pass: from the first to the last of each range, in order, apart from each other.
pub type Ports = Vec<(u16, u16)>;

/// What passes between a workload and a class of peers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Row {
    /// Whether protocols without ports do: ICMP and all that is not TCP, UDP or SCTP.
    pub others: bool,
    /// The ports of TCP.
    pub tcp: Ports,
    /// The ports of UDP.
    pub udp: Ports,
    /// The ports of SCTP.
    pub sctp: Ports,
}

impl Row {
    /// The ports of a protocol.
    #[must_use]
    pub fn ports(&self, protocol: Protocol) -> &Ports {
        match protocol {
            Protocol::Tcp => &self.tcp,
            Protocol::Udp => &self.udp,
            Protocol::Sctp => &self.sctp,
        }
    }

    /// Whether everything passes.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.others && Protocol::ALL.into_iter().all(|p| *self.ports(p) == [(0, u16::MAX)])
    }

    /// Whether a packet passes.
    #[must_use]
    pub fn passes(&self, protocol: u8, port: u16) -> bool {
        Protocol::from_number(protocol).map_or(self.others, |protocol| {
            self.ports(protocol).iter().any(|(first, last)| (*first..=*last).contains(&port))
        })
    }
}

/// Compiles the policies of the world for a host and the workloads that are on it: all of it is a change.
#[must_use]
pub fn compile(world: &World, here: &NodeName) -> PolicyPlan {
    let mut plan = PolicyPlan::default();
    let touched = Touched::everything(world);
    Standing::default().follow(world, here, touched, &mut plan, &mut Numbering::default());
    plan
}

/// A range of ports as the fewest that share their leading bits: the first port, and how many bits.
#[must_use]
pub fn prefixes((first, last): (u16, u16)) -> Vec<(u16, u8)> {
    let (mut at, end) = (u32::from(first), u32::from(last));
    let mut found = Vec::new();
    while at <= end {
        let mut size = if at == 0 { 1 << 16 } else { 1 << at.trailing_zeros() };
        while at + size - 1 > end {
            size >>= 1;
        }
        let bits = u8::try_from(16 - size.trailing_zeros()).unwrap_or(16);
        found.push((u16::try_from(at).unwrap_or(u16::MAX), bits));
        at += size;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_few_prefixes_that_cover_them_exactly() {
        for (first, last) in
            [(0, 65535), (1, 65535), (80, 80), (8000, 8100), (1, 79), (79, 8000), (65535, 65535)]
        {
            let parts = prefixes((first, last));
            assert!(parts.len() <= 30);
            let mut next = u32::from(first);
            for (at, bits) in parts {
                assert_eq!(u32::from(at), next, "{first}-{last}");
                assert_eq!(u32::from(at) & ((1 << (16 - bits)) - 1), 0);
                next += 1 << (16 - bits);
            }
            assert_eq!(next, u32::from(last) + 1);
        }
    }
}
