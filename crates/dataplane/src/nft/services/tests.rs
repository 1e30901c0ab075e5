//! What a change does step by step is what the whole ruleset would be; and a service's lookups, walked by hand.

use std::net::SocketAddr;

use weft_kernel::nft::{self, Op, TableName};
use weft_model::ServiceName;
use weft_model::policy::Protocol;
use weft_plan::services::{Frontend, PortPlan};

use super::*;

fn service_name(n: usize) -> ServiceName {
    ("x".parse().unwrap(), format!("s{n}").parse().unwrap())
}

fn backend(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 1000 + n))
}

fn service(n: usize, backends: &[u16], node_port: bool) -> ServicePlan {
    let address: IpAddr = format!("10.96.0.{}", n + 1).parse().unwrap();
    let mut frontends = vec![Frontend::At(address, 80)];
    frontends.extend(node_port.then(|| Frontend::Host(30_000 + u16::try_from(n).unwrap())));
    let port = PortPlan {
        name: None,
        protocol: Protocol::Tcp,
        ipv4: true,
        frontends,
        backends: backends.iter().map(|b| backend(*b)).collect(),
    };
    let local = backends.iter().filter(|b| *b % 2 == 0).map(|b| format!("10.0.0.{b}").parse().unwrap());
    ServicePlan { addresses: vec![address], affinity: None, ports: vec![port], local: local.collect() }
}

fn tables(plan: &Plan) -> Tables {
    let mut table = Table::default();
    fill(plan, &mut table);
    Tables::from([(name(Family::Inet), table)])
}

fn ops(changes: &[Change]) -> Vec<Vec<Op>> {
    let ops = |change: &Change| match change {
        Change::InstallRules(ops) | Change::RemoveRules(ops) => Some(ops.clone()),
        _ => None,
    };
    changes.iter().filter_map(ops).collect()
}

/// Puts a service's plan in the place of another, and says what changed.
fn put(plan: &mut Plan, n: usize, mut after: Option<ServicePlan>) -> (Frame, Changed) {
    let frame = Frame::of(plan);
    let before = plan.services.services.get(&service_name(n)).cloned();
    if let (Some(after), Some(before)) = (&mut after, &before) {
        after.keep_slots(before);
    }
    let mut changed = Changed { services: vec![(before, after.clone())], ..Changed::default() };
    let was = plan.services.served.clone();
    plan.services.put(&service_name(n), after);
    for address in concerned(&changed.services) {
        let now = plan.services.served.contains_key(&address);
        if was.contains_key(&address) != now {
            changed.served.insert(address, now);
        }
    }
    (frame, changed)
}

#[test]
fn step_by_step_is_the_whole() {
    let mut dice = weft_plan::policy::cases::Dice::new(7);
    let mut plan = Plan::default();
    plan.services.ranges = vec!["10.96.0.0/16".parse().unwrap()];
    let mut kernel = Tables::from([(name(Family::Inet), Table::default())]);
    for round in 0..400 {
        let n = usize::try_from(dice.roll(4)).unwrap();
        let count = if dice.roll(10) == 0 { 40 } else { dice.roll(9) };
        let backends: Vec<u16> = (0..count).map(|_| u16::try_from(dice.roll(60)).unwrap()).collect();
        let backends: Vec<u16> = BTreeSet::from_iter(backends).into_iter().collect();
        let after = (dice.roll(5) != 0).then(|| service(n, &backends, n % 2 == 0));
        let (frame, changed) = put(&mut plan, n, after);
        for batch in ops(&change(&frame, &Frame::of(&plan), &changed)) {
            nft::fake::apply(&mut kernel, &batch)
                .unwrap_or_else(|(at, errno)| panic!("{errno}: {}", batch[at]));
        }
        let left = diff(&tables(&plan), &kernel);
        assert!(left.is_empty(), "round {round}: {left:?}");
    }
}

/// A backend more or less touches its own service's elements, a handful of them, and no chain.
#[test]
fn one_backend_is_a_handful_of_elements() {
    let mut plan = Plan::default();
    for n in 0..50 {
        put(&mut plan, n, Some(service(n, &[1, 3, 5], false)));
    }
    for (backends, most) in [(vec![1, 3, 5, 7], 1), (vec![3, 5, 7], 3), (vec![3, 5], 5)] {
        let (frame, changed) = put(&mut plan, 9, Some(service(9, &backends, false)));
        let mut elements = 0;
        for op in ops(&change(&frame, &Frame::of(&plan), &changed)).into_iter().flatten() {
            match op {
                Op::AddElements { elements: added, .. } => elements += added.len(),
                Op::DeleteElements { keys, .. } => elements += keys.len(),
                other => panic!("{other}"),
            }
        }
        assert!(elements <= most, "{backends:?}: {elements} elements");
    }
}

#[test]
fn a_lost_backend_and_a_new_service_have_their_connections_looked_at() {
    let mut plan = Plan::default();
    let mut looked_at = |n, after: Option<ServicePlan>| {
        let (frame, changed) = put(&mut plan, n, after);
        let changes = change(&frame, &Frame::of(&plan), &changed);
        let stale = changes.iter().find_map(|c| match c {
            Change::ForgetFlows(stale) => Some(stale.clone()),
            _ => None,
        });
        match stale.as_deref() {
            Some([Stale::Astray(services)]) => services.values().map(BTreeSet::len).collect::<Vec<_>>(),
            None => Vec::new(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(looked_at(0, Some(service(0, &[1, 3], true))), [2, 2]);
    assert_eq!(looked_at(0, Some(service(0, &[1, 3, 5], true))), [0; 0]);
    assert_eq!(looked_at(0, Some(service(0, &[3, 5], true))), [2, 2]);
    assert_eq!(looked_at(0, Some(service(0, &[], true))), [0, 0]);
    assert_eq!(looked_at(0, Some(service(0, &[1], true))), [1, 1]);
    assert_eq!(looked_at(0, None), [0, 0]);
}

#[test]
fn a_restart_finds_the_slots() {
    let mut plan = Plan::default();
    put(&mut plan, 0, Some(service(0, &[1, 3, 5], false)));
    put(&mut plan, 0, Some(service(0, &[3, 5], false)));
    put(&mut plan, 0, Some(service(0, &[0, 3, 5], true)));
    let wanted = plan.services.services[&service_name(0)].clone();
    assert_ne!(wanted, wanted.clone().sorted());
    let mut fresh = plan.services.clone();
    fresh.put(&service_name(0), Some(wanted.clone().sorted()));
    let found = found(&tables(&plan), &fresh);
    fresh.keep_slots(&found);
    assert_eq!(fresh.services[&service_name(0)], wanted);
    assert_eq!(TableName::new(Family::Inet, "weft"), name(Family::Inet));
}
