//! The elements: who is judged, who is in which class, what passes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use weft_kernel::nft::{Datum, Item, Key, Table, Value, Verdict};
use weft_model::policy::Protocol;
use weft_plan::policy::{Class, PolicyPlan, Row, Subject};

use super::chains::{Ip, Judge, class_map, denial_chain, span, to_class};
use super::mark;

/// What the sets of a plan must be able to hold.
#[derive(Debug, Default)]
pub(super) struct Lengths {
    /// By how many leading bits ranges of ports are given: 0 to 15.
    pub(super) bits: BTreeSet<u8>,
    /// Whether something is under audit.
    pub(super) audit: bool,
    /// Whether workloads are judged at all, and not only the host.
    pub(super) workloads: bool,
}

impl Lengths {
    pub(super) fn of(plan: &PolicyPlan) -> Lengths {
        let mut lengths = Lengths { workloads: !plan.subjects.is_empty(), ..Lengths::default() };
        let judged = plan.subjects.values().flat_map(|s| [&s.ingress, &s.egress]).flatten();
        for judged in judged {
            lengths.audit |= judged.audit.is_some();
            let tables = [&judged.enforced, &judged.audit].into_iter().flatten();
            for row in tables.flat_map(|table| table.rows.values().chain([&table.rest])) {
                for protocol in Protocol::ALL {
                    let ranges = row.ports(protocol).iter().filter(|r| **r != (0, u16::MAX) && r.0 != r.1);
                    lengths.bits.extend(ranges.flat_map(|r| prefixes(*r)).map(|(_, bits)| bits));
                }
            }
        }
        lengths.bits.remove(&16);
        lengths
    }
}

/// A range of ports as the fewest that share their leading bits: the first port, and how many bits.
pub(super) fn prefixes((first, last): (u16, u16)) -> Vec<(u16, u8)> {
    let (mut at, end) = (u32::from(first), u32::from(last));
    let mut found = Vec::new();
    while at <= end {
        let mut size = if at == 0 { 1 << 16 } else { 1 << at.trailing_zeros() };
        while at + size - 1 > end {
            size >>= 1;
        }
        let bits = u8::try_from(16 - size.trailing_zeros()).unwrap_or(16);
        found.push((u16::try_from(at).unwrap_or(u16::MAX), bits));
        at += size;
    }
    found
}

fn ip(address: IpAddr) -> Ip {
    if address.is_ipv4() { Ip::V4 } else { Ip::V6 }
}

fn insert(table: &mut Table, set: &str, key: Key, datum: Option<Datum>) {
    if let Some(set) = table.sets.get_mut(set) {
        set.elements.insert(key, datum);
    }
}

pub(super) fn of_subject(table: &mut Table, plan: &PolicyPlan, subject: &Subject) {
    for judge in Judge::all() {
        let Some(judged) = subject.judged(judge.direction) else { continue };
        let Some(rules) = judged.table(judge.audit) else { continue };
        for address in subject.addresses.iter().filter(|a| ip(**a) == judge.ip) {
            let own = Value::ip(*address);
            insert(table, &judge.name("isolated"), [own].into(), None);
            let denial = Verdict::Goto(denial_chain(judge, subject));
            insert(table, &judge.name("denied"), [own].into(), Some(Datum::Verdict(denial)));
            row(table, judge, 0, own, &rules.rest);
            for (class, passes) in &rules.rows {
                let Some(number) = plan.classes.get(class) else { continue };
                insert(table, &judge.name("rows"), [Value::mark(mark(*number)), own].into(), None);
                row(table, judge, *number, own, passes);
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

pub(super) fn of_peers(table: &mut Table, plan: &PolicyPlan, peers: impl Iterator<Item = (IpAddr, Class)>) {
    for (address, class) in peers {
        let Some(number) = plan.classes.get(&class) else { continue };
        let datum = Datum::Verdict(to_class(*number));
        insert(table, &class_map(ip(address), false), [Value::ip(address)].into(), Some(datum));
    }
}

pub(super) fn of_blocks(table: &mut Table, plan: &PolicyPlan) {
    for (first, last, class) in &plan.blocks {
        let Some(number) = plan.classes.get(class) else { continue };
        let key = Key(vec![Item::range(Value::ip(*first), Value::ip(*last))]);
        insert(table, &class_map(ip(*first), true), key, Some(Datum::Verdict(to_class(*number))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_few_prefixes_that_cover_them_exactly() {
        for (first, last) in
            [(0, 65535), (1, 65535), (80, 80), (8000, 8100), (1, 79), (79, 8000), (65535, 65535)]
        {
            let parts = prefixes((first, last));
            assert!(parts.len() <= 30);
            let mut next = u32::from(first);
            for (at, bits) in parts {
                assert_eq!(u32::from(at), next, "{first}-{last}");
                assert_eq!(u32::from(at) & ((1 << (16 - bits)) - 1), 0);
                next += 1 << (16 - bits);
            }
            assert_eq!(next, u32::from(last) + 1);
        }
    }
}
