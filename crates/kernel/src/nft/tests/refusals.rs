//! The interpreter refuses what Linux refuses, with the same number; and neither does half of a batch.

use proptest::prelude::*;

use super::cases::{add, cases, delete_set, ground, ip, t};
use super::*;

#[test]
fn the_interpreter_refuses_what_linux_refuses() {
    let mut differences = Vec::new();
    for (case, ops) in cases() {
        let mut fake = ground();
        let said = fake::apply(&mut fake, &ops).err();
        let (kernel_said, kernel) = in_netns(|socket, _| {
            applied(socket, &install(&ground()));
            let said = match apply(socket, &ops) {
                Ok(()) => None,
                Err(Error::Refused { index, source, .. }) => Some((index, source.errno)),
                Err(error) => panic!("{case}: {}", explain(&error)),
            };
            (said, read(socket, &[t()]).unwrap())
        });
        if said != kernel_said {
            differences.push(format!("{case}: the interpreter {said:?}, Linux {kernel_said:?}"));
        }
        if fake != samples::as_read(&kernel) {
            differences.push(format!("{case}: the results differ"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn a_batch_with_a_step_that_fails_changes_nothing() {
    let full = Tables::from([(t(), samples::rich(Family::Inet))]);
    in_netns(|socket, netns| {
        applied(socket, &install(&ground()));
        let before = (oracle::listing(netns), read(socket, &[t()]).unwrap());
        let mut ops = vec![Op::AddTable(t()), Op::DeleteTable(t())];
        ops.extend(install(&full));
        ops.insert(ops.len() / 2, delete_set("missing"));
        let error = apply(socket, &ops).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENOENT));
        assert_eq!(error.to_string(), "the kernel refused `nft delete set inet weft missing`");
        assert_eq!((oracle::listing(netns), read(socket, &[t()]).unwrap()), before);
        // The socket is as good as before.
        applied(socket, &[add("ips", false, vec![(ip("3.3.3.3"), None)])]);
    });
}

#[test]
fn the_first_of_many_refusals_is_told() {
    in_netns(|socket, _| {
        applied(socket, &install(&ground()));
        // More refusals than a socket's buffer holds.
        let ops: Vec<Op> = (0..5000).map(|n| delete_set(&format!("missing{n}"))).collect();
        let started = std::time::Instant::now();
        match apply(socket, &ops).unwrap_err() {
            Error::Refused { index: 0, op, source } => {
                assert_eq!((op.as_str(), source.errno), ("nft delete set inet weft missing0", libc::ENOENT));
            }
            other => panic!("{}", explain(&other)),
        }
        assert!(started.elapsed() < std::time::Duration::from_secs(5));
        assert_eq!(read(socket, &[t()]).unwrap(), samples::as_read(&ground()));
        applied(socket, &[add("ips", false, vec![(ip("3.3.3.3"), None)])]);
    });
}

#[test]
fn without_permission_the_batch_is_refused_as_a_whole() {
    // A socket opened without CAP_NET_ADMIN over its namespace is refused at once (EPERM).
    let netns = Netns::anonymous().unwrap();
    let result = std::thread::spawn(move || {
        netns
            .run(|| {
                rustix::thread::set_capabilities(
                    None,
                    rustix::thread::CapabilitySets {
                        effective: rustix::thread::CapabilitySet::SYS_ADMIN,
                        permitted: rustix::thread::CapabilitySet::SYS_ADMIN,
                        inheritable: rustix::thread::CapabilitySet::empty(),
                    },
                )
                .unwrap();
                let mut socket = Socket::open(Protocol::Netfilter).unwrap();
                apply(&mut socket, &[Op::AddTable(t()), Op::AddTable(t())])
            })
            .unwrap()
    })
    .join()
    .unwrap();
    match result.unwrap_err() {
        Error::Batch { steps: 2, source } => assert_eq!(source.errno, libc::EPERM),
        other => panic!("{}", explain(&other)),
    }
}

#[test]
fn names_and_texts_cannot_inject() {
    let bad = ["", "a b", "a;b", "a\"", "-x", "1x", "__set0", "a\n", "x'y", "a{", &"x".repeat(200)];
    in_netns(|socket, _| {
        for name in bad {
            let ops = [Op::AddTable(TableName::new(Family::Inet, name))];
            assert!(
                matches!(apply(socket, &ops), Err(Error::Invalid { source: Invalid::Name(_), .. })),
                "{name:?}"
            );
            assert_eq!(fake::apply(&mut Tables::new(), &ops), Err((0, libc::EINVAL)));
        }
        for comment in ["\" drop comment \"", "a\nb", &"x".repeat(128)] {
            let rule = Rule::new([Expr::accept()]).comment(comment);
            let op = Op::AddRule { table: t(), chain: "c".to_owned(), rule };
            assert!(matches!(apply(socket, &[op]), Err(Error::Invalid { source: Invalid::Text(_), .. })));
        }
    });
    let rule = Rule::new([Expr::accept()]).comment("a\" ; drop 'x' \n");
    let op = Op::AddRule { table: t(), chain: "c".to_owned(), rule };
    assert_eq!(op.to_string(), r#"nft 'add rule inet weft c accept comment "a? ; drop '\''x'\'' ?"'"#);
    assert_eq!(IfName::new("a\"b"), None);
    assert_eq!(IfName::new("a*"), None);
    assert_eq!(IfName::new("sixteen-letters!"), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    /// Any order of any of the cases' steps.
    #[test]
    fn random_batches_are_refused_alike(picks in prop::collection::vec((0..90_usize, any::<bool>()), 1..5)) {
        let cases = cases();
        let skip = |case: &str| case.contains("circle") || case.contains("itself") || case.contains("update");
        let mut fake = ground();
        let mut batches = Vec::new();
        for (pick, joined) in picks {
            let (case, ops) = cases[pick % cases.len()].clone();
            prop_assume!(!skip(case));
            match batches.last_mut() {
                Some(last) if joined => { let last: &mut Vec<Op> = last; last.extend(ops); }
                _ => batches.push(ops),
            }
        }
        let said: Vec<_> = batches.iter().map(|ops| fake::apply(&mut fake, ops).err()).collect();
        let (kernel_said, kernel) = in_netns(|socket, _| {
            applied(socket, &install(&ground()));
            let said: Vec<_> = batches.iter().map(|ops| match apply(socket, ops) {
                Ok(()) => None,
                Err(Error::Refused { index, source, .. }) => Some((index, source.errno)),
                Err(error) => panic!("{}", explain(&error)),
            }).collect();
            (said, read(socket, &[t()]).unwrap())
        });
        prop_assert_eq!(said, kernel_said, "{:#?}", batches.iter().map(|b| b.iter().map(ToString::to_string).collect::<Vec<_>>()).collect::<Vec<_>>());
        prop_assert_eq!(fake, kernel);
    }
}
