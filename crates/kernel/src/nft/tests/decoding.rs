//! Whatever the kernel, or anybody, sends: decoding never panics.

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use crate::netlink::{Message, Messages, attributes};

use super::super::{declaration, decode, elements, wire};
use super::*;

/// Real dumps of everything: the payloads of the kernel's messages.
fn dumps() -> Vec<(u16, Vec<u8>)> {
    in_netns(|socket, _| {
        applied(socket, &install(&samples::all()));
        let mut all = Vec::new();
        for family in Family::ALL {
            for get in [wire::message::GET_CHAIN, wire::message::GET_RULE, wire::message::GET_SET] {
                all.extend(dump(socket, family, get, None));
            }
            for set in ["cidrs4", "allow", "guard4", "verdicts", "backends", "affinity"] {
                all.extend(dump(socket, family, wire::message::GET_ELEMENT, Some(set)));
            }
        }
        all
    })
}

fn dump(socket: &mut Socket, family: Family, get: u16, set: Option<&str>) -> Vec<(u16, Vec<u8>)> {
    let mut request = Messages::default();
    request.push(wire::kind(get), wire::REQUEST | wire::DUMP, &wire::header(family as u8, 0), |a| {
        if let Some(set) = set {
            a.text(1, "weft").text(2, set);
        }
    });
    let keep = |all: &mut Vec<_>, message: &Message<'_>| all.push((message.kind, message.payload.to_vec()));
    socket.dump(&request, keep).unwrap_or_default()
}

/// Everything that reads something, on one payload.
fn read_all(kind: u16, payload: &[u8]) {
    let message = Message { kind, flags: 0, sequence: 0, port: 0, payload };
    let body = message.body(4);
    for family in Family::ALL {
        let _ = decode::expressions(family, body, &decode::Anonymous::new());
        for attribute in attributes(body) {
            let _ = decode::expressions(family, attribute.value, &decode::Anonymous::new());
        }
    }
    let _ = concerns(&message, &[TableName::new(Family::Inet, "weft")]);
    let mut declarations: Vec<Declaration> = declaration::read(body).into_iter().collect();
    declarations.extend(samples::rich(Family::Inet).sets.into_values().map(|set| set.declaration));
    for declaration in &declarations {
        for attribute in attributes(body) {
            let found: Option<Vec<_>> = elements::read(attribute.value, declaration).collect();
            let _ = found.and_then(|found| elements::gather(declaration, found));
        }
    }
    let _ = read::fuzz(&message, &TableName::new(Family::Inet, "weft"));
}

#[test]
fn a_rule_of_somebody_else_is_foreign_and_different() {
    let name = TableName::new(Family::Inet, "weft");
    let foreign = "table inet weft {\n set s { type ipv4_addr; flags interval; auto-merge; elements = { 1.1.1.1 } }\n \
        counter c { }\n chain c {\n meta skuid 5 accept\n tcp flags & (syn|rst) == syn drop\n counter name c\n \
        ip saddr { 1.1.1.1-1.1.1.5 } accept\n ip saddr 10.0.0.0/8 accept\n ct state vmap { new : drop }\n \
        meta priority set 1:2\n quota 5 mbytes\n tcp option maxseg size set 1400\n }\n }\n";
    in_netns(|socket, netns| {
        oracle::nft(netns, &["-f", "-"], foreign);
        let found = read(socket, std::slice::from_ref(&name)).unwrap();
        let rules = &found[&name].chains["c"].rules;
        assert_eq!(rules.len(), 9);
        // `10.0.0.0/8` is loaded by `nft` as one byte: understood, as a raw piece. So are TCP's flags.
        let foreign: Vec<bool> =
            rules.iter().map(|rule| matches!(rule.expressions[..], [Expr::Foreign(_)])).collect();
        // The anonymous map shows as a name that cannot be wanted.
        assert_eq!(foreign, [true, false, true, true, false, false, true, true, true]);
        let wanted = Tables::from([(name.clone(), samples::rich(Family::Inet))]);
        let steps = diff(&wanted, &found);
        applied(socket, &steps.install);
        applied(socket, &steps.remove);
        assert_eq!(read(socket, &[name]).unwrap(), samples::as_read(&wanted));
    });
}

#[test]
fn a_dormant_table_and_unknown_chains_are_foreign() {
    let name = TableName::new(Family::Inet, "weft");
    for text in [
        "add table inet weft { flags dormant; }",
        "table inet weft { chain c { type filter hook ingress devices = { lo } priority 0; }\n }",
    ] {
        in_netns(|socket, netns| {
            oracle::nft(netns, &["-f", "-"], text);
            let wanted = Tables::from([(name.clone(), Table::default())]);
            let found = read(socket, std::slice::from_ref(&name)).unwrap();
            assert!(!diff(&wanted, &found).is_empty(), "{text}: {found:?}");
            let steps = diff(&wanted, &found);
            applied(socket, &steps.install);
            applied(socket, &steps.remove);
            assert_eq!(read(socket, std::slice::from_ref(&name)).unwrap(), wanted);
        });
    }
}

#[test]
fn events_say_whose_table_changed() {
    let ours = [TableName::new(Family::Inet, "weft")];
    in_netns(|socket, _| {
        let mut listener = Socket::open(Protocol::Netfilter).unwrap();
        listener.join(GROUP).unwrap();
        let mut heard = |socket: &mut Socket, ops: &[Op]| {
            applied(socket, ops);
            let (mut concerned, mut ended) = (0, false);
            while !ended {
                listener
                    .receive(|event| {
                        concerned += usize::from(concerns(&event, &ours));
                        ended |= event.kind == wire::kind(wire::message::NEW_GENERATION);
                        assert_eq!(event.port, socket.port());
                    })
                    .unwrap();
            }
            concerned
        };
        let rich = samples::rich(Family::Inet);
        let all = Tables::from([(ours[0].clone(), rich)]);
        assert!(heard(socket, &install(&all)) > 50);
        for other in [TableName::new(Family::Inet, "other"), TableName::new(Family::Ip6, "weft")] {
            assert_eq!(heard(socket, &[Op::AddTable(other.clone())]), 0);
            assert_eq!(heard(socket, &[Op::DeleteTable(other)]), 0);
        }
        let pod = vec![(Key::from([Value::protocol(17)]), None)];
        let add = Op::AddElements {
            table: ours[0].clone(),
            set: "numbers".to_owned(),
            interval: false,
            elements: pod,
        };
        assert_eq!(heard(socket, &[add]), 1);
        let flush = Op::FlushChain { table: ours[0].clone(), chain: "n2".to_owned() };
        assert_eq!(heard(socket, &[flush]), 1);
        assert!(heard(socket, &[Op::DeleteTable(ours[0].clone())]) > 50);
    });
}

#[test]
fn counters_are_read_by_their_comments() {
    let name = TableName::new(Family::Inet, "weft");
    in_netns(|socket, _| {
        let all = Tables::from([(name.clone(), samples::rich(Family::Inet))]);
        applied(socket, &install(&all));
        let values = counters(socket, &name).unwrap();
        let masquerade = values.iter().find(|value| value.comment == "masquerade").unwrap();
        assert_eq!((masquerade.chain.as_str(), masquerade.packets, masquerade.bytes), ("post", 0, 0));
        assert!(values.iter().all(|value| value.comment != "back"));
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn rubbish_never_panics(kind in any::<u16>(), bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read_all(kind, &bytes);
    }
}

#[test]
fn mutated_dumps_never_panic() {
    let dumps = dumps();
    assert!(dumps.len() > 200);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mutation = (
        0..dumps.len(),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        any::<Option<prop::sample::Index>>(),
    );
    for _ in 0..4000 {
        let (index, changes, cut) = mutation.new_tree(&mut runner).unwrap().current();
        let (kind, mut payload) = dumps[index].clone();
        for (at, byte) in changes {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        if let Some(cut) = cut {
            payload.truncate(cut.index(payload.len() + 1));
        }
        read_all(kind, &payload);
    }
}
