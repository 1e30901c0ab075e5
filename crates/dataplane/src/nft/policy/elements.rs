//! The elements: who is judged, who is in which class, what passes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use weft_kernel::nft::{Datum, Item, Key, Table, Value, Verdict};
use weft_model::policy::Protocol;
use weft_plan::policy::compile::prefixes;
use weft_plan::policy::{Class, Row, Subject};

use super::chains::{Ip, Judge, class_map, denial_chain, itself, span, to_class};
use super::mark;

fn ip(address: IpAddr) -> Ip {
    if address.is_ipv4() { Ip::V4 } else { Ip::V6 }
}

fn insert(table: &mut Table, set: &str, key: Key, datum: Option<Datum>) {
    if let Some(set) = table.sets.get_mut(set) {
        set.elements.insert(key, datum);
    }
}

/// A class's number, if it has one.
pub(super) type Number<'a> = &'a dyn Fn(&Class) -> Option<u16>;

/// A workload's elements; of a judge for which `only` says classes, the rows of those alone.
pub(super) fn of_subject(
    table: &mut Table,
    number: Number<'_>,
    subject: &Subject,
    mut only: impl FnMut(Judge) -> Option<Arc<BTreeSet<Class>>>,
) {
    for judge in Judge::all() {
        let Some(judged) = subject.judged(judge.direction) else { continue };
        let Some(rules) = judged.table(judge.audit) else { continue };
        let only = only(judge);
        for address in subject.addresses.iter().filter(|a| ip(**a) == judge.ip) {
            let own = Value::ip(*address);
            insert(table, &judge.name("isolated"), [own].into(), None);
            insert(table, &itself(judge.ip), [own, own].into(), None);
            let denial = Verdict::Goto(denial_chain(judge, subject));
            insert(table, &judge.name("denied"), [own].into(), Some(Datum::Verdict(denial)));
            if only.as_ref().is_none_or(|only| only.contains(&Class::REST)) {
                row(table, judge, 0, own, &rules.rest);
            }
            let mut of_class = |class: &Class, passes: &Row| {
                let Some(number) = number(class) else { return };
                insert(table, &judge.name("rows"), [Value::mark(mark(number)), own].into(), None);
                row(table, judge, number, own, passes);
            };
            match &only {
                None => rules.rows.iter().for_each(|(class, passes)| of_class(class, passes)),
                Some(only) => {
                    let rows = only.iter().filter_map(|class| Some((class, rules.rows.get(class)?)));
                    rows.for_each(|(class, passes)| of_class(class, passes));
                }
            }
        }
    }
}

/// What passes for one class. The rest, whose number is 0, needs no mention among those that have rows.
fn row(table: &mut Table, judge: Judge, number: u16, own: Value, row: &Row) {
    let class = Value::mark(mark(number));
    if row.is_open() {
        insert(table, &judge.name("open"), [class, own].into(), None);
        return;
    }
    if row.others {
        insert(table, &judge.name("others"), [class, own].into(), None);
    }
    for protocol in Protocol::ALL {
        let by = Value::protocol(protocol.number());
        for range in row.ports(protocol) {
            if *range == (0, u16::MAX) {
                insert(table, &judge.name("protocols"), [class, own, by].into(), None);
                continue;
            }
            for (first, bits) in prefixes(*range) {
                let set = if bits == 16 { judge.name("ports") } else { span(judge, bits) };
                insert(table, &set, [class, own, by, Value::port(first)].into(), None);
            }
        }
    }
}

pub(super) fn of_peers(table: &mut Table, number: Number<'_>, peers: impl Iterator<Item = (IpAddr, Class)>) {
    for (address, class) in peers {
        let Some(number) = number(&class) else { continue };
        let datum = Datum::Verdict(to_class(number));
        insert(table, &class_map(ip(address), false), [Value::ip(address)].into(), Some(datum));
    }
}

pub(super) fn of_blocks(
    table: &mut Table,
    number: Number<'_>,
    blocks: impl Iterator<Item = (IpAddr, IpAddr, Class)>,
) {
    for (first, last, class) in blocks {
        let Some(number) = number(&class) else { continue };
        let key = Key(vec![Item::range(Value::ip(first), Value::ip(last))]);
        insert(table, &class_map(ip(first), true), key, Some(Datum::Verdict(to_class(number))));
    }
}
