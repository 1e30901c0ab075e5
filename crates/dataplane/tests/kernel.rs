//! The rendered state and the real kernel: what is applied is read back, and what is taken away is gone.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeMap;

use weft_dataplane::{Wanted, render, steps, sync};
use weft_kernel::netns::Netns;
use weft_kernel::{Kernel, Linux};
use weft_model::{Bandwidth, Here, Mode, Network, NetworkId, Node, Owner, Phase, Workload, World};

fn here() -> Here {
    Here::new("here".parse().unwrap())
}

fn network(name: &str, id: u16, mode: Mode) -> Network {
    Network {
        name: name.parse().unwrap(),
        id: NetworkId(id),
        mode,
        ipv4: Some(format!("10.{id}.0.0/16").parse().unwrap()),
        ipv6: Some(format!("fd77:0:0:{id}::/64").parse().unwrap()),
        mtu: None,
        masquerade: true,
        vni: None,
        encapsulation: weft_model::Encapsulation::Auto,
    }
}

fn workload(network: &Network, number: u8, netns: &Netns) -> Workload {
    let id = network.id.0;
    Workload {
        id: weft_model::AttachmentId {
            network: network.name.clone(),
            container: format!("c{number}").parse().unwrap(),
            ifname: format!("eth{number}").parse().unwrap(),
        },
        owner: Owner::default(),
        phase: Phase::Ready,
        netns: weft_model::Netns {
            path: format!("/proc/self/fd/{}", raw(netns)).into(),
            inode: netns.inode(),
        },
        host_end: format!("weft{id:05}{number:05}").parse().unwrap(),
        mac: weft_model::Mac([2, 0, 0, 0, u8::try_from(id).unwrap(), number]),
        mtu: 1400,
        addresses: vec![
            format!("10.{id}.0.{}/16", number + 2).parse().unwrap(),
            format!("fd77:0:0:{id}::{}/64", number + 2).parse().unwrap(),
        ],
        default_route: number == 0,
        pod: None,
        profile: weft_model::Profile { bandwidth: bandwidth(number), ..Default::default() },
    }
}

/// One workload slow and with bursts of its own, the other one faster than 32 bits of bytes.
fn bandwidth(number: u8) -> Bandwidth {
    let text = if number == 0 { "10M:1M/128k" } else { "40G/1.5G:100M" };
    text.parse().unwrap()
}

fn raw(netns: &Netns) -> i32 {
    use std::os::fd::{AsFd, AsRawFd};
    netns.as_fd().as_raw_fd()
}

fn world(netns: &Netns) -> World {
    let node = Node::alone(1400);
    let networks = [network("routed", 1, Mode::Routed), network("bridged", 2, Mode::Bridge)];
    let workloads = [workload(&networks[0], 0, netns), workload(&networks[1], 1, netns)];
    World {
        nodes: BTreeMap::from([(here().name, node)]),
        networks: networks.into_iter().map(|n| (n.name.clone(), n)).collect(),
        workloads: workloads.into_iter().map(|w| (w.id.clone(), w)).collect(),
        ..World::default()
    }
}

#[test]
fn what_is_applied_is_read_back_and_what_is_removed_is_gone() {
    let (host, inside) = (Netns::anonymous().unwrap(), Netns::anonymous().unwrap());
    host.run(|| {
        let mut kernel = Linux::open().unwrap();
        let before = kernel.read(&[]).unwrap();
        let wanted = render(&weft_plan::plan(&world(&inside), &here()));

        let report = sync(&mut kernel, &wanted).unwrap();
        assert!(report.refused.is_empty(), "{:#?}", report.refused);
        let keys: Vec<_> = wanted.state.sysctls.keys().cloned().collect();
        let found = kernel.read(&keys).unwrap();
        assert_eq!(steps(&wanted, &found), [], "a second sync has nothing to do");
        assert_eq!(found.links, wanted.state.links);
        assert_eq!(found.addresses, wanted.state.addresses);
        assert_eq!(found.routes, wanted.state.routes);
        assert_eq!(found.neighbours, wanted.state.neighbours);
        assert_eq!(found.sysctls, wanted.state.sysctls);
        assert_eq!((found.shapes.len(), found.detours.len()), (4, 2));
        assert_eq!(found.shapes, wanted.state.shapes);
        assert_eq!(found.detours, wanted.state.detours);
        for wire in wanted.wires.values() {
            assert_eq!(weft_kernel::linux::check(&wire.inside).unwrap(), Vec::<String>::new());
        }

        let report = sync(&mut kernel, &Wanted::default()).unwrap();
        assert!(report.refused.is_empty(), "{:#?}", report.refused);
        kernel.reap().unwrap();
        assert_eq!(kernel.read(&[]).unwrap(), before);
    })
    .unwrap();
}
