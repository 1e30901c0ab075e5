//! Reading back all that is weft's, whoever and whichever version made it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_model::{IfName, Mac};

use crate::change::ReadError;
use crate::loopback;
use crate::netlink::{Error, Message, Messages, Socket};
use crate::nft;
use crate::ours::{ROUTE_PROTOCOL, is_our_work, is_wire, tables};
use crate::rtnl::{address, link, neighbour, route};
use crate::state::{Kind, Link, Route, State, Sysctl};
use crate::sysctl;

/// What one reading of the kernel gave: weft's own, and what else was told along the way.
#[derive(Debug)]
pub struct Survey {
    /// All that is weft's, but for settings.
    pub state: State,
    /// All links. With a thousand wires the kernel takes tens of milliseconds to list them (for each it looks
    /// through all namespaces that it knows, net/core/net_namespace.c `peernet2id_alloc`): who needs them
    /// for something else should not ask again.
    pub links: Vec<link::Described>,
    /// All routes of the main table.
    pub routes: Vec<route::Described>,
    /// All addresses.
    pub addresses: Vec<address::Described>,
}

impl Survey {
    /// The state with these settings; those that have not come along with the links are read now.
    #[must_use]
    pub fn with_settings(self, keys: &[Sysctl]) -> State {
        let Survey { mut state, links, .. } = self;
        let known = links.iter().filter_map(|l| Some((l.name.as_ref()?.as_str(), l.ipv6)));
        let known: BTreeMap<&str, _> = known.collect();
        let value = |key: &Sysctl| {
            let came_along = key.link_and_name("ipv6").and_then(|(link, name)| known.get(link)?.get(name));
            came_along.or_else(|| sysctl::read(key).ok().flatten())
        };
        // Thousands of long keys with the same beginning: built in one go, for they come in order.
        state.sysctls = keys.iter().filter_map(|key| Some((key.clone(), value(key)?))).collect();
        state
    }
}

pub(super) fn survey(
    socket: &mut Socket,
    netfilter: &mut Socket,
    loopback: Option<&loopback::Place>,
) -> Result<Survey, ReadError> {
    let mut state = State::default();
    let links = list(socket, "links", &link::list(), link::read)?;
    let names: BTreeMap<u32, IfName> =
        links.iter().filter_map(|l| Some((l.index, l.name.clone()?))).collect();
    let mut ours = BTreeMap::new();
    for found in links.iter().filter(|l| is_our_work(l)) {
        let Some(kind) = kind(found) else { continue };
        let Some(name) = found.name.clone() else { continue };
        ours.insert(found.index, name.clone());
        let link = Link {
            kind,
            mac: found.mac.unwrap_or(Mac([0; 6])),
            mtu: found.mtu,
            group: found.group,
            up: found.up,
            master: found.master.and_then(|m| names.get(&m).cloned()),
            hairpin: found.hairpin,
            alias: found.alias.clone(),
        };
        state.links.insert(name, link);
    }
    let addresses = list(socket, "addresses", &address::list(), address::read)?;
    for found in &addresses {
        if let (Some(name), false) = (ours.get(&found.index), found.automatic) {
            state.addresses.insert((name.clone(), found.address));
        }
    }
    for found in list(socket, "neighbours", &neighbour::list(), neighbour::read)? {
        // Multicast and broadcast mappings are permanent too, but the kernel's own (NOARP).
        if let (Some(name), Some(mac)) = (ours.get(&found.index), found.mac) {
            state.neighbours.insert((name.clone(), found.address), mac);
        }
    }
    if state.links.values().any(|l| matches!(l.kind, Kind::Tunnel { .. })) {
        let request = neighbour::forwarding_list();
        for found in list(socket, "forwarding entries", &request, neighbour::read_forwarding)? {
            if let Some(name) = ours.get(&found.index) {
                state.forwarding.insert((name.clone(), found.mac), found.to);
            }
        }
    }
    let routes = list(socket, "routes", &route::list(), route::read)?;
    for found in &routes {
        if found.protocol == ROUTE_PROTOCOL {
            // A route of ours by a link that is not ours any more is still ours to remove.
            let Some(device) = names.get(&found.index).cloned() else { continue };
            let route::Described { gateway, source, mtu, .. } = *found;
            state.routes.insert(found.destination, Route { device, gateway, source, mtu });
        }
    }
    super::bandwidth::read(socket, &ours, &names, &mut state)?;
    state.loopback = loopback.map(loopback::Place::read).transpose().map_err(ReadError::Loopback)?.flatten();
    state.tables = nft::read(netfilter, &tables()).map_err(ReadError::Rules)?;
    Ok(Survey { state, links, routes, addresses })
}

fn kind(link: &link::Described) -> Option<Kind> {
    match link.kind.as_str() {
        "bridge" => Some(Kind::Bridge),
        // One that is not made as weft makes it is in the way of one that is.
        "vxlan" => {
            let (vni, local) = link.tunnel.unwrap_or((0, IpAddr::from([0; 4])));
            Some(Kind::Tunnel { vni, local })
        }
        "veth" if is_wire(link.group) || link.group == crate::ours::REAPED => Some(Kind::Wire),
        "ifb" => Some(Kind::Ifb),
        _ => None,
    }
}

fn list<T>(
    socket: &mut Socket,
    what: &'static str,
    request: &Messages,
    read: fn(&Message<'_>) -> Option<T>,
) -> Result<Vec<T>, ReadError> {
    let gather = |all: &mut Vec<T>, message: &Message<'_>| all.extend(read(message));
    socket.dump(request, gather).map_err(|source: Error| ReadError::Netlink { what, source })
}
