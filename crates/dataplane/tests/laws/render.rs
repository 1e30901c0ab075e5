//! What is rendered for one workload is part of what is rendered for all; aliases say what they were told.

use proptest::prelude::*;
use weft_dataplane::{network, render_workload};
use weft_kernel::ours;
use weft_model::{AttachmentId, Mode, Network, NetworkId};

use crate::reach::cases;
use crate::universe::{choice, universe};

fn name(limit: usize) -> impl Strategy<Value = String> {
    proptest::string::string_regex(&format!("[a-z0-9][a-z0-9._-]{{0,{}}}", limit - 1)).unwrap()
}

prop_compose! {
    fn any_network()(
        name in name(63), id in 1_u16..0x7fff, bridge: bool, masquerade: bool, families in 1_u8..4,
        v4: u32, v4_len in 8_u8..=30, v6: u128, v6_len in 48_u8..=126, mtu in prop::option::of(576_u32..=65_535),
    ) -> Network {
        Network {
            name: name.parse().unwrap(),
            id: NetworkId(id),
            mode: if bridge { Mode::Bridge } else { Mode::Routed },
            ipv4: (families & 1 != 0).then(|| ipnet::Ipv4Net::new(v4.into(), v4_len).unwrap().trunc()),
            ipv6: (families & 2 != 0).then(|| ipnet::Ipv6Net::new(v6.into(), v6_len).unwrap().trunc()),
            mtu,
            masquerade,
            vni: None,
            encapsulation: weft_model::Encapsulation::Auto,
        }
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_workload_alone_is_part_of_the_whole(u in universe(), choice in choice()) {
        let plan = u.plan(&choice);
        let whole = weft_dataplane::render(&plan);
        for workload in plan.workloads.values() {
            let part = render_workload(workload);
            prop_assert!(!part.state.links.is_empty() && !part.wires.is_empty());
            prop_assert!(part.state.links.iter().all(|(k, v)| whole.state.links.get(k) == Some(v)));
            prop_assert!(part.state.addresses.is_subset(&whole.state.addresses));
            prop_assert!(part.state.neighbours.iter().all(|(k, v)| whole.state.neighbours.get(k) == Some(v)));
            prop_assert!(part.state.routes.iter().all(|(k, v)| whole.state.routes.get(k) == Some(v)));
            prop_assert!(part.state.sysctls.iter().all(|(k, v)| whole.state.sysctls.get(k) == Some(v)));
            prop_assert!(part.state.shapes.iter().all(|(k, v)| whole.state.shapes.get(k) == Some(v)));
            prop_assert!(part.state.detours.iter().all(|(k, v)| whole.state.detours.get(k) == Some(v)));
            prop_assert!(part.wires.iter().all(|(k, v)| whole.wires.get(k) == Some(v)));
            let mut elements = 0;
            for (table, part) in &part.state.tables {
                for (name, set) in &part.sets {
                    let whole = &whole.state.tables[table].sets[name];
                    prop_assert_eq!(&set.declaration, &whole.declaration);
                    prop_assert!(set.elements.iter().all(|(k, v)| whole.elements.get(k) == Some(v)));
                    elements += set.elements.len();
                }
            }
            prop_assert!(elements >= workload.addresses.len(), "a wire without a guard");
        }
    }

    #[test]
    fn the_guard_names_the_addresses_again(u in universe(), choice in choice()) {
        let plan = u.plan(&choice);
        let tables = weft_dataplane::render(&plan).state.tables;
        for workload in plan.workloads.values() {
            let mut wanted: Vec<_> = workload.addresses.iter().map(|a| (workload.mac, a.addr())).collect();
            let mut found = weft_dataplane::nft::guarded(&tables, &workload.host_end);
            wanted.sort_unstable();
            found.sort_unstable();
            prop_assert_eq!(found, wanted);
        }
    }

    #[test]
    fn limits_are_read_back_from_what_is_rendered(u in universe(), choice in choice()) {
        let world = u.world(&choice);
        let state = u.wanted(&choice).state;
        for workload in world.workloads.values() {
            let (wanted, found) = (workload.profile.bandwidth, weft_dataplane::bandwidth::limits(&state, &workload.host_end));
            let rates = |b: weft_model::Bandwidth| [b.ingress, b.egress].map(|l| l.map(weft_model::Limit::rate));
            prop_assert_eq!(rates(found), rates(wanted));
            // The burst is there in any case then; rendered again it is the same one.
            let again = weft_model::Profile { bandwidth: found, ..workload.profile.clone() };
            let again = weft_model::Workload { profile: again, ..workload.clone() };
            let network = &u.plan(&choice).networks[&workload.id.network];
            let part = render_workload(&weft_plan::attach::plan(&again, network)).state;
            prop_assert!(part.shapes.iter().all(|(k, v)| state.shapes.get(k) == Some(v)));
        }
    }

    #[test]
    fn a_networks_alias_round_trips_and_fits(network in any_network()) {
        let alias = network::alias(&network);
        prop_assert!(alias.len() < 256, "{} bytes", alias.len()); // IFALIASZ, with its NUL
        prop_assert_eq!(network::read_alias(&alias), Some(network));
        prop_assert_eq!(ours::read_wire_alias(&alias), None);
    }

    #[test]
    fn a_wires_alias_round_trips_and_fits(
        network in name(63), container in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", ifname in "[a-zA-Z0-9_][a-zA-Z0-9_.@-]{0,14}",
        owner in "([a-z0-9:_.-]{1,70})|(.{0,9})", inode: u64,
    ) {
        let (Ok(ifname), Ok(container)) = (ifname.parse(), container.parse()) else { return Ok(()) };
        let id = AttachmentId { network: network.parse().unwrap(), container, ifname };
        let owner = weft_model::Owner(owner);
        let alias = ours::wire_alias(&id, &owner, inode);
        prop_assert!(alias.len() < 256, "{} bytes", alias.len());
        prop_assert!(!alias.contains('\''), "it is written between quotes: {alias}");
        let read = ours::read_wire_alias(&alias).expect("what is written can be read");
        prop_assert_eq!((read.id, read.netns_inode), (id, inode));
        prop_assert!(read.owner == owner || read.owner == weft_model::Owner::default());
        prop_assert_eq!(network::read_alias(&alias), None);
    }

    #[test]
    fn reading_an_alias_never_panics(text in ".{0,256}") {
        let _ = (ours::read_wire_alias(&text), network::read_alias(&text));
    }
}
