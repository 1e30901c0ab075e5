//! Routes of the main table (linux/rtnetlink.h `rtmsg`).

use std::net::IpAddr;

use ipnet::IpNet;

use super::{ACK, CREATE, DUMP, REPLACE, REQUEST, family};
use crate::netlink::{Message, Messages};

const HEADER: usize = 12; // struct rtmsg
const ONLINK: u32 = 4; // RTNH_F_ONLINK: the next hop needs no subnet of its own

/// A route on its way in or out of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// Where it leads.
    pub destination: IpNet,
    /// Index of the interface it leaves by.
    pub index: u32,
    /// Next hop, on that interface even if no subnet says so.
    pub gateway: Option<IpAddr>,
    /// The address the host itself uses as source.
    pub source: Option<IpAddr>,
    /// Who made it; [`crate::ours::ROUTE_PROTOCOL`] is weft.
    pub protocol: u8,
    /// Largest packet in bytes, where smaller than the link's.
    pub mtu: Option<u32>,
    /// Its rank; 1024 is the kernel's default for IPv6, 0 for IPv4.
    pub metric: Option<u32>,
}

fn header(route: &Described) -> [u8; HEADER] {
    let scope = match route.destination {
        IpNet::V4(_) if route.gateway.is_none() => libc::RT_SCOPE_LINK,
        _ => libc::RT_SCOPE_UNIVERSE,
    };
    let mut bytes = [0; HEADER];
    bytes[0] = family(route.destination.addr());
    bytes[1] = route.destination.prefix_len();
    bytes[4] = libc::RT_TABLE_MAIN;
    bytes[5] = route.protocol;
    bytes[6] = scope;
    bytes[7] = libc::RTN_UNICAST;
    if matches!(route.gateway, Some(IpAddr::V4(_))) {
        bytes[8..12].copy_from_slice(&ONLINK.to_ne_bytes());
    }
    bytes
}

fn write(messages: &mut Messages, kind: u16, flags: u16, route: &Described) {
    messages.push(kind, flags, &header(route), |a| {
        if route.destination.prefix_len() > 0 {
            a.ip(libc::RTA_DST, route.destination.network());
        }
        a.u32(libc::RTA_OIF, route.index);
        if let Some(gateway) = route.gateway {
            a.ip(libc::RTA_GATEWAY, gateway);
        }
        if let Some(source) = route.source {
            a.ip(libc::RTA_PREFSRC, source);
        }
        if let Some(metric) = route.metric {
            a.u32(libc::RTA_PRIORITY, metric);
        }
        if let Some(mtu) = route.mtu {
            a.nest(libc::RTA_METRICS, |a| {
                a.u32(2, mtu); // RTAX_MTU
            });
        }
    });
}

/// Sets a route, replacing the one to the same destination with the same metric.
pub fn set(messages: &mut Messages, route: &Described) {
    write(messages, libc::RTM_NEWROUTE, REQUEST | ACK | CREATE | REPLACE, route);
}

/// Adds a route; refused with `EEXIST` if there is one to the same destination with the same metric.
pub fn add(messages: &mut Messages, route: &Described) {
    write(messages, libc::RTM_NEWROUTE, REQUEST | ACK | CREATE | super::EXCLUSIVE, route);
}

/// Deletes a route.
pub fn delete(messages: &mut Messages, route: &Described) {
    write(messages, libc::RTM_DELROUTE, REQUEST | ACK, route);
}

/// Asks for the routes of the main table, of both families.
#[must_use]
pub fn list() -> Messages {
    let mut header = [0; HEADER];
    header[4] = libc::RT_TABLE_MAIN;
    let mut messages = Messages::default();
    messages.push(libc::RTM_GETROUTE, REQUEST | DUMP, &header, |a| {
        a.u32(libc::RTA_TABLE, u32::from(libc::RT_TABLE_MAIN));
    });
    messages
}

/// Asks which route a packet to `address` would take.
pub fn lookup(messages: &mut Messages, address: IpAddr) {
    let mut header = [0; HEADER];
    header[0] = family(address);
    header[1] = if address.is_ipv4() { 32 } else { 128 };
    messages.push(libc::RTM_GETROUTE, REQUEST | ACK, &header, |a| {
        a.ip(libc::RTA_DST, address);
    });
}

/// Whether the answer to [`lookup`] is that the packet stays here, for the address is our own.
#[must_use]
pub fn is_local(message: &Message<'_>) -> bool {
    let head: Option<[u8; HEADER]> = message.structure();
    message.kind == libc::RTM_NEWROUTE && head.is_some_and(|h| h[7] == libc::RTN_LOCAL)
}

/// Reads a unicast route of the main table that leaves by one interface.
#[must_use]
pub fn read(message: &Message<'_>) -> Option<Described> {
    if message.kind != libc::RTM_NEWROUTE && message.kind != libc::RTM_DELROUTE {
        return None;
    }
    let head: [u8; HEADER] = message.structure()?;
    if head[4] != libc::RT_TABLE_MAIN || head[7] != libc::RTN_UNICAST {
        return None;
    }
    let any = if i32::from(head[0]) == libc::AF_INET { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let (mut to, mut index, mut gateway, mut source, mut mtu, mut metric) =
        (any, None, None, None, None, None);
    for attribute in message.attributes(HEADER) {
        match attribute.kind {
            libc::RTA_DST => to = attribute.ip()?,
            libc::RTA_OIF => index = attribute.u32(),
            libc::RTA_GATEWAY => gateway = attribute.ip(),
            libc::RTA_PREFSRC => source = attribute.ip(),
            libc::RTA_PRIORITY => metric = attribute.u32(),
            libc::RTA_METRICS => mtu = attribute.nested().find(|m| m.kind == 2).and_then(|m| m.u32()),
            _ => {}
        }
    }
    let destination = IpNet::new(to, head[1]).ok()?;
    Some(Described { destination, index: index?, gateway, source, protocol: head[5], mtu, metric })
}
