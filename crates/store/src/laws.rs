//! What every store has to do, as a suite that each implementation's tests run.
//!
//! Never looks inside: it compares what `load` gives with what the model of these laws, [`Memory`], gives.
//! Panics where a law is broken, because it is made for tests.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_model::object::Metadata;
use weft_model::policy::NetworkPolicySpec;
use weft_model::{
    AttachmentId, Mac, Mode, Netns, Network, NetworkId, NetworkPolicy, Object, Phase, Selector, Workload,
};

use crate::{Loaded, Memory, Store, Write};

/// How many random batches the store is compared with the model for.
const BATCHES: u64 = 300;

/// Runs all laws. `make` gives a store in which nothing is kept yet.
///
/// # Panics
/// Where a law is broken, saying which.
pub fn store_laws<S: Store>(make: impl Fn() -> S) {
    a_new_store_is_empty(&mut make());
    what_is_committed_is_loaded(&mut make());
    later_changes_of_a_batch_win(&mut make());
    removing_what_is_absent_is_success(&mut make());
    network_numbers_are_not_offered_again(&mut make());
    the_first_value_of_a_sysctl_stays(&mut make());
    an_address_in_use_rests_no_longer(&mut make());
    rested_addresses_are_forgotten(&mut make());
    objects_are_kept_by_kind_and_name(&mut make());
    for seed in 1..=3 {
        the_store_is_the_model(&mut make(), seed);
    }
}

fn load(store: &mut impl Store) -> Loaded {
    store.load().expect("a store that works can be read")
}

fn commit(store: &mut impl Store, writes: &[Write]) {
    store.commit(writes).expect("a store that works can be written");
}

fn a_new_store_is_empty(store: &mut impl Store) {
    assert_eq!(load(store), Loaded::default(), "a new store is empty");
    commit(store, &[]);
    assert_eq!(load(store), Loaded::default(), "committing nothing changes nothing");
}

fn what_is_committed_is_loaded(store: &mut impl Store) {
    let (network, workload) = (network(3), workload(3, 7));
    store.put_network(&network).expect("a store that works can be written");
    store.put_workload(&workload).expect("a store that works can be written");
    let loaded = load(store);
    assert_eq!(loaded.networks.get(&network.name), Some(&network), "the network is kept");
    assert_eq!(loaded.workloads.get(&workload.id), Some(&workload), "the workload is kept");
    let freed: Vec<IpAddr> = workload.addresses.iter().map(IpNet::addr).collect();
    store.remove_workload(&workload.id, &freed, 42).expect("a store that works can be written");
    store.remove_network(&network.name).expect("a store that works can be written");
    let loaded = load(store);
    assert!(loaded.networks.is_empty() && loaded.workloads.is_empty(), "what is removed is gone");
    let resting: Vec<_> = loaded.resting.into_iter().map(|((_, address), at)| (address, at)).collect();
    assert_eq!(resting, freed.into_iter().map(|address| (address, 42)).collect::<Vec<_>>(), "it rests");
}

fn later_changes_of_a_batch_win(store: &mut impl Store) {
    let mut second = workload(1, 1);
    second.phase = Phase::Ready;
    let gone = workload(1, 2);
    let remove = Write::RemoveWorkload { id: gone.id.clone(), freed: vec![], at: 0 };
    commit(store, &[put(workload(1, 1)), put(gone), put(second.clone()), remove]);
    let workloads: Vec<_> = load(store).workloads.into_values().collect();
    assert_eq!(workloads, [second], "the changes of a batch are made in order");
}

fn removing_what_is_absent_is_success(store: &mut impl Store) {
    let id = workload(1, 1).id;
    let absent = [
        Write::RemoveNetwork(network(1).name),
        Write::ForgetSysctl("net/ipv4/ip_forward".into()),
        Write::RemoveWorkload { id, freed: vec![], at: 0 },
        Write::ForgetRested { before: 9 },
    ];
    commit(store, &absent);
    assert_eq!(load(store), Loaded::default(), "removing what is absent changes nothing");
}

fn network_numbers_are_not_offered_again(store: &mut impl Store) {
    commit(store, &[Write::PutNetwork(network(5)), Write::PutNetwork(network(2))]);
    assert_eq!(load(store).next_network_id, 6);
    commit(store, &[Write::RemoveNetwork(network(5).name), Write::RemoveNetwork(network(2).name)]);
    assert_eq!(load(store).next_network_id, 6, "the number of a removed network is not offered again");
}

fn the_first_value_of_a_sysctl_stays(store: &mut impl Store) {
    let keep = |value: &str| Write::KeepSysctl { key: "net/ipv4/ip_forward".into(), value: value.into() };
    commit(store, &[keep("0")]);
    commit(store, &[keep("1")]);
    let values: Vec<_> = load(store).sysctls.into_values().collect();
    assert_eq!(values, ["0"], "only the first value was not weft's own");
}

fn an_address_in_use_rests_no_longer(store: &mut impl Store) {
    let held = workload(1, 1);
    let freed = held.addresses.iter().map(IpNet::addr).collect();
    commit(store, &[Write::RemoveWorkload { id: held.id.clone(), freed, at: 5 }]);
    assert_eq!(load(store).resting.len(), 2);
    commit(store, &[put(held)]);
    assert!(load(store).resting.is_empty(), "an address in use rests no longer");
}

fn rested_addresses_are_forgotten(store: &mut impl Store) {
    for n in 1..=3u8 {
        let freed = vec![IpAddr::from([10, 0, 0, n])];
        commit(store, &[Write::RemoveWorkload { id: workload(1, n).id, freed, at: n.into() }]);
    }
    commit(store, &[Write::ForgetRested { before: 2 }]);
    let left: Vec<u64> = load(store).resting.into_values().collect();
    assert_eq!(left, [2, 3], "forgotten is what was freed before the given second, not in it");
}

fn objects_are_kept_by_kind_and_name(store: &mut impl Store) {
    let (one, other) = (object("a", 1), object("a", 2));
    let elsewhere = object("b", 1);
    commit(store, &[put_object(&one), put_object(&elsewhere), put_object(&other)]);
    assert_eq!(load(store).objects.into_values().collect::<Vec<_>>(), [other, elsewhere.clone()]);
    commit(store, &[Write::RemoveObject(one.id()), Write::RemoveObject(object("c", 1).id())]);
    assert_eq!(load(store).objects.into_values().collect::<Vec<_>>(), [elsewhere]);
}

fn the_store_is_the_model(store: &mut impl Store, seed: u64) {
    let mut model = Memory::default();
    let mut dice = Dice(seed);
    for batch in 0..BATCHES {
        let writes: Vec<Write> = (0..dice.roll(5)).map(|_| dice.write(batch)).collect();
        commit(store, &writes);
        commit(&mut model, &writes);
        assert_eq!(load(store), load(&mut model), "seed {seed}, batch {batch}: {writes:?}");
    }
}

/// A small deterministic generator (xorshift64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u8) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u8::try_from(self.0 % u64::from(sides)).expect("less than a u8")
    }

    fn write(&mut self, now: u64) -> Write {
        let (a, b) = (self.roll(4) + 1, self.roll(12) + 1);
        let key = format!("net/ipv4/conf/weft{a}/forwarding");
        match self.roll(12) {
            10 => put_object(&object(&format!("n{a}"), b)),
            11 => Write::RemoveObject(object(&format!("n{a}"), b).id()),
            0 => Write::PutNetwork(network(a)),
            1 => Write::RemoveNetwork(network(a).name),
            2 => Write::KeepSysctl { key, value: b.to_string() },
            3 => Write::ForgetSysctl(key),
            4 => Write::ForgetRested { before: now.saturating_sub(5) },
            5..=7 => put(workload(a, b)),
            _ => {
                let gone = workload(a, b);
                let freed = gone.addresses.iter().map(IpNet::addr).collect();
                Write::RemoveWorkload { id: gone.id, freed, at: now }
            }
        }
    }
}

fn put(workload: Workload) -> Write {
    Write::PutWorkload(Box::new(workload))
}

fn put_object(object: &Object) -> Write {
    Write::PutObject(Box::new(object.clone()))
}

/// A policy for tests: `deny` in that namespace, with something that `n` makes different.
///
/// # Panics
/// Never.
#[must_use]
pub fn object(namespace: &str, n: u8) -> Object {
    let selector = Selector {
        match_labels: [("n".parse().expect("a key"), n.to_string().parse().expect("a value"))].into(),
        ..Selector::default()
    };
    let name = "deny".parse().expect("a name");
    Object::NetworkPolicy(NetworkPolicy {
        api_version: "networking.k8s.io/v1".into(),
        metadata: Metadata::named(name, Some(namespace.parse().expect("a namespace"))),
        spec: NetworkPolicySpec {
            pod_selector: selector,
            policy_types: Vec::new(),
            ingress: Vec::new(),
            egress: Vec::new(),
        },
    })
}

/// A network for tests: `app<n>` with number `n`, 10.`n`.0.0/16 and fd00:0:0:`n`::/64.
///
/// # Panics
/// Never.
#[must_use]
pub fn network(n: u8) -> Network {
    Network {
        name: format!("app{n}").parse().expect("letters and digits"),
        id: NetworkId(n.into()),
        mode: Mode::Routed,
        ipv4: Some(format!("10.{n}.0.0/16").parse().expect("a subnet")),
        ipv6: Some(format!("fd00:0:0:{n:x}::/64").parse().expect("a subnet")),
        mtu: None,
        masquerade: true,
        vni: None,
        encapsulation: weft_model::Encapsulation::Auto,
    }
}

/// A pending workload for tests: container `c<n>` in `app<network>` with 10.`network`.1.`n` and its IPv6 peer.
///
/// # Panics
/// Never.
#[must_use]
pub fn workload(network: u8, n: u8) -> Workload {
    Workload {
        id: AttachmentId {
            network: format!("app{network}").parse().expect("letters and digits"),
            container: format!("c{n}").parse().expect("letters and digits"),
            ifname: "eth0".parse().expect("letters and digits"),
        },
        owner: weft_model::Owner::default(),
        phase: Phase::Pending,
        netns: Netns { path: format!("/run/netns/c{n}").into(), inode: 4_026_532_000 + u64::from(n) },
        host_end: format!("weft{n}").parse().expect("letters and digits"),
        mac: Mac([2, 0, 0, 0, network, n]),
        mtu: 1_500,
        addresses: vec![
            format!("10.{network}.1.{n}/16").parse().expect("an address"),
            format!("fd00:0:0:{network:x}::{n:x}/64").parse().expect("an address"),
        ],
        default_route: true,
        pod: None,
        profile: weft_model::Profile::default(),
    }
}
