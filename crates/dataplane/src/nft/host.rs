//! What workloads may send to the host itself: everything, but not to the gateways of networks that are not theirs.
//!
//! A gateway's address is the host as one network sees it, and whatever is bound to it is meant for that network:
//! to let the others in would undo the isolation where it is least expected.

use std::net::IpAddr;

use weft_kernel::nft::{Declaration, Expr, Field, Key, Reject, Rule, SetRef, Table, Type, Value};
use weft_kernel::ours::tunnel_group;
use weft_plan::Plan;

use super::inet::{ESTABLISHED_OR_RELATED, ISOLATED, joined_group, ours, refuse};

/// Gateways, with the group of the links of their network.
const OWN: [&str; 2] = ["own_gateway4", "own_gateway6"];
/// Gateways.
const ALL: [&str; 2] = ["gateway4", "gateway6"];
const FIELDS: [Field; 2] = [Field::IpDaddr, Field::Ip6Daddr];
const TYPES: [Type; 2] = [Type::Ipv4, Type::Ipv6];

pub(super) fn sets(plan: &Plan, table: &mut Table) {
    for family in [0, 1] {
        let mut own = Declaration::set(&[Type::IfGroup, TYPES[family]]).empty();
        let mut all = Declaration::set(&[TYPES[family]]).empty();
        for network in plan.networks.values() {
            for gateway in &network.gateways {
                let address: Value = match (family, gateway.addr()) {
                    (0, IpAddr::V4(v4)) => v4.into(),
                    (1, IpAddr::V6(v6)) => v6.into(),
                    _ => continue,
                };
                let mut add = |group| own.elements.insert([Value::group(group), address].into(), None);
                add(joined_group(network));
                if network.declared.vni.is_some() {
                    add(tunnel_group(network.id)); // its workloads on other hosts
                }
                all.elements.insert(Key::from([address]), None);
            }
        }
        table.sets.insert(OWN[family].to_owned(), own);
        table.sets.insert(ALL[family].to_owned(), all);
    }
}

pub(super) fn input() -> Vec<Rule> {
    // VXLAN (RFC 7348): only other hosts may hand us encapsulated packets.
    let overlay =
        [ours(Field::IifGroup), Expr::number(Field::L4Proto, 17), Expr::number(Field::ThDport, 4789)];
    let mut rules = vec![refuse(overlay, Expr::drop(), "overlay packet from a workload")];
    for family in [0, 1] {
        // Answers pass: the host may speak to any workload with any of its addresses.
        let foreign = [
            ours(Field::IifGroup),
            Expr::lookup(&[FIELDS[family]], SetRef::hash(ALL[family])),
            Expr::absent(&[Field::IifGroup, FIELDS[family]], SetRef::hash(OWN[family])),
            Expr::no_bit(Field::CtState, ESTABLISHED_OR_RELATED),
        ];
        rules.push(refuse(foreign, Expr::Reject(Reject::ADMIN_PROHIBITED), ISOLATED));
    }
    rules
}
