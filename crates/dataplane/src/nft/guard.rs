//! The source guard: which (port, Ethernet address, IP address) a workload may send with.
//!
//! An element is put in place before its wire exists, so that a wire without one is shut.

use std::net::IpAddr;

use weft_kernel::nft::{Declaration, Family, IfName, Item, Key, Raw, Tables, Type, Value};
use weft_model::{Mac, Mode};
use weft_plan::WorkloadPlan;

use super::name;

/// IPv4: (interface, Ethernet, address).
pub(super) const GUARD4: &str = "guard4";
/// IPv6: (interface, Ethernet, address).
pub(super) const GUARD6: &str = "guard6";
/// IPv6 again, as the target in neighbour advertisements, which nftables knows only as raw bytes.
pub(super) const TARGET6: &str = "target6";

/// The sets that workloads have elements in, per family.
pub(super) fn sets() -> [(Family, Vec<(&'static str, Declaration)>); 3] {
    let set = |last: Type| Declaration::set(&[Type::IfName, Type::Mac, last]);
    let (guard4, guard6) = ((GUARD4, set(Type::Ipv4)), (GUARD6, set(Type::Ipv6)));
    [
        (Family::Inet, vec![guard4.clone(), guard6.clone()]),
        (Family::Arp, vec![guard4.clone()]),
        (Family::Bridge, vec![guard4, guard6, (TARGET6, set(Type::TARGET))]),
    ]
}

/// Adds a workload's elements to the sets, where those are declared.
pub fn guard(workload: &WorkloadPlan, tables: &mut Tables) {
    let Some(port) = IfName::new(workload.host_end.as_str()) else { return };
    let families: &[Family] = match workload.mode {
        Mode::Routed => &[Family::Inet, Family::Arp],
        Mode::Bridge => &[Family::Bridge],
    };
    let own = workload.addresses.iter().map(ipnet::IpNet::addr);
    let addresses: Vec<IpAddr> = own.chain(workload.link_local.map(IpAddr::V6)).collect();
    for family in families {
        let Some(table) = tables.get_mut(&name(*family)) else { continue };
        for address in &addresses {
            let mut add = |set: &str, value: Value| {
                if let Some(set) = table.sets.get_mut(set) {
                    let key = [Value::from(port), workload.mac.into(), value].map(Item::from);
                    set.elements.insert(Key::from(key), None);
                }
            };
            match address {
                IpAddr::V4(v4) => add(GUARD4, (*v4).into()),
                IpAddr::V6(v6) => {
                    add(GUARD6, (*v6).into());
                    let raw = Raw::new(&v6.octets()).expect("16 bytes are a raw value's most");
                    add(TARGET6, Value::Raw(raw));
                }
            }
        }
    }
}

/// The address that an element of the guard's sets is about; link-local ones are nobody's in particular.
pub(crate) fn guarded_address(set: &str, key: &Key) -> Option<IpAddr> {
    if ![GUARD4, GUARD6].contains(&set) {
        return None;
    }
    match key.0.last()? {
        Item::One(Value::Ipv4(v4)) => Some(IpAddr::V4(*v4)),
        Item::One(Value::Ipv6(v6)) if !v6.is_unicast_link_local() => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

/// What the guard lets a host end send with: the inverse of [`guard`], for rebuilding a lost record.
/// Link-local addresses are left out: they follow from the Ethernet address.
#[must_use]
pub fn guarded(tables: &Tables, host_end: &weft_model::IfName) -> Vec<(Mac, IpAddr)> {
    let Some(port) = IfName::new(host_end.as_str()) else { return Vec::new() };
    let mut found = Vec::new();
    for set in [Family::Inet, Family::Bridge]
        .iter()
        .filter_map(|f| tables.get(&name(*f)))
        .flat_map(|t| [GUARD4, GUARD6].into_iter().filter_map(|set| t.sets.get(set)))
    {
        for key in set.elements.keys() {
            let [Item::One(Value::IfName(at)), Item::One(Value::Mac(mac)), Item::One(address)] = key.0[..]
            else {
                continue;
            };
            let address = match address {
                Value::Ipv4(v4) => IpAddr::V4(v4),
                Value::Ipv6(v6) if !v6.is_unicast_link_local() => IpAddr::V6(v6),
                _ => continue,
            };
            if at == port {
                found.push((mac, address));
            }
        }
    }
    found
}
