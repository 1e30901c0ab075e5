//! What comes from other hosts and goes to them (BAR.md, security row 9).
//!
//! ```text
//!   wire ── 10.9.1.5 ──▶ tunnel's end ══ outer: host A → host B, UDP 4789 ══▶ uplink of B
//!                                                                              │ raw: is it A, and is the inner
//!   wire ◀───────────────── forward: same network ◀──────────────────── inside ┘ source A's in that network?
//! ```
//!
//! A packet in VXLAN is judged before it is taken out: afterwards nobody knows who sent it. Packets that come as
//! they are must be of hosts that are reached like that, else any stranger could make them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_kernel::nft::{
    Base, Chain, Declaration, Expr, Field, Hook, Item, Key, Kind, Mark, Operand, Reject, Rule, SetRef, Table,
    Tables, Type, Value,
};
use weft_kernel::nft::{Compare, Family};
use weft_kernel::ours::{DEVICE, GROUP, GROUP_MASK, MARKS, TUNNEL, tunnel_group};
use weft_model::Vni;
use weft_plan::{NetworkPlan, Path, PeerPlan, Plan};

use super::inet::{DNAT, ESTABLISHED_OR_RELATED, joined_group, not_ours, refuse};
use super::name;

/// UDP port of VXLAN (RFC 7348).
pub(super) const PORT: u32 = 4789;
const UDP: u32 = 17;
/// Behind everybody who reads marks (linux/netfilter_ipv4.h NF_IP_PRI_LAST is the largest number there is).
const LAST: i32 = 1000;
const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;

/// The length of the blocks that hosts hold by default, per family. Most packets are judged by one look-up of a whole
/// prefix; ranges, which cost several times as much, hold only blocks of other lengths.
const USUAL: [(u8, Value); 2] = [
    (24, Value::Ipv4(Ipv4Addr::new(255, 255, 255, 0))),
    (64, Value::Ipv6(Ipv6Addr::new(0xffff, 0xffff, 0xffff, 0xffff, 0, 0, 0, 0))),
];
/// What of a number's field is the number (RFC 7348, section 5).
const NUMBER: Value = Value::Ipv4(Ipv4Addr::new(255, 255, 255, 0));

/// (Outer source, network's number, inner source): which host may send what; by families of outer and inner address.
/// The second name is that of the ranges.
const SENDERS: [(&str, &str, bool, bool); 4] = [
    ("senders44", "senders44_wide", true, true),
    ("senders46", "senders46_wide", true, false),
    ("senders64", "senders64_wide", false, true),
    ("senders66", "senders66_wide", false, false),
];
/// Numbers of networks of ours.
const NUMBERS: &str = "numbers";
/// Addresses of and behind hosts that are reached without a tunnel.
const DIRECT: [&str; 2] = ["direct4", "direct6"];
/// Those blocks of theirs that have the usual length.
const NEAR: [&str; 2] = ["near4", "near6"];
/// (Subnet, group): to which links a network's addresses belong.
const HOME: [&str; 2] = ["home4", "home6"];
/// Subnets of networks that other hosts have parts of.
const CLUSTER: [&str; 2] = ["cluster4", "cluster6"];
const SOURCE: [Field; 2] = [Field::IpSaddr, Field::Ip6Saddr];
const DESTINATION: [Field; 2] = [Field::IpDaddr, Field::Ip6Daddr];

/// The place of a family in pairs.
fn of(v4: bool) -> usize {
    usize::from(!v4)
}

/// The usual prefix of an address.
fn prefix(field: Field, v4: bool) -> Operand {
    Operand { field, mask: Some(USUAL[of(v4)].1) }
}

fn ip(v4: bool) -> Type {
    if v4 { Type::Ipv4 } else { Type::Ipv6 }
}

/// The sets that other hosts have elements in.
pub(super) fn declarations() -> impl Iterator<Item = (&'static str, Declaration)> {
    let senders = SENDERS.iter().flat_map(|(set, wide, outer, inner)| {
        let key = [ip(*outer), Type::Ipv4, ip(*inner)];
        [(*set, Declaration::set(&key)), (*wide, Declaration::set(&key).intervals())]
    });
    let direct = [true, false].into_iter().flat_map(|v4| {
        [
            (DIRECT[of(v4)], Declaration::set(&[ip(v4)]).intervals()),
            (NEAR[of(v4)], Declaration::set(&[ip(v4)])),
        ]
    });
    senders.chain(direct)
}

/// Whether a plan has networks that other hosts have parts of.
pub(super) fn is_needed(plan: &Plan) -> bool {
    plan.networks.values().any(|n| n.declared.vni.is_some())
}

fn shared(plan: &Plan) -> impl Iterator<Item = &NetworkPlan> {
    plan.networks.values().filter(|n| n.declared.vni.is_some())
}

/// Adds the sets, with what belongs to networks, and the chains of their own.
pub(super) fn fill(plan: &Plan, table: &mut Table) {
    table.sets.extend(declarations().map(|(set, declared)| (set.to_owned(), declared.empty())));
    let mut numbers = Declaration::set(&[Type::Ipv4]).empty();
    numbers.elements.extend(shared(plan).filter_map(|n| Some((Key::from([number(n.declared.vni?)]), None))));
    table.sets.insert(NUMBERS.to_owned(), numbers);
    for v4 in [true, false] {
        let mut homes = Declaration::set(&[ip(v4), Type::IfGroup]).intervals().empty();
        let mut subnets = Declaration::set(&[ip(v4)]).intervals().empty();
        for network in shared(plan) {
            for subnet in network.subnets.iter().filter(|s| s.addr().is_ipv4() == v4) {
                subnets.elements.insert(Key(vec![Item::net(*subnet)]), None);
                for group in [joined_group(network), tunnel_group(network.id)] {
                    let group = Item::One(Value::group(group));
                    homes.elements.insert(Key(vec![Item::net(*subnet), group]), None);
                }
            }
        }
        table.sets.insert(HOME[of(v4)].to_owned(), homes);
        table.sets.insert(CLUSTER[of(v4)].to_owned(), subnets);
    }
    let mut chain = |name: &str, base: Option<Base>, rules: Vec<Rule>| {
        let before = table.chains.insert(name.to_owned(), Chain { base, rules });
        debug_assert!(before.is_none(), "two features want a chain {name}");
    };
    chain("from_host", None, from_host());
    let no_mark = [is_tunnel(Field::OifGroup), Expr::set_mark(Mark::Packet, MARKS, 0)];
    let last = Some(Base::new(Kind::Filter, Hook::Postrouting, LAST));
    chain("into_tunnel", last, vec![Rule::new(no_mark)]);
    let untracked = ours_in_vxlan().into_iter().chain([Expr::NoTrack]);
    let before_tracking = Some(Base::new(Kind::Filter, Hook::Output, super::inet::RAW));
    chain("raw_output", before_tracking, vec![Rule::new(untracked)]);
}

/// A network's number as it stands in a packet.
fn number(vni: Vni) -> Value {
    Value::Ipv4(Ipv4Addr::from(vni.get() << 8))
}

fn number_field() -> Operand {
    Operand { field: Field::OverlayNumber, mask: Some(NUMBER) }
}

/// VXLAN with a number of ours; packets of other people's overlays are not judged here.
fn ours_in_vxlan() -> Vec<Expr> {
    vec![
        Expr::number(Field::L4Proto, UDP),
        Expr::number(Field::ThDport, PORT),
        Expr::Lookup { key: vec![number_field()], set: SetRef::hash(NUMBERS), negate: false },
    ]
}

fn is_tunnel(field: Field) -> Expr {
    Expr::bits(field, GROUP_MASK | DEVICE | TUNNEL, GROUP | DEVICE | TUNNEL)
}

/// The rules at the end of `raw`.
pub(super) fn raw() -> Vec<Rule> {
    let mut rules = vec![Rule::new(ours_in_vxlan().into_iter().chain([Expr::jump("from_host")]))];
    let lo = weft_kernel::nft::IfName::new("lo").expect("lo is a valid name");
    for v4 in [true, false] {
        let source = SOURCE[of(v4)];
        rules.push(Rule::new([not_ours(Field::IifGroup), is_near(source, v4), Expr::accept()]));
        rules.push(refuse(
            [
                not_ours(Field::IifGroup),
                Expr::compare(Field::IifName, Compare::Ne, lo),
                Expr::lookup(&[source], SetRef::interval(CLUSTER[of(v4)])),
                lacks(source, DIRECT[of(v4)]),
            ],
            Expr::drop(),
            "address of the cluster from outside of it",
        ));
    }
    rules
}

/// An address in a block of the usual length of a host that is reached without a tunnel.
fn is_near(field: Field, v4: bool) -> Expr {
    Expr::Lookup { key: vec![prefix(field, v4)], set: SetRef::hash(NEAR[of(v4)]), negate: false }
}

fn lacks(field: Field, set: &str) -> Expr {
    Expr::Lookup { key: vec![Operand::from(field)], set: SetRef::interval(set), negate: true }
}

/// A packet in VXLAN with a number of ours: from a host that is known, in the tunnel of a network, with a source that
/// lives in that host's part of it. What comes out of a tunnel needs no second look.
fn from_host() -> Vec<Rule> {
    let passes = |outer4: bool, inner4: bool, inner: Operand, set: SetRef| {
        let kind = if inner4 { IPV4 } else { IPV6 };
        let key = vec![Operand::from(SOURCE[of(outer4)]), number_field(), inner];
        Rule::new([
            Expr::number(Field::InnerEtherType, kind),
            Expr::Lookup { key, set, negate: false },
            Expr::NoTrack,
            Expr::accept(),
        ])
    };
    let inner = [Field::InnerIpSaddr, Field::InnerIp6Saddr];
    let usual = SENDERS.iter().map(|(set, _, outer4, inner4)| {
        passes(*outer4, *inner4, prefix(inner[of(*inner4)], *inner4), SetRef::hash(set))
    });
    let wide = SENDERS.iter().map(|(_, wide, outer4, inner4)| {
        passes(*outer4, *inner4, Operand::from(inner[of(*inner4)]), SetRef::interval(wide))
    });
    let reason =
        "encapsulated packet of a stranger, or with a source that is not that host's in that network";
    usual.chain(wide).chain([refuse([], Expr::drop(), reason)]).collect()
}

/// From a workload to an address of the cluster that no tunnel leads to.
pub(super) fn from_workload() -> Vec<Rule> {
    let mut rules = vec![
        // The answer of a service's backend on another host to somebody outside, who asked here.
        Rule::new([
            is_tunnel(Field::IifGroup),
            Expr::any_bit(Field::CtState, ESTABLISHED_OR_RELATED),
            Expr::any_bit(Field::CtStatus, DNAT),
            Expr::accept(),
        ]),
        refuse([is_tunnel(Field::IifGroup)], Expr::drop(), "packet of another host for the outside"),
    ];
    for v4 in [true, false] {
        let field = DESTINATION[of(v4)];
        let known = || Expr::any_bit(Field::CtState, ESTABLISHED_OR_RELATED);
        let direct = || Expr::lookup(&[field], SetRef::interval(DIRECT[of(v4)]));
        let home = Expr::lookup(&[field, Field::IifGroup], SetRef::interval(HOME[of(v4)]));
        // A connection that stands was of one network when it began: the dearer look-ups are for first packets.
        rules.push(Rule::new([known(), is_near(field, v4), Expr::accept()]));
        rules.push(Rule::new([known(), direct(), Expr::accept()]));
        rules.push(Rule::new([direct(), home, Expr::accept()]));
        rules.push(refuse(
            [Expr::lookup(&[field], SetRef::interval(CLUSTER[of(v4)]))],
            Expr::Reject(Reject::ADMIN_PROHIBITED),
            "no host of the network has that address",
        ));
    }
    rules
}

/// From a host that is reached without a tunnel to a workload of the same network. That the source is such a
/// host's is known from `raw`.
pub(super) fn to_workload() -> Vec<Rule> {
    let passes = |field: Field, home: &str| {
        let key = [field, Field::OifGroup];
        Rule::new([Expr::lookup(&key, SetRef::interval(home)), Expr::accept()])
    };
    let known = Rule::new([Expr::any_bit(Field::CtState, ESTABLISHED_OR_RELATED), Expr::accept()]);
    vec![known, passes(Field::IpSaddr, HOME[0]), passes(Field::Ip6Saddr, HOME[1])]
}

/// What keeps a packet from being masqueraded: its destination is reached without a tunnel, and knows the
/// way back.
pub(super) fn stays_inside(v4: bool) -> Expr {
    lacks(DESTINATION[of(v4)], DIRECT[of(v4)])
}

/// Adds what belongs to another host, where the sets are declared.
pub fn peer(peer: &PeerPlan, tables: &mut Tables) {
    let Some(table) = tables.get_mut(&name(Family::Inet)) else { return };
    let mut add = |set: &str, key: Vec<Item>| {
        if let Some(set) = table.sets.get_mut(set) {
            set.elements.insert(Key(key), None);
        }
    };
    for reach in &peer.reaches {
        let v4 = |a: &IpAddr| a.is_ipv4();
        for block in &reach.blocks {
            let inner4 = block.addr().is_ipv4();
            let usual = block.prefix_len() == USUAL[of(inner4)].0;
            match &reach.path {
                Path::Vxlan { remote, vni, .. } => {
                    let families = (v4(remote), inner4);
                    let sets = SENDERS.iter().find(|(_, _, outer, inner)| (*outer, *inner) == families);
                    let Some((set, wide, ..)) = sets else { continue };
                    let head = [Item::One(Value::ip(*remote)), Item::One(number(*vni))];
                    let (set, inner) = if usual {
                        (set, Item::One(Value::ip(block.network())))
                    } else {
                        (wide, Item::net(*block))
                    };
                    add(set, head.into_iter().chain([inner]).collect());
                }
                Path::Direct { .. } | Path::Router => {
                    add(DIRECT[of(inner4)], vec![Item::net(*block)]);
                    if usual {
                        add(NEAR[of(inner4)], vec![Item::One(Value::ip(block.network()))]);
                    }
                }
                Path::Nowhere { .. } => {}
            }
        }
        if let Path::Direct { via, .. } = &reach.path {
            add(DIRECT[of(v4(via))], vec![Item::One(Value::ip(*via))]);
        }
    }
}
