//! Reading back all that is weft's, whoever and whichever version made it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_model::{IfName, Mac};

use crate::change::ReadError;
use crate::netlink::{Error, Message, Messages, Socket};
use crate::nft;
use crate::ours::{ROUTE_PROTOCOL, is_our_work, is_wire, tables};
use crate::rtnl::{address, link, neighbour, route};
use crate::state::{Kind, Link, Route, State, Sysctl};
use crate::sysctl;

pub(super) fn state(
    socket: &mut Socket,
    netfilter: &mut Socket,
    sysctls: &[Sysctl],
) -> Result<State, ReadError> {
    let mut state = State::default();
    let all = list(socket, "links", &link::list(), link::read)?;
    let names: BTreeMap<u32, IfName> = all.iter().filter_map(|l| Some((l.index, l.name.clone()?))).collect();
    let (mut ours, mut settings) = (BTreeMap::new(), BTreeMap::new());
    for found in all.into_iter().filter(is_our_work) {
        let Some(kind) = kind(&found) else { continue };
        let Some(name) = found.name else { continue };
        ours.insert(found.index, name.clone());
        settings.insert(name.to_string(), found.ipv6);
        let link = Link {
            kind,
            mac: found.mac.unwrap_or(Mac([0; 6])),
            mtu: found.mtu,
            group: found.group,
            up: found.up,
            master: found.master.and_then(|m| names.get(&m).cloned()),
            alias: found.alias,
        };
        state.links.insert(name, link);
    }
    for found in list(socket, "addresses", &address::list(), address::read)? {
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
    for found in list(socket, "routes", &route::list(), route::read)? {
        if found.protocol == ROUTE_PROTOCOL {
            // A route of ours by a link that is not ours any more is still ours to remove.
            let Some(device) = names.get(&found.index).cloned() else { continue };
            let route::Described { gateway, source, mtu, .. } = found;
            state.routes.insert(found.destination, Route { device, gateway, source, mtu });
        }
    }
    super::bandwidth::read(socket, &ours, &names, &mut state)?;
    for key in sysctls {
        let came_along = key.link_and_name("ipv6").and_then(|(link, name)| settings.get(link)?.get(name));
        if let Some(value) = came_along.or_else(|| sysctl::read(key).ok().flatten()) {
            state.sysctls.insert(key.clone(), value);
        }
    }
    state.tables = nft::read(netfilter, &tables()).map_err(ReadError::Rules)?;
    Ok(state)
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
