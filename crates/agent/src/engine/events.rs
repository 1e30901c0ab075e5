//! Which kernel events call for a repair. Deletions of our own making do not: what we delete has left
//! the plan before.

use weft_kernel::netns::index_of;
use weft_kernel::ours::{ROUTE_PROTOCOL, device_group, wire_group};
use weft_kernel::rtnl::link;
use weft_model::{IfName, Mode, Phase};
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
            Event::ForwardingOff(true) => self.plan.forward_ipv4,
            Event::ForwardingOff(false) => self.plan.forward_ipv6,
            Event::Link(name) => {
                let (mtu, group, port) = match (self.wire(name), self.device(name)) {
                    (Some(wire), _) if wire.phase == Phase::Pending => return false,
                    (Some(wire), _) => (wire.mtu, wire_group(wire.network), wire.mode == Mode::Bridge),
                    (None, Some(device)) => (device.mtu, device_group(device.id), false),
                    (None, None) => return false,
                };
                // The event may be older than what was done since: only the link itself knows.
                let same = |l: &link::Described| {
                    (l.up, l.mtu, l.group, l.master.is_some()) == (true, mtu, group, port)
                };
                !matches!(self.kernel.link(name), Ok(Some(link)) if same(&link))
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
