//! The oracle and the tables agree; and both say what Kubernetes says, where that is written down.

use weft_model::Mode;
use weft_model::policy::Direction;

use super::cases::{case, here, packets};
use super::compile::compile;
use super::matcher::Members;
use super::resolve::Policies;
use super::verdict::judge;

/// How many worlds are judged; all of them in the long run (BAR.md, C2).
fn seeds() -> u64 {
    if std::env::var_os("WEFT_FULL").is_some() { 10_000 } else { 100 }
}

#[test]
fn tables_say_what_the_oracle_says() {
    let packets = packets();
    for seed in 0..seeds() {
        let remote = seed % 2 == 1;
        let world = case(seed, Mode::Routed, remote);
        let (plan, policies, members) =
            (compile(&world, &here().name), Policies::of(&world), Members::of(&world));
        let tables = super::Tables::of(&plan);
        for packet in &packets {
            let verdict = judge(&policies, &members, packet);
            // Ends on other hosts are judged there.
            let here = |name: &str| members.all.iter().any(|m| m.local && m.name == name);
            let allowed = verdict.sides.iter().filter(|s| here(&s.workload)).all(|s| s.allowed);
            assert_eq!(tables.pass(packet), allowed, "seed {seed}: {packet:?}: {verdict:#?}");
            if allowed && verdict.sides.iter().any(|s| here(&s.workload) && s.audit.is_some()) {
                assert!(!tables.pass_audit(packet), "seed {seed}, audit: {packet:?}: {verdict:#?}");
            }
        }
    }
}

#[test]
fn classes_do_not_depend_on_the_path() {
    for seed in 0..50 {
        let world = case(seed, Mode::Routed, true);
        let mut back = case(seed + 1, Mode::Routed, true);
        back.declared = world.declared.clone();
        assert_eq!(compile(&world, &here().name), compile(&back, &here().name));
    }
}

/// Every denial that is not of port 0 can be mended by what `fixes` says, and by nothing less.
#[test]
fn a_fix_flips_the_verdict() {
    let mut fixed = 0;
    for seed in 0..40 {
        let world = case(seed, Mode::Routed, false);
        let (policies, members) = (Policies::of(&world), Members::of(&world));
        let denied = packets().into_iter().step_by(37).filter(|p| !judge(&policies, &members, p).allowed);
        for packet in denied.take(20) {
            let fixes = super::fix::fixes(&world, &packet);
            let sides = super::verdict::verdict(&world, &packet).sides;
            assert_eq!(fixes.len(), sides.iter().filter(|s| !s.allowed).count(), "seed {seed}: {packet:?}");
            let mut after = world.clone();
            for fix in &fixes {
                assert!(
                    !super::verdict::verdict(&after, &packet).allowed,
                    "seed {seed}: {packet:?} needs no more"
                );
                assert_eq!(fix.object.validate(), Ok(()), "{}", fix.words);
                // Both ends may have their rule in one policy: it is asked anew.
                let next = super::fix::fixes(&after, &packet).swap_remove(0);
                after.declared.insert(next.object);
            }
            let verdict = super::verdict::verdict(&after, &packet);
            assert!(verdict.allowed, "seed {seed}: {packet:?}: {fixes:#?}\n{verdict:#?}");
            fixed += 1;
        }
    }
    assert!(fixed > 200, "only {fixed} denials were mended");
}

/// The same for the host itself: of what is never judged, only the way to its own workloads is among these packets.
#[test]
fn tables_say_of_the_host_what_the_oracle_says() {
    let (mut passed, mut denied) = (0, 0);
    for seed in 0..seeds() {
        let world = super::cases::host::case(seed, Mode::Routed);
        let (plan, members) = (compile(&world, &here().name), Members::of(&world));
        let hosts = super::host::Hosts::of(&world);
        for packet in super::cases::host::packets(&world) {
            let sides = hosts.sides(&members, &packet);
            let allowed = sides.iter().all(|side| side.allowed);
            let (direction, peer) = match hosts.at(packet.destination) {
                Some(_) => (Direction::Ingress, packet.source),
                None => (Direction::Egress, packet.destination),
            };
            let own = direction == Direction::Egress && members.end(peer).workload.is_some();
            let said = own || plan.host_passes(direction, peer, packet.protocol, packet.port);
            assert_eq!(said, allowed, "seed {seed}: {packet:?}: {sides:#?}");
            assert!(allowed || !matches!((packet.protocol, packet.port), (6, 2379)), "the store is shut off");
            *if allowed { &mut passed } else { &mut denied } += 1;
        }
    }
    assert!(passed > 1000 && denied > 1000, "{passed} passed, {denied} did not");
}

/// Policies for hosts are no business of workloads, and the other way round.
#[test]
fn subjects_are_kept_apart() {
    let packets = packets();
    for seed in 0..50 {
        let mut world = super::cases::host::case(seed, Mode::Routed);
        let both = compile(&world, &here().name);
        let of_hosts = |p: &weft_model::ClusterNetworkPolicy| p.spec.subject.nodes.is_some();
        world.declared.cluster_policies.retain(|_, policy| !of_hosts(policy));
        let without = compile(&world, &here().name);
        assert_eq!(without.host, None);
        let (both, without) = (super::Tables::of(&both), super::Tables::of(&without));
        let differs = packets.iter().find(|p| both.pass(p) != without.pass(p));
        assert_eq!(differs, None, "seed {seed}");
    }
}
