//! The rules: fixed ones, one chain per class of peers, one per workload and direction for what is denied.

use std::collections::BTreeSet;

use weft_kernel::nft::{
    Chain, Compare, Declaration, Expr, Field, Mark, Operand, PayloadBase, Raw, Right, Rule, SetRef, Table,
    Type, Unit, Value,
};
use weft_kernel::ours::POLICY_MARK;
use weft_model::policy::{Direction, Protocol};
use weft_plan::policy::{Class, Frame, Subject};

use super::super::inet::POLICY;
use super::{LOG_GROUP, mark};

/// Before weft's own filter, which accepts.
pub(super) const BEFORE_FILTER: i32 = -5;
/// Neighbour solicitation and advertisement (RFC 4861): they never leave the segment, and nothing works without them.
const NEIGHBOURS: [u32; 2] = [135, 136];
/// The flags of TCP, and SYN among them (RFC 9293, section 3.1).
const TCP_FLAGS: Field = Field::Payload { base: PayloadBase::Transport, offset: 13, length: 1 };
const SYN: [u8; 1] = [2];

/// The beginning of the names of classes' chains.
pub(super) const CLASS: &str = "peer_";
/// What the comments of their rules begin with; the digest follows.
pub(super) const CLASS_COMMENT: &str = "class ";

/// Which of the two families a chain is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ip {
    V4,
    V6,
}

impl Ip {
    pub(super) const BOTH: [Ip; 2] = [Ip::V4, Ip::V6];

    fn digit(self) -> char {
        match self {
            Ip::V4 => '4',
            Ip::V6 => '6',
        }
    }

    fn kind(self) -> Type {
        match self {
            Ip::V4 => Type::Ipv4,
            Ip::V6 => Type::Ipv6,
        }
    }

    fn source(self) -> Field {
        match self {
            Ip::V4 => Field::IpSaddr,
            Ip::V6 => Field::Ip6Saddr,
        }
    }

    fn destination(self) -> Field {
        match self {
            Ip::V4 => Field::IpDaddr,
            Ip::V6 => Field::Ip6Daddr,
        }
    }
}

/// One of the judges: what is in force, or what is only under audit; of a direction and a family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge {
    pub(super) audit: bool,
    pub(super) direction: Direction,
    pub(super) ip: Ip,
}

impl Judge {
    pub(super) fn all() -> impl Iterator<Item = Judge> {
        [false, true].into_iter().flat_map(|audit| {
            [Direction::Egress, Direction::Ingress]
                .into_iter()
                .flat_map(move |direction| Ip::BOTH.into_iter().map(move |ip| Judge { audit, direction, ip }))
        })
    }

    /// The name of its chain, and of its sets with a word in between: `in_ports4`.
    pub(super) fn name(self, what: &str) -> String {
        let audit = if self.audit { "audit_" } else { "" };
        let direction = if self.direction == Direction::Ingress { "in" } else { "out" };
        let gap = if what.is_empty() { "" } else { "_" };
        format!("{audit}{direction}{gap}{what}{}", self.ip.digit())
    }

    fn own(self) -> Field {
        match self.direction {
            Direction::Ingress => self.ip.destination(),
            Direction::Egress => self.ip.source(),
        }
    }

    fn peer(self) -> Field {
        match self.direction {
            Direction::Ingress => self.ip.source(),
            Direction::Egress => self.ip.destination(),
        }
    }
}

/// The name of the set of ranges of that many leading bits.
pub(super) fn span(judge: Judge, bits: u8) -> String {
    format!("{}_{bits}", judge.name("span"))
}

/// The map from addresses, or ranges of them, to the chains of classes.
pub(super) fn class_map(ip: Ip, ranges: bool) -> String {
    format!("{}{}", if ranges { "block" } else { "peer" }, ip.digit())
}

/// The set of those who are judged, twice over: nobody is kept from reaching himself, through a service or a published port.
pub(super) fn itself(ip: Ip) -> String {
    format!("itself{}", ip.digit())
}

/// The chain of a class.
fn class_chain(number: u16) -> String {
    format!("{CLASS}{number}")
}

/// The verdict that sends a packet through a class's chain.
pub(super) fn to_class(number: u16) -> weft_kernel::nft::Verdict {
    weft_kernel::nft::Verdict::Goto(class_chain(number))
}

/// The chain for what is denied to or from a workload.
pub(super) fn denial_chain(judge: Judge, subject: &Subject) -> String {
    let audit = if judge.audit { "audit_" } else { "" };
    format!("{audit}denied_{}_{}", judge.direction.as_str(), subject.host_end)
}

pub(super) fn declare(table: &mut Table, frame: &Frame) {
    let mut set = |name: String, declaration: Declaration| {
        table.sets.insert(name, declaration.empty());
    };
    for ip in Ip::BOTH {
        set(class_map(ip, false), Declaration::verdicts(&[ip.kind()]));
        set(class_map(ip, true), Declaration::verdicts(&[ip.kind()]).intervals());
        set(itself(ip), Declaration::set(&[ip.kind(), ip.kind()]));
    }
    for judge in Judge::all().filter(|j| frame.workloads && (!j.audit || frame.audit)) {
        let own = judge.ip.kind();
        set(judge.name("isolated"), Declaration::set(&[own]));
        set(judge.name("denied"), Declaration::verdicts(&[own]));
        for of_class in ["rows", "open", "others"] {
            set(judge.name(of_class), Declaration::set(&[Type::Mark, own]));
        }
        set(judge.name("protocols"), Declaration::set(&[Type::Mark, own, Type::Protocol]));
        let ports = || Declaration::set(&[Type::Mark, own, Type::Protocol, Type::Port]);
        set(judge.name("ports"), ports());
        for bits in &frame.bits {
            set(span(judge, *bits), ports());
        }
    }
}

/// The chain of policy where nobody is judged.
pub(super) fn idle(table: &mut Table) {
    table.chains.insert(POLICY.to_owned(), Chain { base: None, rules: Vec::new() });
}

/// The rules that are the same for all workloads.
pub(super) fn fixed(table: &mut Table, frame: &Frame) {
    if !frame.workloads {
        return idle(table);
    }
    let mut chain = |name: String, rules: Vec<Rule>| {
        table.chains.insert(name, Chain { base: None, rules });
    };
    let judges: Vec<Judge> = Judge::all().filter(|j| !j.audit || frame.audit).collect();
    // Who comes here begins something: what has begun does not.
    let pass = Expr::Verdict(weft_kernel::nft::Verdict::Return);
    let mut first = vec![Rule::new([Expr::one_of(Field::Icmpv6Type, &NEIGHBOURS), pass])];
    first.extend(judges.iter().filter(|j| !j.audit).map(|judge| {
        // The answer to what policy denies by now: judged as a connection of the other end's it would pass, and open the way again.
        let answer = Expr::lookup(&[judge.peer()], SetRef::hash(&judge.name("isolated")));
        let reason = "answer to a connection that nobody saw begin";
        super::super::inet::refuse(amid().into_iter().chain([answer]), Expr::drop(), reason)
    }));
    first.extend(judges.iter().map(|judge| {
        let judged = Expr::lookup(&[judge.own()], SetRef::hash(&judge.name("isolated")));
        Rule::new([judged, Expr::jump(&judge.name(""))])
    }));
    chain(POLICY.to_owned(), first);
    chain("passed".to_owned(), vec![Rule::new([unmark()])]);
    for ip in Ip::BOTH {
        for (end, field) in [("from", ip.source()), ("to", ip.destination())] {
            let rules = [
                Rule::new([Expr::verdict_map(&[field], SetRef::hash(&class_map(ip, false)))]),
                Rule::new([Expr::verdict_map(&[field], SetRef::interval(&class_map(ip, true)))]),
            ];
            chain(format!("{end}_peer{}", ip.digit()), rules.to_vec());
        }
    }
    for judge in judges {
        chain(judge.name(""), judging(judge, &frame.bits));
        chain(judge.name("deny"), denying(judge));
    }
}

/// Matches TCP in the middle: of a connection that conntrack has not seen the beginning of, behind the match of established ones.
pub(super) fn amid() -> [Expr; 2] {
    let raw = |bytes: &[u8]| Value::Raw(Raw::new(bytes).expect("one byte is a raw value"));
    [Expr::number(Field::L4Proto, 6), Expr::masked(TCP_FLAGS, raw(&SYN), raw(&[0]))]
}

pub(super) fn unmark() -> Expr {
    Expr::set_mark(Mark::Packet, POLICY_MARK, 0)
}

fn judging(judge: Judge, lengths: &BTreeSet<u8>) -> Vec<Rule> {
    let class = Operand::masked(Field::Mark, POLICY_MARK);
    let key =
        |more: &[Operand]| [class, judge.own().into()].into_iter().chain(more.iter().copied()).collect();
    let found =
        |set: &str, more: &[Operand]| Expr::Lookup { key: key(more), set: SetRef::hash(set), negate: false };
    let (protocol, port) = (Operand::from(Field::L4Proto), Operand::from(Field::ThDport));
    let passes = |expressions: Vec<Expr>| Rule::new(expressions.into_iter().chain([Expr::goto("passed")]));
    let end = if judge.direction == Direction::Ingress { "from" } else { "to" };
    let with_ports = Protocol::ALL.map(|p| Value::protocol(p.number())).into();
    let without_ports =
        Expr::Match { left: Field::L4Proto.into(), compare: Compare::Ne, right: Right::OneOf(with_ports) };
    let mut rules = vec![
        // Nobody can tell which end began what conntrack has not seen the beginning of: its reply would pass as a connection of the
        // other end's (tcp_loose).
        Rule::new(amid().into_iter().chain([Expr::goto(&judge.name("deny"))])),
        Rule::new([unmark()]),
        Rule::new([Expr::jump(&format!("{end}_peer{}", judge.ip.digit()))]),
        Rule::new([
            Expr::Lookup { key: key(&[]), set: SetRef::hash(&judge.name("rows")), negate: true },
            unmark(),
        ]),
        passes(vec![found(&judge.name("open"), &[])]),
        passes(vec![without_ports, found(&judge.name("others"), &[])]),
        passes(vec![found(&judge.name("protocols"), &[protocol])]),
        passes(vec![found(&judge.name("ports"), &[protocol, port])]),
    ];
    rules.extend(lengths.iter().map(|bits| {
        let masked = Operand::masked(Field::ThDport, u32::from(u16::MAX << (16 - bits)));
        passes(vec![found(&span(judge, *bits), &[protocol, masked])])
    }));
    rules.push(Rule::new([Expr::goto(&judge.name("deny"))]));
    rules
}

fn denying(judge: Judge) -> Vec<Rule> {
    let to_workload = Expr::verdict_map(&[judge.own()], SetRef::hash(&judge.name("denied")));
    let pass = Expr::Verdict(weft_kernel::nft::Verdict::Return);
    let itself = Expr::lookup(&[judge.own(), judge.peer()], SetRef::hash(&itself(judge.ip)));
    let mut rules = vec![Rule::new([unmark()]), Rule::new([itself, pass]), Rule::new([to_workload])];
    if !judge.audit {
        rules.push(super::super::inet::refuse([], Expr::drop(), "denied by policy"));
    }
    rules
}

/// A chain per class, which writes its number into the mark.
pub(super) fn of_classes(table: &mut Table, classes: impl Iterator<Item = (Class, u16)>) {
    for (class, number) in classes {
        let rule = Rule::new([Expr::set_mark(Mark::Packet, POLICY_MARK, mark(number))]);
        let rules = vec![rule.comment(&format!("{CLASS_COMMENT}{:016x}", class.0))];
        table.chains.insert(class_chain(number), Chain { base: None, rules });
    }
}

/// What is denied is counted, logged at a limited rate, and dropped, unless it is only under audit.
pub(super) fn of_subject(table: &mut Table, subject: &Subject) {
    for judge in Judge::all().filter(|j| j.ip == Ip::V4) {
        if subject.judged(judge.direction).is_none_or(|j| j.table(judge.audit).is_none()) {
            continue;
        }
        let (direction, host_end) = (judge.direction.as_str(), &subject.host_end);
        let word = if judge.audit { "would deny" } else { "denied" };
        let log = Expr::Log {
            group: Some(LOG_GROUP),
            prefix: format!("weft {} {direction} {host_end}", if judge.audit { "audit" } else { "deny" }),
        };
        let limit = Expr::Limit { rate: 10, unit: Unit::Second, burst: 20, over: false };
        let mut rules = vec![
            Rule::new([Expr::Counter]).comment(&format!("{word} {direction} {host_end}")),
            Rule::new([limit, log]),
        ];
        if !judge.audit {
            rules.push(Rule::new([Expr::drop()]));
        }
        table.chains.insert(denial_chain(judge, subject), Chain { base: None, rules });
    }
}
