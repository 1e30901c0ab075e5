//! Laws of address allocation, against a model that is too simple to be wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use weft_model::api::{self, ErrorKind};
use weft_model::{AddressRange, AttachmentId, Mode, Network, NetworkId};

use super::*;

mod errors;

fn network(v4: Option<&str>, v6: Option<&str>) -> Network {
    Network {
        name: "app".parse().unwrap(),
        id: NetworkId(1),
        mode: Mode::Routed,
        ipv4: v4.map(|net| net.parse().unwrap()),
        ipv6: v6.map(|net| net.parse().unwrap()),
        mtu: None,
        masquerade: true,
        vni: None,
        encapsulation: weft_model::Encapsulation::Auto,
    }
}

fn id(n: u32) -> AttachmentId {
    AttachmentId {
        network: "app".parse().unwrap(),
        container: format!("c{n}").parse().unwrap(),
        ifname: "eth0".parse().unwrap(),
    }
}

fn any(id: &AttachmentId) -> Wish<'_> {
    Wish { id, ips: &[], ranges: &[] }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn range(subnet: &str, start: &str, end: &str) -> AddressRange {
    let end_of = |text: &str| (!text.is_empty()).then(|| ip(text));
    AddressRange { subnet: subnet.parse().unwrap(), start: end_of(start), end: end_of(end), gateway: None }
}

/// Maps and full scans instead of runs and queues.
#[derive(Default)]
struct Model {
    used: BTreeMap<IpAddr, AttachmentId>,
    freed: BTreeMap<IpAddr, u64>,
}

impl Model {
    fn resting(&self, address: IpAddr, now: u64) -> bool {
        self.freed.get(&address).is_some_and(|at| now <= at + REST)
    }

    /// Whether `given` is what a request of this family may get from `places` at second `now`.
    fn permits(&self, given: IpAddr, places: &[IpAddr], now: u64) -> Result<(), String> {
        if !places.contains(&given) {
            return Err(format!("{given} was not among the usable addresses"));
        }
        if let Some(by) = self.used.get(&given) {
            return Err(format!("{given} was given twice, first to {by}"));
        }
        if !self.resting(given, now) {
            return Ok(());
        }
        let others = || places.iter().filter(|a| !self.used.contains_key(*a));
        if let Some(free) = others().find(|a| !self.resting(**a, now)) {
            return Err(format!("{given} was still resting while {free} was free"));
        }
        let oldest = others().filter_map(|a| self.freed.get(a)).min();
        if self.freed.get(&given) != oldest {
            return Err(format!("{given} was not the one that had rested longest"));
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Op {
    Allocate { client: u32, v4: Option<u8>, v6: Option<u8>, range: Option<(u8, u8)> },
    Free { client: u32 },
    Wait(u64),
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    use prop::option::weighted;
    let allocate = (
        0..8u32,
        0..6u32,
        weighted(0.15, 0..20u8),
        weighted(0.15, 0..20u8),
        weighted(0.2, (0..18u8, 0..18u8)),
    )
        .prop_map(|(c, n, v4, v6, range)| Op::Allocate { client: c * 6 + n, v4, v6, range });
    prop_oneof![
        6 => allocate,
        4 => (0..8u32, 0..6u32).prop_map(|(c, n)| Op::Free { client: c * 6 + n }),
        2 => (0..40u64).prop_map(Op::Wait),
        1 => Just(Op::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Eight clients with six attachments each, interleaved at random, on a /28 and a /124.
    #[test]
    fn the_pools_do_what_the_model_permits(ops in prop::collection::vec(op(), 0..120)) {
        let network = network(Some("10.1.0.16/28"), Some("fd00::10/124"));
        let mut usable: Vec<Vec<IpAddr>> = Vec::new();
        usable.push((18..31).map(|n| ip(&format!("10.1.0.{n}"))).collect());
        usable.push((0x12..0x20).map(|n| ip(&format!("fd00::{n:x}"))).collect());
        let mut addresses = Addresses::new(&network);
        let mut model = Model::default();
        let mut held: BTreeMap<AttachmentId, Vec<IpNet>> = BTreeMap::new();
        let mut now = 1_000;
        for op in ops {
            match op {
                Op::Wait(seconds) => now += seconds,
                Op::Free { client } => {
                    let freed = addresses.free(&id(client), now);
                    let before = held.remove(&id(client)).unwrap_or_default();
                    prop_assert_eq!(&freed, &before.iter().map(IpNet::addr).collect::<Vec<_>>());
                    for address in freed {
                        model.used.remove(&address);
                        model.freed.insert(address, now);
                    }
                }
                Op::Restart => {
                    let before = addresses.status(now);
                    addresses = Addresses::new(&network);
                    for (id, given) in &held {
                        addresses.restore(id, given).unwrap();
                    }
                    for (address, at) in &model.freed {
                        addresses.restore_resting(*address, *at);
                    }
                    prop_assert_eq!(addresses.status(now), before, "restore(records) is the state before");
                }
                Op::Allocate { client, v4, v6, range: bounds } => {
                    let id = id(client);
                    let v4 = v4.map(|n| ip(&format!("10.1.0.{}", 15 + n)));
                    let ips: Vec<IpAddr> = v4.into_iter().chain(v6.map(|n| ip(&format!("fd00::{:x}", 15 + n)))).collect();
                    let bounds = bounds.map(|(a, b)| (format!("10.1.0.{}", 15 + a), format!("10.1.0.{}", 15 + b)));
                    let ranges: Vec<Vec<AddressRange>> =
                        bounds.iter().map(|(a, b)| vec![range("10.1.0.16/28", a, b)]).collect();
                    let mut places = usable.clone();
                    if let Some((low, high)) = &bounds {
                        places[0].retain(|a| (ip(low)..=ip(high)).contains(a));
                    }
                    let before = addresses.status(now);
                    match addresses.allocate(&Wish { id: &id, ips: &ips, ranges: &ranges }, now) {
                        Ok(given) => {
                            prop_assert!(!held.contains_key(&id));
                            prop_assert_eq!(given.len(), 2, "one address of each family");
                            for (family, net) in given.iter().enumerate() {
                                let wanted: Vec<IpAddr> = ips.iter().copied().filter(|a| a.is_ipv4() == net.addr().is_ipv4()).collect();
                                if wanted.is_empty() {
                                    model.permits(net.addr(), &places[family], now).map_err(TestCaseError::fail)?;
                                } else {
                                    prop_assert_eq!(wanted, vec![net.addr()]);
                                    prop_assert!(places[family].contains(&net.addr()));
                                    prop_assert!(!model.used.contains_key(&net.addr()));
                                }
                            }
                            for net in &given {
                                model.freed.remove(&net.addr());
                                model.used.insert(net.addr(), id.clone());
                            }
                            held.insert(id, given);
                        }
                        Err(error) => {
                            let full = |family: usize| places[family].iter().all(|a| model.used.contains_key(a));
                            let justified = match &error {
                                AddressError::Exhausted { .. } => full(0) || full(1),
                                AddressError::AlreadyAttached { .. } => held.contains_key(&id),
                                AddressError::Taken { address, by, .. } => model.used.get(address) == Some(by),
                                AddressError::Reserved { address, .. } | AddressError::OutsideNetwork { address, .. } =>
                                    ips.contains(address) && !usable.iter().flatten().any(|a| a == address),
                                AddressError::BadRange { .. } => bounds.is_some(),
                                _ => false,
                            };
                            prop_assert!(justified, "{} for {:?} {:?}", error, ips, ranges);
                            prop_assert_eq!(addresses.status(now), before, "a refusal changes nothing");
                        }
                    }
                }
            }
            for (address, by) in &model.used {
                prop_assert_eq!(addresses.holder(*address), Some(by));
            }
            let used: u64 = addresses.status(now).iter().map(|pool| pool.used).sum();
            prop_assert_eq!(used as usize, model.used.len());
        }
    }
}

#[test]
fn exhaustion_comes_exactly_at_usable_and_recovers() {
    for (subnet, usable) in [("10.1.0.0/30", 1), ("10.1.0.0/29", 5), ("10.1.0.0/24", 253), ("fd00::/126", 2)]
    {
        let (v4, v6) = if subnet.contains(':') { (None, Some(subnet)) } else { (Some(subnet), None) };
        let mut addresses = Addresses::new(&network(v4, v6));
        assert_eq!(addresses.pools()[0].usable(), usable, "{subnet}");
        for n in 0..usable {
            addresses.allocate(&any(&id(n as u32)), 0).unwrap();
        }
        let error = addresses.allocate(&any(&id(9_999)), 0).unwrap_err();
        let said = format!("no address is left in {subnet}: {usable} used, 0 resting, {usable} usable");
        assert_eq!(error.to_string(), said);
        assert_eq!(addresses.ready(), Err(error));
        let freed = addresses.free(&id(0), 5);
        let again = addresses.allocate(&any(&id(9_999)), 5).unwrap();
        assert_eq!(freed, [again[0].addr()], "with nothing else left a resting address is taken");
    }
}

#[test]
fn subnets_without_room_give_nothing_and_do_not_panic() {
    for subnet in ["10.1.0.0/31", "10.1.0.1/32", "fd00::/127", "fd00::1/128"] {
        let pool = Pool::new(subnet.parse().unwrap());
        assert_eq!(pool.usable(), 0, "{subnet}");
    }
}

#[test]
fn usable_saturates_in_large_subnets() {
    assert_eq!(Pool::new("fd00::/48".parse().unwrap()).usable(), u64::MAX);
    assert_eq!(Pool::new("::/0".parse().unwrap()).usable(), u64::MAX);
    assert_eq!(Pool::new("0.0.0.0/0".parse().unwrap()).usable(), (1 << 32) - 3);
}

#[test]
fn a_freed_address_rests_thirty_seconds_while_others_are_free() {
    let mut addresses = Addresses::new(&network(Some("10.1.0.0/29"), None)); // five usable
    for n in 0..4 {
        addresses.allocate(&any(&id(n)), 100).unwrap();
    }
    assert_eq!(addresses.free(&id(0), 100), [ip("10.1.0.2")]);
    assert_eq!(addresses.free(&id(2), 101), [ip("10.1.0.4")]);
    assert_eq!(addresses.status(130)[0].resting, 2);
    assert_eq!(
        addresses.allocate(&any(&id(10)), 130).unwrap()[0].addr(),
        ip("10.1.0.6"),
        "the free one first"
    );
    assert_eq!(addresses.allocate(&any(&id(11)), 130).unwrap()[0].addr(), ip("10.1.0.2"), "then the oldest");
    assert_eq!(addresses.free(&id(11), 131), [ip("10.1.0.2")]);
    assert_eq!(addresses.status(132)[0].resting, 1, "10.1.0.4 has rested its 30 s");
    assert_eq!(addresses.allocate(&any(&id(12)), 132).unwrap()[0].addr(), ip("10.1.0.4"));
}

#[test]
fn several_blocks_serve_one_subnet() {
    let subnet = "10.1.0.0/16".parse().unwrap();
    let blocks = ["10.1.4.0/29", "10.1.255.248/29", "10.1.0.0/29", "10.9.0.0/29"].map(|b| b.parse().unwrap());
    let mut addresses =
        Addresses::with_pools("app".parse().unwrap(), vec![Pool::with_blocks(subnet, blocks.to_vec())]);
    assert_eq!(addresses.pools()[0].usable(), 3 * (8 - 3));
    let given: BTreeSet<IpAddr> =
        (0..15).map(|n| addresses.allocate(&any(&id(n)), 0).unwrap()[0].addr()).collect();
    assert_eq!(given.len(), 15);
    // Each block has its ends and the host's own address, as a subnet has.
    for reserved in ["10.1.0.0", "10.1.0.1", "10.1.0.7", "10.1.4.1", "10.1.255.255"] {
        assert!(!given.contains(&ip(reserved)), "{reserved}");
    }
    assert!(addresses.ready().is_err());
}

#[test]
fn blocks_come_and_go_and_what_is_held_stays_held() {
    let block = |text: &str| text.parse::<IpNet>().unwrap();
    let network = network(Some("10.1.0.0/16"), None);
    let mut addresses = Addresses::new(&network);
    addresses.set_blocks(&[block("10.1.4.0/29")]);
    let held: Vec<IpAddr> = (0..5).map(|n| addresses.allocate(&any(&id(n)), 0).unwrap()[0].addr()).collect();
    assert_eq!(held, (2..7).map(|n| ip(&format!("10.1.4.{n}"))).collect::<Vec<_>>());
    let more = addresses.allocate(&any(&id(9)), 0).unwrap_err();
    assert!(more.to_string().contains("10.1.4.0/29 (this host's part of 10.1.0.0/16)"), "{more}");
    let elsewhere = Wish { id: &id(9), ips: &[ip("10.1.9.9")], ranges: &[] };
    let refused = addresses.allocate(&elsewhere, 0).unwrap_err();
    assert!(matches!(refused, AddressError::NotHeld { .. }), "{refused}");

    addresses.set_blocks(&[block("10.1.4.0/29"), block("10.1.8.0/29")]);
    assert_eq!(addresses.allocate(&any(&id(9)), 0).unwrap()[0].addr(), ip("10.1.8.2"));
    addresses.free(&id(0), 5);
    // The first block goes: nobody loses an address by it, and nobody gets one from it.
    addresses.set_blocks(&[block("10.1.8.0/29")]);
    assert_eq!(addresses.holder(ip("10.1.4.3")), Some(&id(1)));
    let given: BTreeSet<IpAddr> =
        (20..24).map(|n| addresses.allocate(&any(&id(n)), 100).unwrap()[0].addr()).collect();
    assert!(given.iter().all(|a| block("10.1.8.0/29").contains(a)), "{given:?}");
    assert!(addresses.allocate(&any(&id(30)), 100).is_err());
    // And comes back: what is held in it is still held.
    addresses.set_blocks(&[block("10.1.8.0/29"), block("10.1.4.0/29")]);
    assert_eq!(addresses.allocate(&any(&id(30)), 100).unwrap()[0].addr(), ip("10.1.4.2"));
    assert!(addresses.allocate(&any(&id(31)), 100).is_err());
    // A record of an address in nobody's block is a record all the same.
    addresses.restore(&id(40), &["10.1.77.7/16".parse().unwrap()]).unwrap();
    assert_eq!(addresses.holder(ip("10.1.77.7")), Some(&id(40)));
}

#[test]
fn a_dual_stack_request_is_all_or_nothing() {
    let mut addresses = Addresses::new(&network(Some("10.1.0.0/30"), Some("fd00::/64")));
    let given = addresses.allocate(&any(&id(1)), 0).unwrap();
    assert_eq!(given, ["10.1.0.2/30", "fd00::2/64"].map(|a| a.parse::<IpNet>().unwrap()));
    let before = addresses.status(0);
    assert!(matches!(addresses.allocate(&any(&id(2)), 0), Err(AddressError::Exhausted { .. })));
    assert_eq!(addresses.status(0), before, "no IPv6 address was lost to the refusal");
    addresses.free(&id(1), 0);
    let next = addresses.allocate(&any(&id(2)), 0).unwrap();
    assert_eq!(next[1].addr(), ip("fd00::3"));
}

#[test]
fn a_free_address_of_a_later_alternative_comes_before_a_resting_one() {
    let mut addresses = Addresses::new(&network(Some("10.1.0.0/24"), None));
    let either =
        [vec![range("10.1.0.0/24", "10.1.0.9", "10.1.0.9"), range("10.1.0.0/24", "10.1.0.20", "10.1.0.20")]];
    let [first, second, third] = [1, 2, 3].map(id);
    let wish = |id| Wish { id, ips: &[], ranges: &either };
    assert_eq!(addresses.allocate(&wish(&first), 0).unwrap()[0].addr(), ip("10.1.0.9"));
    addresses.free(&first, 0);
    assert_eq!(addresses.allocate(&wish(&second), 1).unwrap()[0].addr(), ip("10.1.0.20"));
    assert_eq!(addresses.allocate(&wish(&third), 1).unwrap()[0].addr(), ip("10.1.0.9"));
}

/// A scan for each allocation would take many minutes here.
#[test]
fn sixty_thousand_allocations_and_as_many_again_when_full_are_distinct() {
    let mut addresses = Addresses::new(&network(Some("10.1.0.0/16"), Some("fd00::/64")));
    let ids: Vec<AttachmentId> = (0..60_000).map(id).collect();
    let held: BTreeSet<_> = ids.iter().flat_map(|id| addresses.allocate(&any(id), 0).unwrap()).collect();
    assert_eq!(held.len(), 120_000);
    for (n, id) in ids.iter().enumerate() {
        addresses.free(id, n as u64 / 100);
        addresses.allocate(&any(id), n as u64 / 100).unwrap();
    }
}

/// BAR.md R11: eight writers, ten thousand rounds each, and a restart from the records in between.
#[test]
fn eight_writers_never_share_an_address_and_leak_none() {
    use std::sync::Mutex;
    let network = network(Some("10.1.0.0/24"), Some("fd00::/64"));
    let mut records: BTreeMap<AttachmentId, Vec<IpNet>> = BTreeMap::new();
    for round in 0..2u64 {
        let mut addresses = Addresses::new(&network);
        for (id, given) in &records {
            addresses.restore(id, given).unwrap();
        }
        let shared = Mutex::new((addresses, std::mem::take(&mut records)));
        std::thread::scope(|scope| {
            for writer in 0..8u32 {
                let shared = &shared;
                scope.spawn(move || {
                    for n in 0..5_000u32 {
                        let id = id(writer * 40 + n % 37);
                        let (addresses, records) = &mut *shared.lock().unwrap();
                        let now = round * 1_000 + u64::from(n / 50);
                        if records.remove(&id).is_some() {
                            assert_eq!(addresses.free(&id, now).len(), 2);
                        } else if let Ok(given) = addresses.allocate(&any(&id), now) {
                            records.insert(id, given);
                        }
                    }
                });
            }
        });
        let (mut addresses, left) = shared.into_inner().unwrap();
        let held: BTreeSet<IpAddr> = left.values().flatten().map(IpNet::addr).collect();
        assert_eq!(held.len(), left.len() * 2, "no address has two holders");
        assert_eq!(addresses.status(0)[0].used as usize, left.len(), "no address has leaked");
        for id in left.keys().filter(|_| round == 1) {
            addresses.free(id, 10_000);
        }
        if round == 1 {
            assert!(addresses.status(10_031).iter().all(|pool| (pool.used, pool.resting) == (0, 0)));
        }
        records = left;
    }
}
