//! Which addresses are alike to all policies here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use ipnet::IpNet;
use weft_model::{LabelKey, LabelValue, NamespaceName};

use super::super::matcher::{End, Matcher, Member, Members, Namespaces};
use super::super::{Class, PolicyPlan};

/// Matchers by number: each stands once, however many policies mention it.
#[derive(Debug, Default)]
pub(super) struct Interned {
    ids: BTreeMap<Matcher, u32>,
    all: Vec<Matcher>,
}

impl Interned {
    pub(super) fn id(&mut self, matcher: &Matcher) -> u32 {
        if let Some(id) = self.ids.get(matcher) {
            return *id;
        }
        let id =
            u32::try_from(self.all.len()).expect("fewer than four thousand million peers fit into memory");
        self.ids.insert(matcher.clone(), id);
        self.all.push(matcher.clone());
        id
    }
}

/// The classes, and who is in which.
#[derive(Debug)]
pub(super) struct Classes {
    /// What the members of each class match, in order.
    signatures: BTreeMap<Class, Vec<u32>>,
    by_matcher: HashMap<u32, Vec<Class>>,
    /// Of workloads' addresses.
    peers: BTreeMap<IpAddr, Class>,
    /// Of ranges.
    blocks: Vec<(IpAddr, IpAddr, Class)>,
}

impl Classes {
    pub(super) fn of(members: &Members, interned: &Interned) -> Classes {
        let digests: Vec<u64> = interned.all.iter().map(digest).collect();
        let mut classes = Classes {
            signatures: BTreeMap::new(),
            by_matcher: HashMap::new(),
            peers: BTreeMap::new(),
            blocks: Vec::new(),
        };
        let ranges = ranges(interned);
        for (first, last, ids) in &ranges {
            let class = classes.add(ids, &digests);
            classes.blocks.push((*first, *last, class));
        }
        let finder = Finder::of(interned);
        let mut alike: HashMap<Alike<'_>, Vec<u32>> = HashMap::new();
        for (address, index) in members.addresses() {
            let member = &members.all[index];
            let names = member.ports.iter().map(|(n, p)| (p.protocol.number(), p.port, n.as_str())).collect();
            let key = (&member.namespace, &*member.labels, names);
            let mut ids = alike.entry(key).or_insert_with(|| finder.pods(member, interned)).clone();
            ids.extend(at(&ranges, address).map(|(_, _, ids)| ids.as_slice()).unwrap_or_default());
            ids.sort_unstable();
            if !ids.is_empty() {
                let class = classes.add(&ids, &digests);
                classes.peers.insert(address, class);
            }
        }
        classes
    }

    fn add(&mut self, ids: &[u32], digests: &[u64]) -> Class {
        let mut parts: Vec<u64> = ids.iter().map(|id| digests[*id as usize]).collect();
        parts.sort_unstable();
        let mut class = Class(hash(&parts).clamp(1, u64::MAX - 1));
        // Two sets with one digest: the later gets the next one, always the same in the same world.
        while self.signatures.get(&class).is_some_and(|known| known != ids) {
            class = Class(class.0 % (u64::MAX - 2) + 1);
        }
        if self.signatures.insert(class, ids.to_vec()).is_none() {
            for id in ids {
                self.by_matcher.entry(*id).or_default().push(class);
            }
        }
        class
    }

    /// The classes whose members match any of these, with what they match.
    pub(super) fn touching(&self, ids: impl Iterator<Item = u32>) -> impl Iterator<Item = (Class, &[u32])> {
        let found: BTreeSet<Class> =
            ids.filter_map(|id| self.by_matcher.get(&id)).flatten().copied().collect();
        found.into_iter().map(|class| (class, self.signatures[&class].as_slice()))
    }

    /// Writes into a plan the classes that its tables mention, and who is in them.
    pub(super) fn fill(self, members: &Members, plan: &mut PolicyPlan) {
        let mut used: BTreeSet<Class> = BTreeSet::new();
        for subject in plan.all() {
            for judged in [&subject.ingress, &subject.egress].into_iter().flatten() {
                for table in [&judged.enforced, &judged.audit].into_iter().flatten() {
                    used.extend(table.rows.keys());
                }
            }
        }
        let mut blocks: Vec<(IpAddr, IpAddr, Class)> = Vec::new();
        for (first, last, class) in self.blocks.iter().filter(|(_, _, class)| used.contains(class)) {
            match blocks.last_mut() {
                Some(before) if before.2 == *class && follows(before.1, *first) => before.1 = *last,
                _ => blocks.push((*first, *last, *class)),
            }
        }
        for (address, _) in members.addresses() {
            let class = self.peers.get(&address).copied().unwrap_or(Class::REST);
            let of_block = at(&blocks, address).map_or(Class::REST, |(_, _, class)| *class);
            let class = if used.contains(&class) { class } else { Class::REST };
            // Who is in no class of its own, but in a range that is, must not be taken for the range's.
            if class != of_block {
                plan.peers.insert(address, if class == Class::REST { Class::UNLIKE } else { class });
            }
        }
        if plan.peers.values().any(|class| *class == Class::UNLIKE) {
            used.insert(Class::UNLIKE);
        }
        plan.blocks = blocks;
        plan.classes = used.into_iter().map(|class| (class, 0)).collect();
    }
}

impl Class {
    /// Addresses within a range that is a class, which are treated like the rest all the same.
    pub const UNLIKE: Class = Class(u64::MAX - 1);
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn digest(matcher: &Matcher) -> u64 {
    hash(matcher)
}

/// What selectors see of a workload: namespace, labels, named ports.
type Alike<'a> = (&'a NamespaceName, &'a weft_model::Labels, Vec<(u8, u16, &'a str)>);

/// Finds the matchers that mean a workload without asking all of them.
struct Finder<'a> {
    by_label: HashMap<(&'a LabelKey, &'a LabelValue), Vec<u32>>,
    by_namespace: HashMap<&'a NamespaceName, Vec<u32>>,
    others: Vec<u32>,
}

impl<'a> Finder<'a> {
    fn of(interned: &'a Interned) -> Finder<'a> {
        let mut finder =
            Finder { by_label: HashMap::new(), by_namespace: HashMap::new(), others: Vec::new() };
        for (id, matcher) in (0..).zip(&interned.all) {
            let Matcher::Pods { namespaces, pods, .. } = matcher else { continue };
            match (pods.match_labels.iter().next(), namespaces) {
                (Some(label), _) => finder.by_label.entry(label).or_default().push(id),
                (None, Namespaces::One(name)) => finder.by_namespace.entry(name).or_default().push(id),
                (None, Namespaces::Selected(_)) => finder.others.push(id),
            }
        }
        finder
    }

    fn pods(&self, member: &Member, interned: &Interned) -> Vec<u32> {
        let end = End { address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), workload: Some(member) };
        let by_label = member.labels.iter().filter_map(|label| self.by_label.get(&label)).flatten();
        let by_namespace = self.by_namespace.get(&member.namespace).into_iter().flatten();
        let candidates = by_label.chain(by_namespace).chain(&self.others).copied();
        candidates.filter(|id| interned.all[*id as usize].matches(&end)).collect()
    }
}

type Range = (IpAddr, IpAddr, Vec<u32>);

/// The ranges into which all blocks and their holes cut the addresses, with the blocks that each lies in.
fn ranges(interned: &Interned) -> Vec<Range> {
    // Where a block begins or ends to hold: address, block, and by how much.
    let mut edges: BTreeMap<(bool, u128), Vec<(u32, i8)>> = BTreeMap::new();
    let mut edge = |net: &IpNet, id: u32, by: i8| {
        let v6 = net.addr().is_ipv6();
        edges.entry((v6, number(net.network()))).or_default().push((id, by));
        if let Some(after) = number(net.broadcast()).checked_add(1) {
            edges.entry((v6, after)).or_default().push((id, -by));
        }
    };
    for (id, matcher) in (0..).zip(&interned.all) {
        let Matcher::Block { cidr, except } = matcher else { continue };
        edge(cidr, id, 1);
        // Holes may lie in one another.
        except
            .iter()
            .filter(|hole| !except.iter().any(|other| other != *hole && other.contains(*hole)))
            .for_each(|hole| edge(hole, id, -1));
    }
    let places: Vec<(bool, u128)> = edges.keys().copied().collect();
    let mut inside: BTreeMap<u32, i32> = BTreeMap::new();
    let mut ranges = Vec::new();
    let mut family = false;
    for (index, (v6, from)) in places.iter().enumerate() {
        if *v6 != family {
            inside.clear(); // the last address of IPv4 has none behind it
            family = *v6;
        }
        for (id, by) in &edges[&(*v6, *from)] {
            let depth = inside.entry(*id).or_insert(0);
            *depth += i32::from(*by);
            if *depth == 0 {
                inside.remove(id);
            }
        }
        let most = if *v6 { u128::MAX } else { u128::from(u32::MAX) };
        let to = places.get(index + 1).filter(|(next, _)| next == v6).map_or(most, |(_, next)| next - 1);
        if !inside.is_empty() && *from <= to {
            ranges.push((address(*v6, *from), address(*v6, to), inside.keys().copied().collect()));
        }
    }
    ranges
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn address(v6: bool, number: u128) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if !v6 => IpAddr::V4(number.into()),
        _ => IpAddr::V6(number.into()),
    }
}

fn follows(last: IpAddr, first: IpAddr) -> bool {
    last.is_ipv4() == first.is_ipv4() && number(last).checked_add(1) == Some(number(first))
}

/// The range that an address lies in; ranges are in order.
fn at<T>(ranges: &[(IpAddr, IpAddr, T)], address: IpAddr) -> Option<&(IpAddr, IpAddr, T)> {
    let index = ranges.partition_point(|(first, ..)| *first <= address).checked_sub(1)?;
    ranges.get(index).filter(|(_, last, _)| address <= *last && last.is_ipv4() == address.is_ipv4())
}
