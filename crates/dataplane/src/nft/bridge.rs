//! The table `bridge weft`: what a port of a weft bridge may send. The inet table cannot tell ports apart.

use weft_kernel::nft::{Base, Chain, Expr, Field, Hook, Kind, PayloadBase, Rule, SetRef, Table};

use super::guard::{GUARD4, GUARD6, TARGET6};
use super::inet::{forbidden, from_a_wire, refuse, tcp_to};

/// Before everything else in a bridge (linux/netfilter_bridge.h NF_BR_PRI_NAT_DST_BRIDGED is -300).
const FIRST: i32 = -300;
const ARP: u32 = 0x0806;
const NEIGHBOUR_ADVERTISEMENT: u32 = 136;
/// The target of a neighbour advertisement (RFC 4861, section 4.4): 16 bytes after 8 of ICMPv6.
const TARGET: Field = Field::Payload { base: PayloadBase::Transport, offset: 8, length: 16 };

pub(super) fn fill(table: &mut Table) {
    let base = Some(Base::new(Kind::Filter, Hook::Prerouting, FIRST));
    let prerouting = vec![Rule::new([from_a_wire(), Expr::jump("from_port")])];
    table.chains.insert("prerouting".to_owned(), Chain { base, rules: prerouting });
    table.chains.insert("from_port".to_owned(), Chain { base: None, rules: from_port() });
    table.chains.insert("guard".to_owned(), Chain { base: None, rules: guard() });
}

fn holds(fields: [Field; 2], set: &str) -> Expr {
    Expr::lookup(&[Field::IifName, fields[0], fields[1]], SetRef::hash(set))
}

fn from_port() -> Vec<Rule> {
    let mut rules = vec![tcp_to("guard")];
    rules.extend(forbidden());
    rules.push(Rule::new([
        Expr::number(Field::EtherType, ARP),
        holds([Field::EtherSaddr, Field::ArpSaddrIp], GUARD4),
        holds([Field::ArpSaddrEther, Field::ArpSaddrIp], GUARD4),
        Expr::accept(),
    ]));
    rules.push(Rule::new([
        Expr::number(Field::Icmpv6Type, NEIGHBOUR_ADVERTISEMENT),
        holds([Field::EtherSaddr, Field::Ip6Saddr], GUARD6),
        holds([Field::EtherSaddr, TARGET], TARGET6),
        Expr::accept(),
    ]));
    rules.push(refuse(
        [Expr::number(Field::Icmpv6Type, NEIGHBOUR_ADVERTISEMENT)],
        Expr::drop(),
        "neighbour advertisement for an address that is not the workload's",
    ));
    rules.push(Rule::new([Expr::goto("guard")]));
    rules
}

/// Whose address a packet comes from.
fn guard() -> Vec<Rule> {
    vec![
        Rule::new([holds([Field::EtherSaddr, Field::IpSaddr], GUARD4), Expr::accept()]),
        Rule::new([holds([Field::EtherSaddr, Field::Ip6Saddr], GUARD6), Expr::accept()]),
        refuse([], Expr::drop(), "source address is not the workload's"),
    ]
}
