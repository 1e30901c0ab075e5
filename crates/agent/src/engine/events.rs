//! Which kernel events call for a repair. Deletions of our own making do not: what we delete has left
//! the plan before.

use weft_kernel::netns::index_of;
use weft_kernel::ours::ROUTE_PROTOCOL;
use weft_kernel::rtnl::link::Described;
use weft_model::IfName;
use weft_plan::{NetworkPlan, WorkloadPlan};

use super::Engine;
use crate::watch::Event;

impl Engine {
    /// Whether one of these events took away or changed something that the plan wants.
    pub(crate) fn matters(&mut self, events: &[Event]) -> bool {
        events.iter().any(|event| self.touches_plan(event))
    }

    fn touches_plan(&mut self, event: &Event) -> bool {
        match event {
            Event::Rules => true,
            Event::Link(link, gone) => {
                let Some(name) = &link.name else { return false };
                let wanted_mtu = match (self.wire(name), self.device(name)) {
                    (Some(wire), _) if wire.phase == weft_model::Phase::Pending => return false,
                    (Some(wire), _) => wire.mtu,
                    (None, Some(device)) => device.mtu,
                    (None, None) => return false,
                };
                let as_wanted = |link: &Described| link.up && link.mtu == wanted_mtu;
                // An event tells of the past: an attach waits for nobody, and the events of its wire's
                // birth (down, then up) are read when it is finished. Only the present calls for a repair.
                *gone
                    || !as_wanted(link) && !matches!(self.kernel.link(name), Ok(Some(now)) if as_wanted(&now))
            }
            Event::RouteGone(route) => {
                let to = route.destination.addr();
                route.protocol == ROUTE_PROTOCOL
                    && self.plan.workloads.values().any(|w| w.addresses.iter().any(|a| a.addr() == to))
            }
            Event::NeighbourGone(gone) => {
                let at = |w: &WorkloadPlan| index_of(w.host_end.as_str()) == Some(gone.index);
                let holds = |w: &&WorkloadPlan| w.addresses.iter().any(|a| a.addr() == gone.address);
                self.plan.workloads.values().find(holds).is_some_and(at)
            }
            Event::AddressGone(gone) => self
                .plan
                .networks
                .values()
                .any(|n| n.gateways.iter().any(|g| g.addr() == gone.address.addr())),
        }
    }

    fn wire(&self, name: &IfName) -> Option<&WorkloadPlan> {
        self.plan.workloads.get(self.host_ends.get(name)?)
    }

    fn device(&self, name: &IfName) -> Option<&NetworkPlan> {
        self.plan.networks.values().find(|n| n.device == *name)
    }
}
