//! The ways to another host: routes to its blocks, and behind a tunnel a neighbour and a forwarding entry,
//! all by the host and none by its workloads.

use weft_kernel::State;
use weft_kernel::state::Route;
use weft_model::NodeName;
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
    let device = weft_model::IfName::try_from("lo".to_owned()).expect("lo is a valid name");
    Route { device, gateway: None, source: reach.source, mtu: Some(reach.mtu) }
}

fn routes(reach: &Reach, route: &Route, state: &mut State) {
    for block in &reach.blocks {
        state.routes.insert(*block, route.clone());
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
