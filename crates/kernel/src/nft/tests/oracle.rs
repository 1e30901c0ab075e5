//! The program `nft` as the judge: what it loads from our text is what we load over netlink.

use std::io::Write;
use std::process::Stdio;

use proptest::prelude::*;

use super::*;

/// Runs `nft` in a namespace with a file as input; returns what it prints.
pub(super) fn nft(netns: &Netns, arguments: &[&str], input: &str) -> String {
    let mut child = netns
        .command("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nft {arguments:?}: {errors}\n{input}");
    String::from_utf8(output.stdout).unwrap()
}

pub(super) fn listing(netns: &Netns) -> String {
    nft(netns, &["-s", "list", "ruleset"], "")
}

/// The listings after loading over netlink, and after `nft -f` of the text.
fn both(tables: &Tables) -> (String, String) {
    let ours = in_netns(|socket, netns| {
        applied(socket, &install(tables));
        listing(netns)
    });
    let text: String = tables.iter().map(|(name, table)| script(name, table)).collect();
    let theirs = in_netns(|_, netns| {
        nft(netns, &["-f", "-"], &text);
        listing(netns)
    });
    (ours, theirs)
}

#[test]
fn nft_lists_what_we_load_as_what_it_loads_from_our_text() {
    for (name, table) in samples::all() {
        let (ours, theirs) = both(&Tables::from([(name.clone(), table)]));
        for (ours, theirs) in ours.lines().zip(theirs.lines()) {
            assert_eq!(ours, theirs, "{name}");
        }
        assert_eq!(ours, theirs);
    }
}

#[test]
fn what_nft_loads_from_our_text_is_read_as_what_was_meant() {
    for (name, table) in samples::all() {
        let wanted = Tables::from([(name.clone(), table)]);
        in_netns(|socket, netns| {
            nft(netns, &["-f", "-"], &script(&name, &wanted[&name]));
            let found = read(socket, std::slice::from_ref(&name)).unwrap();
            for (set, found) in &found[&name].sets {
                assert_eq!(found, &wanted[&name].sets[set], "{name} {set}");
            }
            assert_eq!(
                found[&name].chains.keys().collect::<Vec<_>>(),
                wanted[&name].chains.keys().collect::<Vec<_>>()
            );
        });
    }
}

#[test]
fn commands_are_what_a_shell_takes() {
    let mut table = samples::rich(Family::Inet);
    // nft 1.0.6 mistakes the example in the notes of a `typeof` map with ports for a part of the rule,
    // unless both come in one file.
    for chain in table.chains.values_mut() {
        chain
            .rules
            .retain(|rule| !rule.expressions.iter().any(|e| e.set().is_some_and(|s| s.name == "backends")));
    }
    let tables = Tables::from([(TableName::new(Family::Inet, "weft"), table)]);
    let ours = in_netns(|socket, netns| {
        applied(socket, &install(&tables));
        listing(netns)
    });
    let commands: String = install(&tables).iter().map(|op| format!("{op}\n")).collect();
    let typed = in_netns(|_, netns| {
        let output = netns.command("bash").args(["-ex", "-c", &commands]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        listing(netns)
    });
    assert_eq!(ours, typed);
}

#[test]
fn deletions_are_what_a_shell_takes_too() {
    let name = TableName::new(Family::Inet, "weft");
    let mut smaller = samples::rich(Family::Inet);
    for chain in smaller.chains.values_mut() {
        chain.rules.clear();
    }
    for set in smaller.sets.values_mut() {
        set.elements.clear();
    }
    smaller.chains.remove("raw");
    smaller.sets.remove("guard4");
    let full = Tables::from([(name.clone(), samples::rich(Family::Inet))]);
    let smaller = Tables::from([(name, smaller)]);
    let steps = diff(&smaller, &full);
    let run = |typed: bool| {
        in_netns(|socket, netns| {
            applied(socket, &install(&full));
            for op in steps.install.iter().chain(&steps.remove) {
                if typed {
                    let output = netns.command("bash").args(["-c", &op.to_string()]).output().unwrap();
                    assert!(output.status.success(), "{op}: {}", String::from_utf8_lossy(&output.stderr));
                } else {
                    applied(socket, std::slice::from_ref(op));
                }
            }
            listing(netns)
        })
    };
    assert_eq!(run(false), run(true));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn random_sets_are_listed_alike(set in random::set_of(random::USUAL.to_vec())) {
        let mut table = Table::default();
        table.chains.insert("target".to_owned(), Chain::default());
        table.sets.insert("s".to_owned(), set);
        let (ours, theirs) = both(&Tables::from([(TableName::new(Family::Inet, "weft"), table)]));
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn random_rules_are_listed_alike(rules in prop::collection::vec(random::rule_for_people(), 1..6)) {
        let mut table = Table::default();
        table.chains.insert("target".to_owned(), Chain::default());
        table.chains.insert("rules".to_owned(), Chain { base: None, rules });
        let (ours, theirs) = both(&Tables::from([(TableName::new(Family::Inet, "weft"), table)]));
        prop_assert_eq!(ours, theirs);
    }
}
