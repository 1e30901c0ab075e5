//! Policy for the host itself: what reaches its sockets and what those reach, by the same classes of peers as workloads' policy.
//!
//! ```text
//!   input, output, before all else of weft's
//!     loopback, established, neighbours, weft's tunnels → on      never judged
//!     fail-safe port?                                   → on      ssh and the store, or nobody could mend it
//!     to a workload of this host? (output)              → on      health checks
//!     which class is the other end? has it rows? everything? protocol? port?      else denied
//! ```

use std::collections::BTreeSet;

use weft_kernel::nft::{
    Base, Chain, Compare, Declaration, Expr, Field, Hook, IfName, Key, Kind, Operand, Right, Rule, SetRef,
    Table, Type, Unit, Value,
};
use weft_kernel::ours::{GROUP, GROUP_MASK, POLICY_MARK, TUNNEL};
use weft_model::policy::{Direction, Failsafe, Protocol};
use weft_plan::policy::compile::prefixes;
use weft_plan::policy::{Class, Row, Subject};

use super::super::inet::{ESTABLISHED_OR_RELATED, refuse};
use super::super::overlay;
use super::chains::{BEFORE_FILTER, Ip, amid, class_map, unmark};
use super::{LOG_GROUP, mark};

/// `ct state untracked` (linux/netfilter/nf_conntrack_common.h): of UDP to the tunnels' port only what weft found to be of other hosts.
const UNTRACKED: u32 = 1 << 6;
const UDP: u32 = 17;
/// Multicast listeners, routers and neighbours (RFC 2710, RFC 3810, RFC 4861): without them a host has no IPv6.
const LINK_LOCAL_TALK: [u32; 9] = [130, 131, 132, 133, 134, 135, 136, 137, 143];
/// The ports that stay open: of the host, and of others.
const FAILSAFE: [&str; 2] = ["host_failsafe_in", "host_failsafe_out"];

/// What is in force or under audit, in a direction.
#[derive(Clone, Copy, Debug)]
struct Judge {
    audit: bool,
    direction: Direction,
}

impl Judge {
    const ALL: [Judge; 4] = [
        Judge { audit: false, direction: Direction::Ingress },
        Judge { audit: false, direction: Direction::Egress },
        Judge { audit: true, direction: Direction::Ingress },
        Judge { audit: true, direction: Direction::Egress },
    ];

    /// The name of its chain, and with a word that of one of its sets.
    fn name(self, what: &str) -> String {
        let audit = if self.audit { "audit_" } else { "" };
        let direction = if self.direction == Direction::Ingress { "in" } else { "out" };
        let gap = if what.is_empty() { "" } else { "_" };
        format!("{audit}host_{direction}{gap}{what}")
    }

    fn span(self, bits: u8) -> String {
        self.name(&format!("span_{bits}"))
    }
}

/// Adds all that the host's own policies need, but for the classes: maps and chains of those are the same for all.
pub(super) fn fill(
    table: &mut Table,
    host: &Subject,
    failsafe: &Failsafe,
    number: &dyn Fn(&Class) -> Option<u16>,
) {
    let judges: Vec<Judge> = Judge::ALL.into_iter().filter(|j| rules_of(host, *j).is_some()).collect();
    for (name, ports) in FAILSAFE.into_iter().zip([&failsafe.ingress, &failsafe.egress]) {
        let mut set = Declaration::set(&[Type::Protocol, Type::Port]).empty();
        for port in ports {
            let key = [Value::protocol(port.0.protocol.number()), Value::port(port.0.port)];
            set.elements.insert(key.into(), None);
        }
        table.sets.insert(name.to_owned(), set);
    }
    let mut chain = |name: &str, base: Option<Base>, rules: Vec<Rule>| {
        table.chains.insert(name.to_owned(), Chain { base, rules });
    };
    let base = |hook| Some(Base::new(Kind::Filter, hook, BEFORE_FILTER));
    chain("host_input", base(Hook::Input), first(Direction::Ingress, &judges));
    chain("host_output", base(Hook::Output), first(Direction::Egress, &judges));
    for (name, v4, v6) in
        [("host_from", Field::IpSaddr, Field::Ip6Saddr), ("host_to", Field::IpDaddr, Field::Ip6Daddr)]
    {
        let rules = [(Ip::V4, v4), (Ip::V6, v6)].into_iter().flat_map(|(ip, field)| {
            [
                Rule::new([Expr::verdict_map(&[field], SetRef::hash(&class_map(ip, false)))]),
                Rule::new([Expr::verdict_map(&[field], SetRef::interval(&class_map(ip, true)))]),
            ]
        });
        chain(name, None, rules.collect());
    }
    chain("host_passed", None, vec![Rule::new([unmark()])]);
    for judge in judges {
        let Some(rules) = rules_of(host, judge) else { continue };
        let lengths = lengths(rules);
        declare(table, judge, &lengths);
        table.chains.insert(judge.name(""), Chain { base: None, rules: judging(judge, &lengths) });
        table.chains.insert(judge.name("deny"), Chain { base: None, rules: denying(judge) });
        elements(table, judge, 0, &rules.rest);
        for (class, row) in &rules.rows {
            let Some(number) = number(class) else { continue };
            insert(table, &judge.name("rows"), vec![Value::mark(mark(number))]);
            elements(table, judge, number, row);
        }
    }
}

fn rules_of(host: &Subject, judge: Judge) -> Option<&weft_plan::policy::Table> {
    host.judged(judge.direction)?.table(judge.audit)
}

/// By how many leading bits ranges of ports are given.
fn lengths(rules: &weft_plan::policy::Table) -> BTreeSet<u8> {
    let mut bits = BTreeSet::new();
    for row in rules.rows.values().map(|row| &**row).chain([&rules.rest]) {
        for protocol in Protocol::ALL {
            let ranges = row.ports(protocol).iter().filter(|r| **r != (0, u16::MAX) && r.0 != r.1);
            bits.extend(ranges.flat_map(|r| prefixes(*r)).map(|(_, bits)| bits).filter(|bits| *bits < 16));
        }
    }
    bits
}

fn declare(table: &mut Table, judge: Judge, lengths: &BTreeSet<u8>) {
    let mut set = |name: String, key: &[Type]| table.sets.insert(name, Declaration::set(key).empty());
    for of_class in ["rows", "open", "others"] {
        set(judge.name(of_class), &[Type::Mark]);
    }
    set(judge.name("protocols"), &[Type::Mark, Type::Protocol]);
    let ports = [Type::Mark, Type::Protocol, Type::Port];
    set(judge.name("ports"), &ports);
    for bits in lengths {
        set(judge.span(*bits), &ports);
    }
}

/// What is never judged, and whom to ask about the rest.
fn first(direction: Direction, judges: &[Judge]) -> Vec<Rule> {
    let lo = IfName::new("lo").expect("lo is a valid name");
    let (link, own, other) = match direction {
        Direction::Ingress => (Field::IifName, FAILSAFE[0], FAILSAFE[1]),
        Direction::Egress => (Field::OifName, FAILSAFE[1], FAILSAFE[0]),
    };
    let port = |field, set: &str| Expr::lookup(&[Field::L4Proto, field], SetRef::hash(set));
    let passes = |matches: Vec<Expr>| Rule::new(matches.into_iter().chain([Expr::accept()]));
    let mut rules = vec![
        passes(vec![Expr::name(link, lo)]),
        passes(vec![Expr::any_bit(Field::CtState, ESTABLISHED_OR_RELATED)]),
        passes(vec![Expr::one_of(Field::Icmpv6Type, &LINK_LOCAL_TALK)]),
        passes(vec![
            Expr::any_bit(Field::CtState, UNTRACKED),
            Expr::number(Field::L4Proto, UDP),
            Expr::number(Field::ThDport, overlay::PORT),
        ]),
        passes(vec![port(Field::ThDport, own)]),
    ];
    if direction == Direction::Egress {
        // Wires and bridges, but not tunnels: behind those are workloads of other hosts.
        rules.push(passes(vec![Expr::bits(Field::OifGroup, GROUP_MASK | TUNNEL, GROUP)]));
        // A session that began before there was conntrack: what the host says in it.
        let session = [Expr::number(Field::L4Proto, 6), port(Field::ThSport, other)];
        rules.push(passes(amid().into_iter().chain(session).collect()));
    }
    if judges.iter().any(|judge| !judge.audit && judge.direction != direction) {
        // The answer to what policy denies by now would open the way again.
        rules.push(refuse(amid(), Expr::drop(), "answer to a connection that nobody saw begin"));
    }
    let own = judges.iter().filter(|judge| judge.direction == direction);
    rules.extend(own.map(|judge| Rule::new([Expr::jump(&judge.name(""))])));
    rules
}

fn judging(judge: Judge, lengths: &BTreeSet<u8>) -> Vec<Rule> {
    let found = |set: &str, more: &[Operand], negate: bool| {
        let key =
            [Operand::masked(Field::Mark, POLICY_MARK)].into_iter().chain(more.iter().copied()).collect();
        Expr::Lookup { key, set: SetRef::hash(set), negate }
    };
    let (protocol, port) = (Operand::from(Field::L4Proto), Operand::from(Field::ThDport));
    let passes = |matches: Vec<Expr>| Rule::new(matches.into_iter().chain([Expr::goto("host_passed")]));
    let with_ports = Protocol::ALL.map(|p| Value::protocol(p.number())).into();
    let without_ports =
        Expr::Match { left: Field::L4Proto.into(), compare: Compare::Ne, right: Right::OneOf(with_ports) };
    let ends = if judge.direction == Direction::Ingress { "host_from" } else { "host_to" };
    let mut rules = vec![
        Rule::new(amid().into_iter().chain([Expr::goto(&judge.name("deny"))])),
        Rule::new([unmark()]),
        Rule::new([Expr::jump(ends)]),
        Rule::new([found(&judge.name("rows"), &[], true), unmark()]),
        passes(vec![found(&judge.name("open"), &[], false)]),
        passes(vec![without_ports, found(&judge.name("others"), &[], false)]),
        passes(vec![found(&judge.name("protocols"), &[protocol], false)]),
        passes(vec![found(&judge.name("ports"), &[protocol, port], false)]),
    ];
    rules.extend(lengths.iter().map(|bits| {
        let masked = Operand::masked(Field::ThDport, u32::from(u16::MAX << (16 - bits)));
        passes(vec![found(&judge.span(*bits), &[protocol, masked], false)])
    }));
    rules.push(Rule::new([Expr::goto(&judge.name("deny"))]));
    rules
}

fn denying(judge: Judge) -> Vec<Rule> {
    let direction = judge.direction.as_str();
    let word = if judge.audit { "would deny" } else { "denied" };
    let host = weft_plan::policy::host::HOST;
    let prefix = format!("weft {} {direction} {host}", if judge.audit { "audit" } else { "deny" });
    let limit = Expr::Limit { rate: 10, unit: Unit::Second, burst: 20, over: false };
    let mut rules = vec![
        Rule::new([unmark()]),
        Rule::new([Expr::Counter]).comment(&format!("{word} {direction} {host}")),
        Rule::new([limit, Expr::Log { group: Some(LOG_GROUP), prefix }]),
    ];
    if !judge.audit {
        rules.push(Rule::new([Expr::drop()]));
    }
    rules
}

fn insert(table: &mut Table, set: &str, key: Vec<Value>) {
    if let Some(set) = table.sets.get_mut(set) {
        set.elements.insert(Key(key.into_iter().map(Into::into).collect()), None);
    }
}

/// What passes for one class.
fn elements(table: &mut Table, judge: Judge, number: u16, row: &Row) {
    let class = Value::mark(mark(number));
    if row.is_open() {
        return insert(table, &judge.name("open"), vec![class]);
    }
    if row.others {
        insert(table, &judge.name("others"), vec![class]);
    }
    for protocol in Protocol::ALL {
        let by = Value::protocol(protocol.number());
        for range in row.ports(protocol) {
            if *range == (0, u16::MAX) {
                insert(table, &judge.name("protocols"), vec![class, by]);
                continue;
            }
            for (first, bits) in prefixes(*range) {
                let set = if bits == 16 { judge.name("ports") } else { judge.span(bits) };
                insert(table, &set, vec![class, by, Value::port(first)]);
            }
        }
    }
}
