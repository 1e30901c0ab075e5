//! The same for the host itself: what comes to its sockets and what leaves them.

use weft_dataplane::nft::{policy, ruleset};
use weft_kernel::netlink::{self, Socket};
use weft_kernel::nft;
use weft_model::Mode;
use weft_plan::plan;
use weft_plan::policy::Difference;
use weft_plan::policy::cases::here;
use weft_plan::policy::cases::host::{case, packets};
use weft_plan::policy::host::Hosts;
use weft_plan::policy::matcher::Members;

use super::walk::Walk;
use super::{FOREIGN, inet, seeds};

#[test]
fn the_rules_say_of_the_host_what_the_oracle_says() {
    let (mut passed, mut denied) = (0, 0);
    for seed in 0..seeds() {
        let world = case(seed, Mode::Routed);
        let plan = plan(&world, &here());
        let tables = ruleset(&plan);
        let (hosts, members) = (Hosts::of(&world), Members::of(&world));
        for packet in packets(&world) {
            let sides = hosts.sides(&members, &packet);
            let allowed = sides.iter().all(|side| side.allowed);
            let audited = sides.iter().any(|side| side.audit.is_some());
            let mut walk = Walk::new(&tables[&inet()], packet, FOREIGN);
            let to_host = hosts.at(packet.destination).is_some();
            walk.to_wire = members.end(packet.destination).workload.is_some();
            let base = if to_host { "host_input" } else { "host_output" };
            let passes = plan.policy.host.is_none() || walk.passes(base);
            assert_eq!(passes, allowed, "seed {seed}: {packet:?}: {sides:#?}");
            if passes {
                assert_eq!(walk.mark, FOREIGN, "seed {seed}: {packet:?} goes on with another mark");
                let would = walk.counted.iter().any(|c| c.starts_with("would deny"));
                assert_eq!(would, audited, "seed {seed}, audit: {packet:?}: {sides:#?}");
                passed += 1;
            } else {
                assert!(walk.counted.iter().any(|c| c.starts_with("denied ")), "{packet:?}");
                denied += 1;
            }
        }
    }
    assert!(passed > 1000 && denied > 1000, "{passed} passed, {denied} did not");
}

/// The kernel takes the rules and gives them back; changes lead where a fresh rendering leads; nothing is left of them.
#[test]
fn the_kernel_takes_the_rules_of_the_host_and_gives_them_back() {
    let netns = weft_kernel::netns::Netns::anonymous().unwrap();
    netns
        .run(|| {
            let mut socket = Socket::open(netlink::Family::Netfilter).unwrap();
            let names = weft_kernel::ours::tables();
            let mut numbering = weft_plan::policy::Numbering::default();
            let mut before = weft_plan::Plan::default();
            for seed in 0..12 {
                let mut after = plan(&case(seed, Mode::Bridge), &here());
                numbering.assign(&mut after.policy);
                let found = nft::read(&mut socket, &names).unwrap();
                let steps = match seed {
                    0 => nft::diff(&ruleset(&after), &found),
                    _ => policy::change(&Difference::between(&before.policy, &after.policy), &after.policy),
                };
                for batch in [&steps.install, &steps.remove] {
                    nft::apply(&mut socket, batch).unwrap();
                }
                let found = nft::read(&mut socket, &names).unwrap();
                let left = nft::diff(&ruleset(&after), &found);
                assert!(left.is_empty(), "seed {seed}: {left:?}");
                before = after;
            }
            let mut bare = case(0, Mode::Bridge);
            bare.declared = weft_model::Declared::default();
            let bare = plan(&bare, &here());
            let steps = policy::change(&Difference::between(&before.policy, &bare.policy), &bare.policy);
            for batch in [&steps.install, &steps.remove] {
                nft::apply(&mut socket, batch).unwrap();
            }
            let found = nft::read(&mut socket, &names).unwrap();
            let left: Vec<&String> =
                found[&inet()].chains.keys().filter(|c| c.starts_with("host_")).collect();
            assert!(left.is_empty(), "{left:?}");
        })
        .unwrap();
}
