//! The rendered state and the real kernel: what is applied is read back, and what is taken away is gone.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeMap;

use weft_dataplane::{Wanted, render, steps, sync};
use weft_kernel::netns::Netns;
use weft_kernel::{Change, Kernel, Linux};
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
        profile: weft_model::Profile {
            bandwidth: bandwidth(number),
            ports: ports(number),
            ..Default::default()
        },
    }
}

fn ports(number: u8) -> Vec<weft_model::PortMapping> {
    let all = [
        format!("80{number}0-80{number}9:80-89"),
        format!("192.0.2.{number}:53:53/udp"),
        format!("9{number}:9/sctp"),
    ];
    all.iter().map(|port| port.parse().unwrap()).collect()
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
        let mut wanted = render(&weft_plan::plan(&world(&inside), &here()));
        // Programs at a control group are for whole programs to test (tests/tests/ports_loopback.rs).
        wanted.state.loopback = None;

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

/// What a failed change of many commands says is the command that failed.
#[test]
fn the_command_that_failed_is_named() {
    let (host, inside) = (Netns::anonymous().unwrap(), Netns::anonymous().unwrap());
    host.run(|| {
        let mut kernel = Linux::open().unwrap();
        let mut wanted = render(&weft_plan::plan(&world(&inside), &here()));
        wanted.state.loopback = None;
        let all = steps(&wanted, &kernel.read(&[]).unwrap());
        let is_inner = |c: &Change| matches!(c, Change::Configure(..) | Change::Finish(..));
        let (inner, outer): (Vec<_>, Vec<_>) = all.into_iter().partition(is_inner);
        let failed = |kernel: &mut Linux, changes: &[Change]| -> Vec<String> {
            let answers = kernel.apply(changes);
            answers.into_iter().filter_map(Result::err).map(|e| e.command).collect()
        };
        assert_eq!(failed(&mut kernel, &outer), Vec::<String>::new());
        let spoilt = |spoil: &dyn Fn(&mut weft_kernel::state::Inside)| -> Vec<Change> {
            let Change::Configure(name, inside) = &inner[0] else { panic!("{inner:?}") };
            let mut inside = inside.clone();
            spoil(&mut inside);
            vec![Change::Configure(name.clone(), inside)]
        };
        let third = spoilt(&|inside| inside.sysctls[2].1 = "rubbish".to_owned());
        let third = failed(&mut kernel, &third);
        assert!(third[0].ends_with("accept_redirects=rubbish"), "{third:?}");
        let second = spoilt(&|inside| inside.addresses[1] = "ff02::1/128".parse().unwrap());
        let second = failed(&mut kernel, &second);
        assert!(second[0].contains("ip addr replace ff02::1/128 "), "{second:?}");
        assert_eq!(failed(&mut kernel, &inner), Vec::<String>::new(), "what had failed is made good");

        let table = weft_kernel::ours::tables()[0].clone();
        let no_chain =
            |n: u8| weft_kernel::nft::Op::DeleteChain { table: table.clone(), chain: format!("no{n}") };
        let fine = weft_kernel::nft::Op::AddTable(table.clone());
        let refused = failed(&mut kernel, &[Change::InstallRules(vec![fine, no_chain(1), no_chain(2)])]);
        assert_eq!(refused, ["nft delete chain inet weft no1"]);
    })
    .unwrap();
}

/// Ports of a bridge are deleted a few at a time, and nobody else with them.
#[test]
fn many_retired_ports_are_reaped() {
    use weft_kernel::ours::{LEAVING, REAPED};
    const SCRIPT: &str = "ip link add br0 type bridge; ip link set br0 up
        for i in $(seq 20); do
            ip link add weft$i address 02:77:65:66:74:01 group GROUP master br0 type veth peer name p$i
        done
        ip link add weft99 address 02:77:65:66:74:01 group GROUP type veth peer name p99";
    let host = Netns::anonymous().unwrap();
    let sh = |script: &str| host.command("sh").args(["-ec", script]).status().unwrap().success();
    for stray in [false, true] {
        assert!(sh(&SCRIPT.replace("GROUP", &REAPED.to_string())));
        if stray {
            assert!(sh(&format!("ip link add theirs group {LEAVING} type bridge")));
        }
        let (reaped, left) = host
            .run(|| {
                let mut kernel = Linux::open().unwrap();
                (kernel.reap().unwrap(), kernel.reap().unwrap())
            })
            .unwrap();
        assert_eq!((reaped.deleted, reaped.foreign.len(), left.deleted), (21, 0, 0));
        assert_eq!(sh("ip link show theirs"), stray, "somebody else's link");
        assert!(sh("! ip -o link | grep -q weft; ip link del br0"));
    }
}
