//! What comes from other hosts and goes to them (BAR.md, security row 9).
//!
//! ```text
//!   wire ── 10.9.1.5 ──▶ tunnel's end ══ outer: host A → host B, UDP 4789 ══▶ uplink of B
//!                                                                              │ raw: is it A, and is the
//!   wire ◀── forward: same network ◀── raw: of the tunnel's network ◀── inside ┘ inner source A's?
//! ```
//!
//! A packet in VXLAN is judged before it is taken out: afterwards nobody knows who sent it. Packets that come as
//! they are must be of hosts that are reached like that, else any stranger could make them.

use std::net::IpAddr;

use weft_kernel::nft::{
    Base, Chain, Declaration, Expr, Field, Hook, Item, Key, Kind, Mark, Operand, PayloadBase, Raw, Reject,
    Right, Rule, SetRef, Table, Tables, Type, Value, Verdict,
};
use weft_kernel::nft::{Compare, Family};
use weft_kernel::ours::{DEVICE, GROUP, GROUP_MASK, MARKS, TUNNEL, tunnel_group};
use weft_plan::{NetworkPlan, Path, PeerPlan, Plan};

use super::inet::{ESTABLISHED_OR_RELATED, joined_group, not_ours, refuse};
use super::name;

/// UDP port of VXLAN (RFC 7348).
pub(super) const PORT: u32 = 4789;
const UDP: u32 = 17;
/// Behind everybody who reads marks (linux/netfilter_ipv4.h NF_IP_PRI_LAST is the largest number there is).
const LAST: i32 = 1000;
const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;

/// (Outer source, inner source): which host may send what; by families of outer and inner address.
const SENDERS: [(&str, bool, bool); 4] = [
    ("senders44", true, true),
    ("senders46", true, false),
    ("senders64", false, true),
    ("senders66", false, false),
];
/// Addresses of and behind hosts that are reached without a tunnel.
const DIRECT4: &str = "direct4";
const DIRECT6: &str = "direct6";
/// (Subnet, group): to which links a network's addresses belong.
const HOME4: &str = "home4";
const HOME6: &str = "home6";
/// Subnets of networks that other hosts have parts of.
const CLUSTER4: &str = "cluster4";
const CLUSTER6: &str = "cluster6";

fn ip(v4: bool) -> Type {
    if v4 { Type::Ipv4 } else { Type::Ipv6 }
}

/// The sets that other hosts have elements in.
pub(super) fn declarations() -> impl Iterator<Item = (&'static str, Declaration)> {
    let senders = SENDERS
        .iter()
        .map(|(set, outer, inner)| (*set, Declaration::set(&[ip(*outer), ip(*inner)]).intervals()));
    let direct = [(DIRECT4, true), (DIRECT6, false)];
    senders.chain(direct.map(|(set, v4)| (set, Declaration::set(&[ip(v4)]).intervals())))
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
    for (v4, home, cluster) in [(true, HOME4, CLUSTER4), (false, HOME6, CLUSTER6)] {
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
        table.sets.insert(home.to_owned(), homes);
        table.sets.insert(cluster.to_owned(), subnets);
    }
    let mut chain = |name: &str, base: Option<Base>, rules: Vec<Rule>| {
        let before = table.chains.insert(name.to_owned(), Chain { base, rules });
        debug_assert!(before.is_none(), "two features want a chain {name}");
    };
    chain("from_host", None, from_host());
    chain("from_tunnel", None, from_tunnel());
    let no_mark = [is_tunnel(Field::OifGroup), Expr::set_mark(Mark::Packet, MARKS, 0)];
    let last = Some(Base::new(Kind::Filter, Hook::Postrouting, LAST));
    chain("into_tunnel", last, vec![Rule::new(no_mark)]);
    let untracked = shared(plan).map(|n| {
        let ours = ours_in_vxlan(n);
        Rule::new(ours.into_iter().chain([Expr::NoTrack]))
    });
    let before_tracking = Some(Base::new(Kind::Filter, Hook::Output, super::inet::RAW));
    chain("raw_output", before_tracking, untracked.collect());
}

/// VXLAN with this network's number; packets of other people's overlays are not judged here.
fn ours_in_vxlan(network: &NetworkPlan) -> Vec<Expr> {
    let vni = network.declared.vni.map_or(0, weft_model::Vni::get).to_be_bytes();
    let vni = Raw::new(&vni[1..]).expect("three bytes are a raw value");
    let field = Field::Payload { base: PayloadBase::Transport, offset: 12, length: 3 };
    vec![
        Expr::number(Field::L4Proto, UDP),
        Expr::number(Field::ThDport, PORT),
        Expr::Match { left: field.into(), compare: Compare::Eq, right: Right::Value(Value::Raw(vni)) },
    ]
}

fn is_tunnel(field: Field) -> Expr {
    Expr::bits(field, GROUP_MASK | DEVICE | TUNNEL, GROUP | DEVICE | TUNNEL)
}

/// The rules at the beginning of `raw`.
pub(super) fn raw(plan: &Plan) -> Vec<Rule> {
    let jump = |n| Rule::new(ours_in_vxlan(n).into_iter().chain([Expr::jump("from_host")]));
    let mut rules: Vec<Rule> = shared(plan).map(jump).collect();
    rules.push(Rule::new([is_tunnel(Field::IifGroup), Expr::jump("from_tunnel")]));
    let lo = weft_kernel::nft::IfName::new("lo").expect("lo is a valid name");
    for (field, cluster, direct) in
        [(Field::IpSaddr, CLUSTER4, DIRECT4), (Field::Ip6Saddr, CLUSTER6, DIRECT6)]
    {
        rules.push(refuse(
            [
                not_ours(Field::IifGroup),
                Expr::compare(Field::IifName, Compare::Ne, lo),
                Expr::lookup(&[field], SetRef::interval(cluster)),
                lacks(field, direct),
            ],
            Expr::drop(),
            "address of the cluster from outside of it",
        ));
    }
    rules
}

fn lacks(field: Field, set: &str) -> Expr {
    Expr::Lookup { key: vec![Operand::from(field)], set: SetRef::interval(set), negate: true }
}

/// A packet in VXLAN with a number of ours: from a host that is known, with a source that lives there.
fn from_host() -> Vec<Rule> {
    let mut rules: Vec<Rule> = SENDERS
        .iter()
        .map(|(set, outer4, inner4)| {
            let outer = if *outer4 { Field::IpSaddr } else { Field::Ip6Saddr };
            let (kind, inner) =
                if *inner4 { (IPV4, Field::InnerIpSaddr) } else { (IPV6, Field::InnerIp6Saddr) };
            Rule::new([
                Expr::number(Field::InnerEtherType, kind),
                Expr::lookup(&[outer, inner], SetRef::interval(set)),
                Expr::NoTrack,
                Expr::accept(),
            ])
        })
        .collect();
    rules.push(refuse(
        [],
        Expr::drop(),
        "encapsulated packet of a stranger, or with a source of another host",
    ));
    rules
}

/// A packet that was taken out of a tunnel: its source must be of the tunnel's own network.
fn from_tunnel() -> Vec<Rule> {
    let passes = |field: Field, home: &str| {
        let key = [field, Field::IifGroup];
        Rule::new([Expr::lookup(&key, SetRef::interval(home)), Expr::Verdict(Verdict::Return)])
    };
    vec![
        passes(Field::IpSaddr, HOME4),
        passes(Field::Ip6Saddr, HOME6),
        refuse([], Expr::drop(), "packet of another network in a tunnel"),
    ]
}

/// From a workload to an address of the cluster that no tunnel leads to.
pub(super) fn from_workload() -> Vec<Rule> {
    let mut rules =
        vec![refuse([is_tunnel(Field::IifGroup)], Expr::drop(), "packet of another host for the outside")];
    for (field, cluster, direct, home) in
        [(Field::IpDaddr, CLUSTER4, DIRECT4, HOME4), (Field::Ip6Daddr, CLUSTER6, DIRECT6, HOME6)]
    {
        let key = [field, Field::IifGroup];
        // A connection that stands was of one network when it began: the dearer look-up is for first packets.
        rules.push(Rule::new([
            Expr::any_bit(Field::CtState, ESTABLISHED_OR_RELATED),
            Expr::lookup(&[field], SetRef::interval(direct)),
            Expr::accept(),
        ]));
        rules.push(Rule::new([
            Expr::lookup(&[field], SetRef::interval(direct)),
            Expr::lookup(&key, SetRef::interval(home)),
            Expr::accept(),
        ]));
        rules.push(refuse(
            [Expr::lookup(&[field], SetRef::interval(cluster))],
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
    vec![known, passes(Field::IpSaddr, HOME4), passes(Field::Ip6Saddr, HOME6)]
}

/// What keeps a packet from being masqueraded: its destination is reached without a tunnel, and knows the
/// way back.
pub(super) fn stays_inside(v4: bool) -> Expr {
    if v4 { lacks(Field::IpDaddr, DIRECT4) } else { lacks(Field::Ip6Daddr, DIRECT6) }
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
            match &reach.path {
                Path::Vxlan { remote, .. } => {
                    let families = (v4(remote), block.addr().is_ipv4());
                    let set = SENDERS.iter().find(|(_, outer, inner)| (*outer, *inner) == families);
                    if let Some((set, ..)) = set {
                        add(set, vec![Item::One(Value::ip(*remote)), Item::net(*block)]);
                    }
                }
                Path::Direct { .. } | Path::Router => {
                    add(if block.addr().is_ipv4() { DIRECT4 } else { DIRECT6 }, vec![Item::net(*block)]);
                }
                Path::Nowhere { .. } => {}
            }
        }
        if let Path::Direct { via, .. } = &reach.path {
            add(if v4(via) { DIRECT4 } else { DIRECT6 }, vec![Item::One(Value::ip(*via))]);
        }
    }
}
