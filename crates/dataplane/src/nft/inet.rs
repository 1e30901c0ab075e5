//! The table `inet weft`: IP packets of routed wires, of bridges, and of the host itself.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use weft_kernel::nft::{
    Base, Chain, Compare, Declaration, Expr, Field, Hook, Item, Key, Kind, Operand, Reject, Right, Rule,
    SetRef, Table, Type, Value, Verdict,
};
use weft_kernel::ours::{DEVICE, GROUP, GROUP_MASK, device_group, tunnel_group, wire_group};
use weft_model::Mode;
use weft_plan::{NetworkPlan, Plan};

use super::guard::{GUARD4, GUARD6};
use super::{host, overlay};

/// Before connection tracking (linux/netfilter_ipv4.h NF_IP_PRI_RAW), so that a forged packet leaves no trace there.
pub(super) const RAW: i32 = -300;
/// NF_IP_PRI_FILTER.
const FILTER: i32 = 0;
/// NF_IP_PRI_NAT_SRC.
const SRCNAT: i32 = 100;

/// Bits of `ct state` (linux/netfilter/nf_conntrack_common.h): 1 invalid, 2 established, 4 related.
const INVALID: u32 = 1;
pub(super) const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
/// `ct status dnat` (IPS_DST_NAT).
pub(super) const DNAT: u32 = 1 << 5;

/// Groups that may talk to each other: a network's with itself.
const JOINED: &str = "joined";
/// Subnets whose packets leave with the host's address.
const MASQUERADE4: &str = "masquerade4";
const MASQUERADE6: &str = "masquerade6";

/// The reason of refusals between networks.
pub(super) const ISOLATED: &str = "networks are isolated from each other";

/// The chain that judges what begins by policy.
pub(super) const POLICY: &str = "policy";

/// Where clouds answer with their secrets.
const METADATA4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const METADATA6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

pub(super) fn fill(plan: &Plan, table: &mut Table) {
    sets(plan, table);
    let mut chain = |name: &str, base: Option<Base>, rules: Vec<Rule>| {
        let before = table.chains.insert(name.to_owned(), Chain { base, rules });
        debug_assert!(before.is_none(), "two features want a chain {name}");
    };
    let hook = |kind, hook, priority| Some(Base::new(kind, hook, priority));
    chain("raw", hook(Kind::Filter, Hook::Prerouting, RAW), raw(plan));
    chain("from_wire", None, from_wire());
    chain("guard", None, guarding());
    chain("input", hook(Kind::Filter, Hook::Input, FILTER), host::input());
    chain("forward", hook(Kind::Filter, Hook::Forward, FILTER), forward());
    chain("between", None, between());
    chain(POLICY, None, Vec::new());
    chain("from_workload", None, from_workload(plan));
    chain("to_workload", None, to_workload(plan));
    chain("postrouting", hook(Kind::Nat, Hook::Postrouting, SRCNAT), postrouting(plan));
    if overlay::is_needed(plan) {
        overlay::fill(plan, table);
    }
}

/// The group of the links by which a network's packets come from its workloads and go to them.
pub(super) fn joined_group(network: &NetworkPlan) -> u32 {
    match network.mode {
        Mode::Routed => wire_group(network.id),
        Mode::Bridge => device_group(network.id),
    }
}

fn sets(plan: &Plan, table: &mut Table) {
    let mut joined = Declaration::set(&[Type::IfGroup, Type::IfGroup]).empty();
    let mut masquerade4 = Declaration::set(&[Type::Ipv4]).intervals().empty();
    let mut masquerade6 = Declaration::set(&[Type::Ipv6]).intervals().empty();
    for network in plan.networks.values() {
        let group = joined_group(network);
        let mut join = |from: u32, to: u32| {
            joined.elements.insert([Value::group(from), Value::group(to)].into(), None);
        };
        join(group, group);
        if network.declared.vni.is_some() {
            let tunnel = tunnel_group(network.id);
            join(group, tunnel);
            join(tunnel, group);
        }
        if network.masquerade {
            for subnet in &network.subnets {
                let set = if matches!(subnet, IpNet::V4(_)) { &mut masquerade4 } else { &mut masquerade6 };
                set.elements.insert(Key(vec![Item::net(*subnet)]), None);
            }
        }
    }
    host::sets(plan, table);
    table.sets.insert(JOINED.to_owned(), joined);
    table.sets.insert(MASQUERADE4.to_owned(), masquerade4);
    table.sets.insert(MASQUERADE6.to_owned(), masquerade6);
}

/// A refusal that is counted under its reason.
pub(super) fn refuse(matches: impl IntoIterator<Item = Expr>, how: Expr, reason: &str) -> Rule {
    Rule::new(matches.into_iter().chain([Expr::Counter, how])).comment(reason)
}

/// The link's group is that of a workload's wire.
pub(super) fn from_a_wire() -> Expr {
    Expr::bits(Field::IifGroup, GROUP_MASK | DEVICE, GROUP)
}

pub(super) fn ours(field: Field) -> Expr {
    Expr::bits(field, GROUP_MASK, GROUP)
}

pub(super) fn not_ours(field: Field) -> Expr {
    let left = Operand::masked(field, GROUP_MASK);
    Expr::Match { left, compare: Compare::Ne, right: Right::Value(Value::group(GROUP)) }
}

fn raw(plan: &Plan) -> Vec<Rule> {
    let lo = weft_kernel::nft::IfName::new("lo").expect("lo is a valid name");
    let outside = || Expr::compare(Field::IifName, Compare::Ne, lo);
    let loopback = Expr::masked(Field::IpDaddr, Ipv4Addr::new(255, 0, 0, 0), Ipv4Addr::new(127, 0, 0, 0));
    let reason = "loopback address from outside";
    let mut rules = vec![
        refuse([loopback, outside()], Expr::drop(), reason),
        refuse([Expr::eq(Field::Ip6Daddr, Ipv6Addr::LOCALHOST), outside()], Expr::drop(), reason),
        Rule::new([from_a_wire(), Expr::jump("from_wire")]),
    ];
    if overlay::is_needed(plan) {
        rules.extend(overlay::raw());
    }
    rules
}

/// What no workload may send; none of it is TCP, which most packets are.
fn from_wire() -> Vec<Rule> {
    let mut rules = vec![tcp_to("guard")];
    rules.extend(forbidden());
    rules.push(Rule::new([Expr::goto("guard")]));
    rules
}

/// TCP goes on there.
pub(super) fn tcp_to(chain: &str) -> Rule {
    Rule::new([Expr::number(Field::L4Proto, 6), Expr::goto(chain)])
}

/// From where it may send the rest.
fn guarding() -> Vec<Rule> {
    let mut rules = Vec::new();
    let passes = |field: Field, set: &str| {
        let key = [Field::IifName, Field::EtherSaddr, field];
        Rule::new([Expr::lookup(&key, SetRef::hash(set)), Expr::Verdict(Verdict::Return)])
    };
    rules.push(passes(Field::IpSaddr, GUARD4));
    rules.push(passes(Field::Ip6Saddr, GUARD6));
    rules.push(refuse([], Expr::drop(), "source address is not the workload's"));
    rules
}

/// What only routers and servers say (advertisements, redirects, DHCP answers), and what nobody here
/// listens to: there is no router to solicit, and reports of multicast membership would be flooded.
pub(super) fn forbidden() -> Vec<Rule> {
    let udp_from = |port: u32| [Expr::number(Field::L4Proto, 17), Expr::number(Field::ThSport, port)];
    // VXLAN (RFC 7348): only hosts encapsulate. Behind the host's address it would pass for the host's own.
    let overlay = [Expr::number(Field::L4Proto, 17), Expr::number(Field::ThDport, overlay::PORT)];
    vec![
        refuse(overlay, Expr::drop(), "overlay packet from a workload"),
        refuse(
            [Expr::one_of(Field::Icmpv6Type, &[134, 137])],
            Expr::drop(),
            "router advertisement or redirect from a workload",
        ),
        refuse(
            [Expr::number(Field::IcmpType, 5)],
            Expr::drop(),
            "router advertisement or redirect from a workload",
        ),
        refuse(
            [Expr::one_of(Field::Icmpv6Type, &[131, 132, 133, 143])],
            Expr::drop(),
            "router solicitation or multicast report, needed by nobody",
        ),
        refuse(udp_from(67), Expr::drop(), "DHCP answer from a workload"),
        refuse(udp_from(547), Expr::drop(), "DHCP answer from a workload"),
    ]
}

/// What has begun was judged then; what begins meets policy, if there is one, and then what holds between networks.
fn forward() -> Vec<Rule> {
    vec![
        Rule::new([Expr::any_bit(Field::CtState, ESTABLISHED_OR_RELATED), Expr::goto("between")]),
        Rule::new([Expr::jump(POLICY)]),
        Rule::new([Expr::goto("between")]),
    ]
}

fn between() -> Vec<Rule> {
    vec![
        Rule::new([ours(Field::IifGroup), Expr::jump("from_workload")]),
        Rule::new([ours(Field::OifGroup), Expr::jump("to_workload")]),
    ]
}

fn from_workload(plan: &Plan) -> Vec<Rule> {
    let prohibited = || Expr::Reject(Reject::ADMIN_PROHIBITED);
    let mut rules = vec![
        Rule::new([Expr::lookup(&[Field::IifGroup, Field::OifGroup], SetRef::hash(JOINED)), Expr::accept()]),
        // A published port is public, whoever asks; so are its answers.
        Rule::new([ours(Field::OifGroup), Expr::any_bit(Field::CtStatus, DNAT), Expr::accept()]),
        refuse([ours(Field::OifGroup)], prohibited(), ISOLATED),
    ];
    if overlay::is_needed(plan) {
        rules.extend(overlay::from_workload());
    }
    if plan.block_metadata {
        let reason = "metadata address is closed to workloads";
        rules.push(refuse([Expr::eq(Field::IpDaddr, METADATA4)], prohibited(), reason));
        rules.push(refuse([Expr::eq(Field::Ip6Daddr, METADATA6)], prohibited(), reason));
    }
    // Only here: a packet that conntrack cannot place is not translated either, and would show the
    // workload's own address outside. Elsewhere dropping such packets does harm (PAINS.md 9).
    rules.push(refuse(
        [Expr::any_bit(Field::CtState, INVALID)],
        Expr::drop(),
        "packet of no known connection would leave untranslated",
    ));
    rules.push(Rule::new([Expr::accept()]));
    rules
}

/// From outside: answers, and what was published.
fn to_workload(plan: &Plan) -> Vec<Rule> {
    let mut rules = if overlay::is_needed(plan) { overlay::to_workload() } else { Vec::new() };
    rules.extend([
        Rule::new([Expr::any_bit(Field::CtState, ESTABLISHED_OR_RELATED), Expr::accept()]),
        Rule::new([Expr::any_bit(Field::CtStatus, DNAT), Expr::accept()]),
        refuse([], Expr::drop(), "not published to the outside"),
    ]);
    rules
}

fn postrouting(plan: &Plan) -> Vec<Rule> {
    let lo = weft_kernel::nft::IfName::new("lo").expect("lo is a valid name");
    let leaves = || [not_ours(Field::OifGroup), Expr::compare(Field::OifName, Compare::Ne, lo)];
    let masquerade = |field: Field, set: &str| {
        let from = Expr::lookup(&[field], SetRef::interval(set));
        let inside = overlay::is_needed(plan).then(|| overlay::stays_inside(field == Field::IpSaddr));
        // Random ports: two CPUs that choose at once rarely choose the same one (kubernetes#56903).
        Rule::new(
            leaves().into_iter().chain([from]).chain(inside).chain([Expr::Masquerade { fully_random: true }]),
        )
    };
    let mut rules = Vec::from(super::ports::hairpin());
    rules.extend([masquerade(Field::IpSaddr, MASQUERADE4), masquerade(Field::Ip6Saddr, MASQUERADE6)]);
    rules
}
