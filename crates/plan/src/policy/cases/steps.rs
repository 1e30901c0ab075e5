//! Worlds that change: one thing at a time, of every kind.

use std::sync::Arc;

use ipnet::IpNet;
use weft_model::policy::{Protocol, WorkloadPort};
use weft_model::{AttachmentId, Labels, Mode, Object, Profile, Remote, RemoteName, Workload, World};

use super::{Dice, NAMES, PODS, labels, policy, world};
use crate::policy::Touched;

/// Changes a world in one respect; returns what was touched.
pub fn step(dice: &mut Dice, world: &mut World) -> Touched {
    let mut touched = Touched::default();
    match dice.roll(12) {
        0..4 => {
            let index = dice.roll(8);
            let object = policy(dice, index);
            touched.object(object.id());
            world.declared.insert(object);
        }
        4 | 5 => {
            let all: Vec<_> = world.declared.ids().collect();
            if !all.is_empty() {
                let id = dice.one(&all);
                world.declared.remove(&id);
                touched.object(id);
            }
        }
        6 => {
            let name = dice.one(&NAMES);
            let key = name.parse().expect("a name");
            let Some(mut namespace) = world.declared.namespaces.get(&key).cloned() else { return touched };
            namespace.metadata.labels = labels(&[("team", dice.one(&["red", "blue", "green"]))]);
            let object = Object::Namespace(namespace);
            touched.object(object.id());
            world.declared.insert(object);
        }
        7 => become_local(dice, world, &mut touched),
        8 => become_remote(dice, world, &mut touched),
        9 => {
            let all: Vec<AttachmentId> = world.workloads.keys().cloned().collect();
            if !all.is_empty() {
                let id = dice.one(&all);
                let relabelled = profile(dice, &id);
                if let Some(workload) = world.workloads.get_mut(&id) {
                    workload.profile = relabelled;
                }
                touched.workload(id);
            }
        }
        10 => {
            let all: Vec<RemoteName> = world.remote.keys().cloned().collect();
            if !all.is_empty() {
                let name = dice.one(&all);
                let profile = profile(dice, &name.id);
                let was = world.remote.get(&name).cloned();
                if let Some(remote) = world.remote.get_mut(&name) {
                    (remote.labels, remote.ports) = (Arc::new(profile.labels), profile.named_ports);
                }
                touched.remote(name, was);
            }
        }
        _ => leave(dice, world, &mut touched),
    }
    touched
}

/// A pod that there may be: as a workload.
fn pod(dice: &mut Dice) -> Workload {
    let all = world(Mode::Routed, false).workloads;
    let index = usize::try_from(dice.roll(9)).unwrap_or(0);
    let (id, mut workload) = all.into_iter().nth(index).expect("there are nine");
    workload.profile = profile(dice, &id);
    workload
}

fn profile(dice: &mut Dice, id: &AttachmentId) -> Profile {
    let (namespace, own) = id.container.as_str().split_once('-').unwrap_or(("x", "a"));
    let pod = if dice.some(5) { own } else { dice.one(&PODS) };
    let web = |port| ("web".parse().expect("a name"), WorkloadPort { protocol: Protocol::Tcp, port });
    let labels: Labels = labels(&[("pod", pod), ("tier", dice.one(&["front", "back", "side"]))]);
    Profile {
        namespace: Some(namespace.parse().expect("a name")),
        labels,
        named_ports: if dice.some(5) { [web(dice.one(&[80, 81]))].into() } else { Default::default() },
        ..Profile::default()
    }
}

fn become_local(dice: &mut Dice, world: &mut World, touched: &mut Touched) {
    let workload = pod(dice);
    let name = RemoteName { node: "there".parse().expect("a name"), id: workload.id.clone() };
    if let Some(was) = world.remote.remove(&name) {
        touched.remote(name, Some(was));
    }
    touched.workload(workload.id.clone());
    world.workloads.insert(workload.id.clone(), workload);
}

fn become_remote(dice: &mut Dice, world: &mut World, touched: &mut Touched) {
    let mut workload = pod(dice);
    // Sometimes one turns up elsewhere with the address of another: the news of its end is late.
    if dice.some(2) {
        let other = super::address(NAMES.len() - 1, PODS.len() - 1, true);
        workload.addresses[0] = IpNet::new(other, 16).expect("fits");
    }
    let name = RemoteName { node: "there".parse().expect("a name"), id: workload.id.clone() };
    let remote = Remote {
        namespace: workload.namespace(),
        labels: Arc::new(workload.profile.labels.clone()),
        ports: workload.profile.named_ports.clone(),
        addresses: workload.addresses.iter().map(IpNet::addr).collect(),
    };
    // As often as not the news comes before the other end is gone.
    if dice.some(5) && world.workloads.remove(&workload.id).is_some() {
        touched.workload(workload.id.clone());
    }
    let was = world.remote.insert(name.clone(), remote);
    touched.remote(name, was);
}

fn leave(dice: &mut Dice, world: &mut World, touched: &mut Touched) {
    let remote: Vec<RemoteName> = world.remote.keys().cloned().collect();
    let local: Vec<AttachmentId> = world.workloads.keys().cloned().collect();
    if dice.some(5) && !remote.is_empty() {
        let name = dice.one(&remote);
        let was = world.remote.remove(&name);
        touched.remote(name, was);
    } else if local.len() > 3 {
        let id = dice.one(&local);
        world.workloads.remove(&id);
        touched.workload(id);
    }
}
