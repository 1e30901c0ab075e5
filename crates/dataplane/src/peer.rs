//! The ways to another host: routes to its blocks, and behind a tunnel a neighbour and a forwarding entry,
//! all by the host and none by its workloads.

use weft_kernel::State;
use weft_kernel::state::{Kind, Route};
use weft_model::{IfName, NodeName};
use weft_plan::{Path, PeerPlan, Plan, Reach};

use crate::{Wanted, nft, overlay};

/// Adds the ways to another host.
pub fn render(peer: &PeerPlan, state: &mut State) {
    for reach in &peer.reaches {
        match &reach.path {
            Path::Direct { via, device } => {
                routes(reach, &Route { device: device.clone(), gateway: Some(*via), ..blank(reach) }, state);
            }
            Path::Vxlan { device, remote, next_hop, .. } => {
                state.neighbours.insert((device.clone(), *next_hop), peer.mac);
                state.forwarding.insert((device.clone(), peer.mac), *remote);
                let route = Route { device: device.clone(), gateway: Some(*next_hop), ..blank(reach) };
                routes(reach, &route, state);
            }
            Path::Router | Path::Nowhere { .. } => {}
        }
    }
    nft::peer(peer, &mut state.tables);
}

fn blank(reach: &Reach) -> Route {
    let device = IfName::try_from("lo".to_owned()).expect("lo is a valid name");
    Route { device, gateway: None, source: reach.source, mtu: Some(reach.mtu) }
}

fn routes(reach: &Reach, route: &Route, state: &mut State) {
    for block in &reach.blocks {
        state.routes.insert(*block, route.clone());
    }
}

/// Overlooks, of what was found, what leads to other hosts and is not wanted. While nobody has said yet which hosts there
/// are, what an earlier agent made for them stays (DESIGN.md, invariant 2): what that one had written down of them may be
/// older than what it had made.
pub fn spare(wanted: &State, found: &mut State) {
    let tunnels: Vec<IfName> = found
        .links
        .iter()
        .filter(|(_, link)| matches!(link.kind, Kind::Tunnel { .. }))
        .map(|(name, _)| name.clone())
        .collect();
    found.links.retain(|name, _| !tunnels.contains(name) || wanted.links.contains_key(name));
    // Routes to workloads have no gateway.
    found.routes.retain(|to, route| route.gateway.is_none() || wanted.routes.contains_key(to));
    found.neighbours.retain(|at, _| !tunnels.contains(&at.0) || wanted.neighbours.contains_key(at));
    found.forwarding.retain(|at, _| wanted.forwarding.contains_key(at));
    for (name, declared) in nft::peer_declarations() {
        let (Some(kept), Some(table)) = (wanted.tables.get(&name), found.tables.get_mut(&name)) else {
            continue;
        };
        for set in declared.sets.keys() {
            if let (Some(kept), Some(set)) = (kept.sets.get(set), table.sets.get_mut(set)) {
                set.elements.retain(|key, _| kept.elements.contains_key(key));
            }
        }
    }
}

/// What some hosts add to the kernel, and nothing else: the same rendering as [`render`](crate::render), over
/// the links and declarations that it needs. Compared with what the same hosts added before, it gives the
/// steps that a change of these hosts costs.
#[must_use]
pub fn render_peers<'a>(plan: &Plan, names: impl IntoIterator<Item = &'a NodeName>) -> Wanted {
    let mut wanted = Wanted::default();
    wanted.state.tables = nft::peer_declarations();
    plan.networks.values().for_each(|network| overlay::render(network, &mut wanted.state));
    for peer in names.into_iter().filter_map(|name| plan.peers.get(name)) {
        render(peer, &mut wanted.state);
    }
    wanted
}
