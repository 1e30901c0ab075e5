//! Invariant 1: the plan depends on the world, never on the path that led to it.

use proptest::prelude::*;
use weft_dataplane::render;
use weft_model::World;

use crate::reach::cases;
use crate::universe::{choice, here, universe};

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn the_plan_depends_on_the_world_not_on_the_path(
        u in universe(), choice in choice(), other in choice(), order: u64, rotate in 0_usize..8,
    ) {
        let world = u.world(&choice);
        // The detour begins in another world, inserts in another order, and says everything wrongly first.
        let mut detour = u.world(&other);
        let mut networks: Vec<_> = world.networks.values().cloned().collect();
        let mut workloads: Vec<_> = world.workloads.values().cloned().collect();
        let by = rotate % networks.len().max(1);
        networks.rotate_left(by);
        workloads.sort_by_key(|w| (u64::from(w.mac.0[5]) ^ order).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for network in networks {
            let mut wrong = network.clone();
            (wrong.masquerade, wrong.mtu) = (!wrong.masquerade, Some(1300));
            detour.networks.insert(network.name.clone(), wrong);
            let _ = weft_plan::plan(&detour, &here());
            detour.networks.remove(&network.name);
            detour.networks.insert(network.name.clone(), network);
        }
        for workload in workloads {
            let mut wrong = workload.clone();
            wrong.addresses.clear();
            detour.workloads.insert(workload.id.clone(), wrong);
            detour.workloads.remove(&workload.id);
            detour.workloads.insert(workload.id.clone(), workload);
        }
        detour.networks.retain(|name, _| world.networks.contains_key(name));
        detour.workloads.retain(|id, _| world.workloads.contains_key(id));
        detour.nodes.clone_from(&world.nodes);
        prop_assert_eq!(weft_plan::plan(&detour, &here()), weft_plan::plan(&world, &here()));
    }

    #[test]
    fn rendering_is_deterministic(u in universe(), choice in choice()) {
        prop_assert_eq!(u.wanted(&choice), u.wanted(&choice));
        let wanted = u.wanted(&choice);
        let found = weft_kernel::State::default();
        prop_assert_eq!(weft_dataplane::steps(&wanted, &found), weft_dataplane::steps(&wanted, &found));
    }

    #[test]
    fn other_hosts_and_attachments_to_unknown_networks_change_nothing(u in universe(), choice in choice()) {
        let world = u.world(&choice);
        let mut more: World = world.clone();
        let mut other = more.nodes[&here().name].clone();
        other.mtu = 600;
        more.nodes.insert("other".parse().unwrap(), other);
        let unknown = |w: &&weft_model::Workload| !world.networks.contains_key(&w.id.network);
        more.workloads.extend(u.attempts.iter().filter(unknown).map(|w| (w.id.clone(), w.clone())));
        prop_assert_eq!(render(&weft_plan::plan(&more, &here())), render(&weft_plan::plan(&world, &here())));
    }
}
