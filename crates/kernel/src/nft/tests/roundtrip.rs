//! What is applied is what is read.

use proptest::prelude::*;

use super::*;

#[test]
fn every_word_of_every_family_is_read_as_it_was_applied() {
    for (name, table) in samples::all() {
        let wanted = Tables::from([(name.clone(), table)]);
        in_netns(|socket, _| {
            applied(socket, &install(&wanted));
            let found = read(socket, std::slice::from_ref(&name)).unwrap();
            let (found, wanted) = (&found[&name], &samples::as_read(&wanted)[&name]);
            assert_eq!(found.foreign, Vec::<String>::new());
            for (chain, wanted) in &wanted.chains {
                assert_eq!(found.chains[chain].base, wanted.base);
                for (index, rule) in wanted.rules.iter().enumerate() {
                    assert_eq!(&found.chains[chain].rules[index], rule, "{name} {chain} {index}");
                }
            }
            assert_eq!(found, wanted);
        });
    }
}

#[test]
fn all_families_fit_into_one_transaction_and_one_read() {
    let wanted = samples::all();
    in_netns(|socket, _| {
        applied(socket, &install(&wanted));
        let found = read(socket, &names(&wanted)).unwrap();
        assert_eq!(found, samples::as_read(&wanted));
        assert!(diff(&wanted, &found).is_empty());
    });
}

#[test]
fn absent_tables_are_absent() {
    in_netns(|socket, _| {
        assert_eq!(read(socket, &[TableName::new(Family::Inet, "weft")]).unwrap(), Tables::new());
        assert_eq!(counters(socket, &TableName::new(Family::Inet, "weft")).unwrap(), Vec::new());
    });
}

#[test]
fn other_tables_are_not_read() {
    let other = TableName::new(Family::Inet, "other");
    let same_name = TableName::new(Family::Ip, "weft");
    in_netns(|socket, _| {
        let ours = Tables::from([(TableName::new(Family::Inet, "weft"), samples::rich(Family::Inet))]);
        applied(socket, &install(&ours));
        applied(socket, &install(&Tables::from([(other, samples::rich(Family::Inet))])));
        applied(socket, &install(&Tables::from([(same_name, samples::rich(Family::Ip))])));
        assert_eq!(read(socket, &names(&ours)).unwrap(), samples::as_read(&ours));
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn random_tables_are_read_as_they_were_applied(table in random::table()) {
        let wanted = Tables::from([(TableName::new(Family::Inet, "weft"), table)]);
        let found = in_netns(|socket, _| {
            applied(socket, &install(&wanted));
            read(socket, &names(&wanted)).unwrap()
        });
        prop_assert_eq!(found, samples::as_read(&wanted));
    }
}
