//! Connection tracking: messages word for word, and the real kernel.

use std::net::UdpSocket;

use proptest::prelude::*;

use super::*;
use crate::netlink::{Family, Messages};
use crate::netns::Netns;
use crate::nft::{self, Base, Expr, Field, Hook, Kind, Op, Rule, TableName};
use crate::rtnl::link;

/// A namespace whose loopback is tracked, for `work`.
fn tracked<T>(work: impl FnOnce(&mut Socket) -> T) -> T {
    let netns = Netns::anonymous().unwrap();
    netns
        .run(|| {
            let mut route = Socket::open(Family::Route).unwrap();
            let mut messages = Messages::default();
            link::change(&mut messages, 1, &link::Change { up: Some(true), ..link::Change::default() });
            route.transact(&messages).unwrap()[0].clone().unwrap();
            let mut socket = Socket::open(Family::Netfilter).unwrap();
            let table = TableName::new(nft::Family::Inet, "test");
            let chain = "output".to_owned();
            let base = Some(Base::new(Kind::Filter, Hook::Output, 0));
            let rule = Rule::new([Expr::any_bit(Field::CtState, 1), Expr::drop()]);
            let ops = [
                Op::AddTable(table.clone()),
                Op::AddChain { table: table.clone(), chain: chain.clone(), base },
                Op::AddRule { table, chain, rule },
            ];
            nft::apply(&mut socket, &ops).unwrap();
            work(&mut socket)
        })
        .unwrap()
}

fn talk(to: &str) -> (UdpSocket, UdpSocket) {
    let server = UdpSocket::bind(to).unwrap();
    let client = UdpSocket::bind(to).unwrap();
    client.send_to(b"x", server.local_addr().unwrap()).unwrap();
    let (_, peer) = server.recv_from(&mut [0; 8]).unwrap();
    server.send_to(b"y", peer).unwrap();
    client.recv_from(&mut [0; 8]).unwrap();
    (client, server)
}

#[test]
fn flows_are_found_by_their_parts_and_forgotten() {
    tracked(|socket| {
        for to in ["127.0.0.1:0", "[::1]:0"] {
            let (client, server) = talk(to);
            let (from, to) = (client.local_addr().unwrap(), server.local_addr().unwrap());
            let (_other_client, _other_server) =
                talk(&format!("{}:0", if to.is_ipv4() { "127.0.0.1" } else { "[::1]" }));
            let all = flows(socket, &Filter::default()).unwrap();
            assert!(all.len() >= 2, "{all:?}");
            let port = |port| Parts { protocol: Some(17), destination_port: Some(port), ..Parts::default() };
            let filters = [
                Filter { original: port(to.port()), ..Filter::default() },
                Filter { reply: port(from.port()), ipv4: Some(to.is_ipv4()), ..Filter::default() },
                Filter {
                    original: Parts { destination: Some(to.ip()), ..port(to.port()) },
                    reply: port(from.port()),
                    ipv4: None,
                },
                Filter {
                    original: Parts {
                        source: Some(from.ip()),
                        protocol: Some(17),
                        source_port: Some(from.port()),
                        ..Parts::default()
                    },
                    ..Filter::default()
                },
            ];
            for filter in &filters {
                let found = flows(socket, filter).unwrap();
                let [flow] = found.as_slice() else { panic!("{filter:?} found {found:?}") };
                let original = (flow.original.source, flow.original.destination, flow.original.ports);
                assert_eq!(original, (from.ip(), to.ip(), (from.port(), to.port())));
                assert_eq!(flow.reply.ports, (to.port(), from.port()));
                assert!(flow.status & status::SEEN_REPLY != 0 && !flow.is_led_elsewhere());
                assert!(flow.concerns(to.ip()));
            }
            let found = flows(socket, &filters[0]).unwrap();
            assert_eq!(forget(socket, &found).unwrap(), 1);
            assert_eq!(flows(socket, &filters[0]).unwrap(), []);
            assert_eq!(forget(socket, &found).unwrap(), 0, "what is gone is no error");
            assert_eq!(flows(socket, &Filter::default()).unwrap().len(), all.len() - 1);
            // Another flow of the same ends is not meant.
            client.send_to(b"x", to).unwrap();
            let other = Flow { id: found[0].id.map(|id| id ^ 1), ..found[0].clone() };
            assert_eq!(forget(socket, &[other]).unwrap(), 0);
            let again = flows(socket, &filters[0]).unwrap();
            assert_eq!(forget(socket, &again).unwrap(), 1);
            let rest = flows(socket, &Filter::default()).unwrap();
            forget(socket, &rest).unwrap();
        }
    });
}

#[test]
fn other_protocols_are_forgotten_too() {
    tracked(|socket| {
        let ping = rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::RAW,
            Some(rustix::net::ipproto::ICMP),
        )
        .unwrap();
        // An echo request with identifier 0x1234 (RFC 792).
        let echo = [8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1];
        let to = std::net::SocketAddrV4::new([127, 0, 0, 1].into(), 0);
        rustix::net::sendto(&ping, &echo, rustix::net::SendFlags::empty(), &to).unwrap();
        let icmp = Parts { protocol: Some(1), ..Parts::default() };
        let found = flows(socket, &Filter { original: icmp, ..Filter::default() }).unwrap();
        assert!(found.iter().any(|f| f.original.echo == Some((0x1234, 8, 0))), "{found:?}");
        assert_eq!(forget(socket, &found).unwrap(), found.len());
    });
}

proptest! {
    #[test]
    fn rubbish_never_panics(kind in prop::sample::select(vec![kind(NEW), kind(GET)]), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&Message { kind, flags: 0, sequence: 0, port: 0, payload: &bytes });
        let _ = Tuple::read(&bytes);
    }

    #[test]
    fn what_is_written_is_read(source: [u8; 16], destination: [u8; 16], v4: bool, protocol: u8, ports: (u16, u16)) {
        let address = |bytes: [u8; 16]| -> IpAddr {
            if v4 { IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]) } else { IpAddr::from(bytes) }
        };
        let echo = matches!(protocol, 1 | 58).then_some((ports.0, 8, 0));
        let ports = if echo.is_some() { (0, 0) } else { ports };
        let tuple = Tuple { source: address(source), destination: address(destination), protocol, ports, echo };
        let mut messages = Messages::default();
        messages.push(kind(NEW), 0, &header(2), |a| {
            tuple.write(a, attribute::ORIGINAL);
            tuple.write(a, attribute::REPLY);
        });
        let body = messages.bytes()[16..].to_vec();
        let flow = read(&Message { kind: kind(NEW), flags: 0, sequence: 0, port: 0, payload: &body });
        prop_assert_eq!(flow.map(|f| (f.original, f.reply)), Some((tuple, tuple)));
    }
}
