//! Packets as workloads send them, to be walked through rules in thought.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use weft_kernel::nft::{Family, Field, Hook, Type, Value};
use weft_model::{IfName, Mode};

use crate::doctor::Facts;

/// Somewhere outside: addresses for documentation (RFC 5737, RFC 3849).
const OUTSIDE4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
const OUTSIDE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// The first packet of a TCP connection, or one in a tunnel.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) what: String,
    pub(super) hook: Hook,
    pub(super) subnets: Vec<IpNet>,
    /// A packet of another host's: in VXLAN.
    pub(super) tunnelled: bool,
    pub(super) from: IpAddr,
    /// `None`: this host, whatever its address.
    to: Option<IpAddr>,
    iif: IfName,
    oif: Option<IfName>,
}

/// What workloads of every network send: to the outside, to each other where that is forwarded, to the host.
pub(super) fn packets(facts: &Facts) -> Vec<Packet> {
    let mut all = Vec::new();
    // Whatever it is called: names of wires begin alike.
    let wire = facts.wires.first().cloned().or_else(|| "weft0123456789".parse().ok());
    let Some(wire) = wire else { return all };
    let uplink = facts.uplinks.first().cloned();
    for place in &facts.networks {
        let name = &place.network.name;
        let subnets: Vec<IpNet> = place.network.subnets().collect();
        let routed = place.network.mode == Mode::Routed;
        let iif = if routed { wire.clone() } else { place.device.clone() };
        for subnet in &subnets {
            let nth = |n| nth(*subnet, n);
            let packet = |what: String, hook, to, oif| Packet {
                what,
                hook,
                to: Some(to),
                oif,
                tunnelled: false,
                from: nth(2),
                iif: iif.clone(),
                subnets: subnets.clone(),
            };
            let outside = if subnet.addr().is_ipv4() { OUTSIDE4 } else { OUTSIDE6 };
            if let Some(uplink) = &uplink {
                let what = format!("what workloads of '{name}' send to the outside");
                all.push(packet(what, Hook::Forward, outside, Some(uplink.clone())));
            }
            if routed {
                let what = format!("what workloads of '{name}' send each other");
                all.push(packet(what, Hook::Forward, nth(3), Some(wire.clone())));
            }
            let what = format!("what workloads of '{name}' send to the host itself");
            all.push(packet(what, Hook::Input, nth(1), None));
        }
    }
    all.extend(uplink.into_iter().flat_map(|uplink| tunnelled(facts, &uplink)));
    all
}

/// What the first of the hosts behind a tunnel sends, per family of the underlay.
fn tunnelled(facts: &Facts, uplink: &IfName) -> Vec<Packet> {
    let behind = facts.peers.iter().filter(|p| p.reaches.iter().any(|r| r.path == "vxlan"));
    // Two hosts take IPv4 if both have it.
    let outer: Vec<IpAddr> = behind
        .filter_map(|p| p.addresses.iter().find(|a| a.is_ipv4()).or(p.addresses.first()).copied())
        .collect();
    let first = |v4: bool| outer.iter().find(|a| a.is_ipv4() == v4).copied();
    let packet = |from: IpAddr| Packet {
        what: format!("what other hosts send here in VXLAN (UDP port 4789), such as {from}"),
        hook: Hook::Input,
        subnets: Vec::new(),
        tunnelled: true,
        from,
        to: None,
        iif: uplink.clone(),
        oif: None,
    };
    [first(true), first(false)].into_iter().flatten().map(packet).collect()
}

fn nth(subnet: IpNet, n: u8) -> IpAddr {
    match subnet.network() {
        IpAddr::V4(a) => Ipv4Addr::from(u32::from(a).saturating_add(n.into())).into(),
        IpAddr::V6(a) => Ipv6Addr::from(u128::from(a).saturating_add(n.into())).into(),
    }
}

pub(super) fn words(family: Family) -> &'static str {
    match family {
        Family::Inet => "inet",
        Family::Ip => "ip",
        Family::Ip6 => "ip6",
        Family::Arp => "arp",
        Family::Bridge => "bridge",
        Family::Netdev => "netdev",
    }
}

impl Packet {
    pub(super) fn is_seen_by(&self, family: Family) -> bool {
        match family {
            Family::Inet => true,
            Family::Ip => self.from.is_ipv4(),
            Family::Ip6 => self.from.is_ipv6(),
            _ => false,
        }
    }

    /// What a field of it holds, as bytes in the order in which they are compared; `None` if it can be anything.
    pub(super) fn bytes(&self, field: Field) -> Option<Vec<u8>> {
        const NEW: u32 = 8; // ct state new
        const TCP: u8 = 6;
        const UDP: u8 = 17;
        const VXLAN: u16 = 4789;
        let name = |name: &IfName| {
            let mut bytes = name.as_str().as_bytes().to_vec();
            bytes.resize(16, 0);
            bytes
        };
        let address = |a: IpAddr| match a {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        Some(match field {
            Field::IifName => name(&self.iif),
            Field::OifName => name(self.oif.as_ref()?),
            Field::IpSaddr | Field::Ip6Saddr => address(self.from),
            Field::IpDaddr | Field::Ip6Daddr => address(self.to?),
            Field::L4Proto | Field::IpProtocol => vec![if self.tunnelled { UDP } else { TCP }],
            Field::ThDport if self.tunnelled => VXLAN.to_be_bytes().to_vec(),
            Field::NfProto => vec![if self.from.is_ipv4() { 2 } else { 10 }],
            Field::Protocol => if self.from.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] }.to_vec(),
            Field::CtState => NEW.to_ne_bytes().to_vec(),
            Field::CtStatus => 0_u32.to_ne_bytes().to_vec(),
            Field::PktType => vec![0],                      // PACKET_HOST
            Field::IifType => 1_u16.to_ne_bytes().to_vec(), // ARPHRD_ETHER
            Field::Payload { base: weft_kernel::nft::PayloadBase::Network, offset, length } => {
                self.header(offset, length)?
            }
            Field::Payload { base: weft_kernel::nft::PayloadBase::Transport, offset: 2, length: 2 }
                if self.tunnelled =>
            {
                VXLAN.to_be_bytes().to_vec()
            }
            _ => return None,
        })
    }

    /// A piece of the addresses in the network header: prefixes of whole bytes are compared so.
    fn header(&self, offset: u32, length: u8) -> Option<Vec<u8>> {
        let (source, target, size) = if self.from.is_ipv4() { (12, 16, 4) } else { (8, 24, 16) };
        let (field, start) = match offset {
            _ if offset >= target && offset < target + size => (self.bytes(Field::IpDaddr)?, target),
            _ if offset >= source && offset < source + size => (self.bytes(Field::IpSaddr)?, source),
            _ => return None,
        };
        let at = usize::try_from(offset - start).ok()?;
        Some(field.get(at..at + usize::from(length))?.to_vec())
    }
}

/// A value as bytes, in the same order.
pub(super) fn value_bytes(value: &Value) -> Option<Vec<u8>> {
    Some(match value {
        Value::Ipv4(a) => a.octets().to_vec(),
        Value::Ipv6(a) => a.octets().to_vec(),
        Value::Mac(mac) => mac.0.to_vec(),
        Value::Raw(raw) => raw.as_bytes().to_vec(),
        Value::IfPrefix(name) => name.as_str().as_bytes().to_vec(),
        Value::IfName(name) => {
            let mut bytes = name.as_str().as_bytes().to_vec();
            bytes.resize(16, 0);
            bytes
        }
        Value::Number(kind, number) => match kind {
            Type::Port | Type::EtherType | Type::ArpOperation => {
                u16::try_from(*number).ok()?.to_be_bytes().to_vec()
            }
            Type::Protocol
            | Type::NfProto
            | Type::PacketType
            | Type::CtDirection
            | Type::IcmpType
            | Type::Icmpv6Type => {
                vec![u8::try_from(*number).ok()?]
            }
            Type::LinkType => u16::try_from(*number).ok()?.to_ne_bytes().to_vec(),
            _ => number.to_ne_bytes().to_vec(),
        },
    })
}
