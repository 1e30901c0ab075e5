//! What other hands do to weft's objects behind its back.
//!
//! Not among them: taking away an object's mark (a link's group, a table's name). What is not marked is
//! not ours (invariant 3).

use proptest::prelude::*;
use proptest::sample::Index;
use weft_kernel::FakeKernel;
use weft_kernel::nft::{Chain, Declaration, Expr, Rule, TableName, Type};
use weft_kernel::ours::{GROUP, is_ours, tables};
use weft_kernel::state::{Kind, Link, Route, Shape};
use weft_model::{IfName, Mac};

/// Something done to the object that the index picks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hand {
    DeleteLink,
    LinkDown,
    ChangeLink,
    ClearAlias,
    AddWire,
    AddBridge,
    DeleteAddress,
    AddAddress,
    DeleteNeighbour,
    ChangeNeighbour,
    AddNeighbour,
    DeleteRoute,
    MoveRoute,
    AddRoute,
    DeleteShape,
    ChangeShape,
    AddShape,
    DeleteDetour,
    MoveDetour,
    ChangeSetting,
    DeleteTable,
    FlushTable,
    ReplaceSet,
    AddSet,
    DeleteElement,
    AddElement,
    DeleteRule,
    AddRule,
    SwapRules,
    ChangePolicy,
    AddChain,
    Dormant,
}

const ALL: [Hand; 32] = {
    use Hand::*;
    [
        DeleteLink,
        LinkDown,
        ChangeLink,
        ClearAlias,
        AddWire,
        AddBridge,
        DeleteAddress,
        AddAddress,
        DeleteNeighbour,
        ChangeNeighbour,
        AddNeighbour,
        DeleteRoute,
        MoveRoute,
        AddRoute,
        DeleteShape,
        ChangeShape,
        AddShape,
        DeleteDetour,
        MoveDetour,
        ChangeSetting,
        DeleteTable,
        FlushTable,
        ReplaceSet,
        AddSet,
        DeleteElement,
        AddElement,
        DeleteRule,
        AddRule,
        SwapRules,
        ChangePolicy,
        AddChain,
        Dormant,
    ]
};

pub(crate) fn tamper() -> impl Strategy<Value = (Hand, Index, Index)> {
    (prop::sample::select(&ALL[..]), any::<Index>(), any::<Index>())
}

fn pick<T: Clone>(items: impl IntoIterator<Item = T>, index: &Index) -> Option<T> {
    let items: Vec<T> = items.into_iter().collect();
    (!items.is_empty()).then(|| index.get(&items).clone())
}

/// Does it; where there is nothing to do it to, nothing happens.
pub(crate) fn apply(kernel: &mut FakeKernel, (hand, first, second): &(Hand, Index, Index)) {
    let done = to_links(kernel, *hand, first)
        .or_else(|| to_addressing(kernel, *hand, first))
        .or_else(|| to_limits(kernel, *hand, first));
    if done.is_none() {
        to_tables(kernel, *hand, first, second);
    }
}

fn our_link(kernel: &FakeKernel, index: &Index) -> Option<IfName> {
    let ours = kernel.host.links.iter().filter(|(_, l)| is_ours(l.group)).map(|(name, _)| name.clone());
    pick(ours, index)
}

fn to_links(kernel: &mut FakeKernel, hand: Hand, index: &Index) -> Option<()> {
    let stray = |kind| Link {
        kind,
        mac: Mac::from_seed(77),
        mtu: 1500,
        group: GROUP | if kind == Kind::Bridge { 0x8123 } else { 0x123 },
        up: true,
        master: None,
        hairpin: false,
        alias: Some("weft1 gone gone eth0 7".to_owned()),
    };
    match hand {
        Hand::AddWire => {
            kernel.host.links.insert("weftffffffffff".parse().unwrap(), stray(Kind::Wire)).map(|_| ())
        }
        Hand::AddBridge => {
            kernel.host.links.insert("weft_291".parse().unwrap(), stray(Kind::Bridge)).map(|_| ())
        }
        Hand::DeleteLink => our_link(kernel, index).map(|name| kernel.remove_link(&name)),
        Hand::LinkDown => our_link(kernel, index).map(|name| {
            kernel.host.links.get_mut(&name).unwrap().up = false;
            kernel.host.routes.retain(|_, r| r.device != name);
            kernel.host.neighbours.retain(|(n, _), _| *n != name);
        }),
        Hand::ChangeLink => our_link(kernel, index).map(|name| {
            let uplink = "eth0".parse().unwrap();
            let link = kernel.host.links.get_mut(&name).unwrap();
            (link.mtu, link.mac, link.master) = (1001, Mac::from_seed(99), Some(uplink));
        }),
        Hand::ClearAlias => our_link(kernel, index).map(|name| {
            kernel.host.links.get_mut(&name).unwrap().alias = None;
        }),
        _ => None,
    }
}

fn to_addressing(kernel: &mut FakeKernel, hand: Hand, index: &Index) -> Option<()> {
    let link = our_link(kernel, index);
    let host = &mut kernel.host;
    let (ours, links) = (
        |name: &IfName, links: &std::collections::BTreeMap<IfName, Link>| {
            links.get(name).is_some_and(|l| is_ours(l.group))
        },
        host.links.clone(),
    );
    match hand {
        Hand::DeleteAddress => {
            let all = host.addresses.iter().filter(|(name, _)| ours(name, &links)).cloned();
            pick(all, index).map(|address| {
                host.addresses.remove(&address);
            })
        }
        Hand::AddAddress => link.map(|name| {
            host.addresses.insert((name, "203.0.113.9/24".parse().unwrap()));
        }),
        Hand::DeleteNeighbour => {
            let all = host.neighbours.keys().filter(|(name, _)| ours(name, &links)).cloned();
            pick(all, index).map(|key| {
                host.neighbours.remove(&key);
            })
        }
        Hand::ChangeNeighbour => {
            let all = host.neighbours.keys().filter(|(name, _)| ours(name, &links)).cloned();
            pick(all, index).map(|key| {
                host.neighbours.insert(key, Mac::from_seed(5));
            })
        }
        Hand::AddNeighbour => link.map(|name| {
            host.neighbours.insert((name, "203.0.113.10".parse().unwrap()), Mac::from_seed(6));
        }),
        Hand::DeleteRoute => pick(host.routes.keys().copied(), index).map(|to| {
            host.routes.remove(&to);
        }),
        Hand::MoveRoute => pick(host.routes.keys().copied(), index).map(|to| {
            host.routes.insert(to, Route::on_link("eth0".parse().unwrap(), None));
        }),
        Hand::AddRoute => link.map(|name| {
            host.routes.insert("203.0.113.0/25".parse().unwrap(), Route::on_link(name, None));
        }),
        Hand::ChangeSetting => {
            let all =
                host.sysctls.keys().filter(|k| k.link().is_none_or(|l| l.starts_with("weft-net"))).cloned();
            pick(all, index).map(|key| {
                host.sysctls.insert(key, "7".to_owned());
            })
        }
        _ => None,
    }
}

fn to_limits(kernel: &mut FakeKernel, hand: Hand, index: &Index) -> Option<()> {
    let link = our_link(kernel, index);
    let host = &mut kernel.host;
    let ours: Vec<IfName> =
        host.links.iter().filter(|(_, l)| is_ours(l.group)).map(|(name, _)| name.clone()).collect();
    let shaped: Vec<IfName> = ours.iter().filter(|n| host.shapes.contains_key(*n)).cloned().collect();
    let detoured: Vec<IfName> = ours.into_iter().filter(|n| host.detours.contains_key(n)).collect();
    let theirs = Shape::new(1, 1, 1);
    match hand {
        Hand::DeleteShape => pick(shaped, index).and_then(|name| host.shapes.remove(&name)).map(|_| ()),
        Hand::ChangeShape => {
            pick(shaped, index).and_then(|name| host.shapes.insert(name, theirs)).map(|_| ())
        }
        Hand::AddShape => link.map(|name| {
            host.shapes.insert(name, theirs);
        }),
        Hand::DeleteDetour => pick(detoured, index).and_then(|name| host.detours.remove(&name)).map(|_| ()),
        Hand::MoveDetour => {
            link.and_then(|by| pick(detoured, index).map(|name| drop(host.detours.insert(name, by))))
        }
        _ => None,
    }
}

fn to_tables(kernel: &mut FakeKernel, hand: Hand, first: &Index, second: &Index) -> Option<()> {
    let present = tables().into_iter().filter(|name| kernel.host.tables.contains_key(name));
    let name: TableName = pick(present, first)?;
    if let Hand::DeleteTable = hand {
        kernel.host.tables.remove(&name);
        return Some(());
    }
    let table = kernel.host.tables.get_mut(&name)?;
    let set = pick(table.sets.keys().cloned(), second);
    let chain = pick(table.chains.keys().cloned(), second);
    match hand {
        Hand::FlushTable => table.chains.values_mut().for_each(|c| c.rules.clear()),
        Hand::AddSet => {
            table.sets.insert("theirs".to_owned(), Declaration::set(&[Type::Ipv4]).empty());
        }
        Hand::AddChain => {
            let rules = vec![Rule::new([Expr::drop()])];
            table.chains.insert("theirs".to_owned(), Chain { base: None, rules });
        }
        Hand::Dormant => table.foreign.push("flag dormant".to_owned()),
        Hand::ReplaceSet => {
            table.sets.insert(set?, Declaration::set(&[Type::Mark]).empty());
        }
        Hand::DeleteElement => {
            let elements = &mut table.sets.get_mut(&set?)?.elements;
            let key = pick(elements.keys().cloned(), first)?;
            elements.remove(&key);
        }
        Hand::AddElement => {
            // A key of the right shape: one that is there, in another set of the same shape, or a copy's neighbour.
            let donor = table.sets.values().find(|s| !s.elements.is_empty())?.clone();
            let set = table.sets.get_mut(&set?)?;
            if set.declaration == donor.declaration {
                set.elements.extend(donor.elements);
            }
        }
        Hand::DeleteRule => {
            table.chains.get_mut(&chain?)?.rules.pop();
        }
        Hand::AddRule => table.chains.get_mut(&chain?)?.rules.insert(0, Rule::new([Expr::accept()])),
        Hand::SwapRules => table.chains.get_mut(&chain?)?.rules.reverse(),
        Hand::ChangePolicy => {
            if let Some(base) = &mut table.chains.get_mut(&chain?)?.base {
                base.policy = weft_kernel::nft::Policy::Drop;
            }
        }
        _ => return None,
    }
    Some(())
}
