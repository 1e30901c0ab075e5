//! A workload's limits: a queue at the host's end of its wire, and a detour with another one.

use weft_kernel::State;
use weft_kernel::ours::{detour_alias, wire_group};
use weft_kernel::state::{Kind, Link, Shape};
use weft_model::{Bandwidth, IfName, Limit};
use weft_plan::WorkloadPlan;
use weft_plan::bandwidth::Queue;

use crate::network;

/// Adds what limits a workload.
pub fn render(workload: &WorkloadPlan, state: &mut State) {
    let limits = &workload.bandwidth;
    if let Some(queue) = &limits.to {
        state.shapes.insert(workload.host_end.clone(), shape(queue));
    }
    let Some(detour) = &limits.from else { return };
    let link = Link {
        kind: Kind::Ifb,
        mac: workload.host_mac,
        mtu: workload.mtu,
        group: wire_group(workload.network),
        up: true,
        master: None,
        hairpin: false,
        alias: Some(detour_alias(&workload.id)),
    };
    state.links.insert(detour.device.clone(), link);
    // Nobody speaks IP on it.
    state.sysctls.extend(network::host_settings(&detour.device, false));
    state.shapes.insert(detour.device.clone(), shape(&detour.queue));
    state.detours.insert(workload.host_end.clone(), detour.device.clone());
}

fn shape(queue: &Queue) -> Shape {
    Shape::new(queue.rate / 8, queue.burst, queue.waiting)
}

/// The limits that a kernel shows for a wire: what a lost record is rebuilt from.
#[must_use]
pub fn limits(state: &State, host_end: &IfName) -> Bandwidth {
    let limit = |name: &IfName| {
        let shape = state.shapes.get(name)?;
        Limit::new(shape.rate * 8, Some(shape.burst_bytes() * 8)).ok()
    };
    Bandwidth { ingress: limit(host_end), egress: state.detours.get(host_end).and_then(limit) }
}
