//! What a refused request is told.

use super::*;

fn refused(ips: &[&str], ranges: &[Vec<AddressRange>]) -> api::Error {
    let mut addresses = Addresses::new(&network(Some("10.1.0.0/24"), Some("fd00::/64")));
    addresses.allocate(&Wish { id: &id(1), ips: &[ip("10.1.0.7")], ranges: &[] }, 0).unwrap();
    let before = addresses.status(0);
    let ips: Vec<IpAddr> = ips.iter().map(|text| ip(text)).collect();
    let error = addresses.allocate(&Wish { id: &id(2), ips: &ips, ranges }, 0).unwrap_err();
    assert_eq!(addresses.status(0), before, "a refusal changes nothing");
    let error = api::Error::from(error);
    assert!(!error.message.contains('\n') && error.hint.is_some());
    error
}

#[test]
fn wanted_addresses_that_cannot_be_had() {
    let table = [
        (vec!["10.2.0.1"], ErrorKind::Invalid, "10.2.0.1 lies outside network app (10.1.0.0/24)"),
        (vec!["10.1.0.1"], ErrorKind::Invalid, "10.1.0.1 is the gateway of network app"),
        (vec!["10.1.0.0"], ErrorKind::Invalid, "10.1.0.0 is the network address of network app"),
        (vec!["10.1.0.255"], ErrorKind::Invalid, "10.1.0.255 is the broadcast address of network app"),
        (vec!["fd00::"], ErrorKind::Invalid, "fd00:: is the subnet-router anycast address of network app"),
        (
            vec!["10.1.0.7"],
            ErrorKind::Exists,
            "10.1.0.7 is held by app/c1/eth0, so app/c2/eth0 cannot have it",
        ),
        (vec!["10.1.0.8", "10.1.0.9"], ErrorKind::Invalid, "app/c2/eth0 asks for more than one IPv4 address"),
        (vec!["10.1.0.8", "10.1.0.8"], ErrorKind::Invalid, "app/c2/eth0 asks for more than one IPv4 address"),
        (vec!["10.1.0.8", "fd00::1"], ErrorKind::Invalid, "fd00::1 is the gateway of network app"),
    ];
    for (ips, kind, message) in table {
        let error = refused(&ips, &[]);
        assert_eq!((error.kind, error.message.as_str()), (kind, message));
    }
}

#[test]
fn ranges_that_make_no_sense() {
    let table = [
        (vec![vec![]], "range (empty list): a list of alternatives has no range in it"),
        (
            vec![vec![range("10.2.0.0/24", "", "")]],
            "range 10.2.0.0/24: its subnet does not lie in the network's (10.1.0.0/24, fd00::/64)",
        ),
        (
            vec![vec![range("10.1.0.0/24", "10.1.0.9", "10.1.0.8")]],
            "range 10.1.0.9-10.1.0.8 in 10.1.0.0/24: it ends before it starts",
        ),
        (
            vec![vec![range("10.1.0.0/25", "", "10.1.0.200")]],
            "range -10.1.0.200 in 10.1.0.0/25: 10.1.0.200 does not lie in 10.1.0.0/25",
        ),
        (
            vec![vec![range("10.1.0.0/24", "fd00::5", "")]],
            "range fd00::5- in 10.1.0.0/24: fd00::5 does not lie in 10.1.0.0/24",
        ),
        (
            vec![vec![range("10.1.0.0/25", "", ""), range("fd00::/64", "", "")]],
            "range 10.1.0.0/25, fd00::/64: alternatives for one address are IPv4 and IPv6",
        ),
        (
            vec![vec![range("10.1.0.0/25", "", "")], vec![range("10.1.0.128/25", "", "")]],
            "app/c2/eth0 asks for more than one IPv4 address",
        ),
    ];
    for (ranges, message) in table {
        let error = refused(&[], &ranges);
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Invalid, message));
    }
    let outside = refused(&["10.1.0.8"], &[vec![range("10.1.0.0/24", "10.1.0.9", "")]]);
    assert_eq!(
        outside.message,
        "range 10.1.0.9- in 10.1.0.0/24: 10.1.0.8 is asked for and does not lie in it"
    );
}

#[test]
fn a_full_range_says_so_and_how_to_widen_it() {
    let error = refused(&[], &[vec![range("10.1.0.0/24", "10.1.0.7", "10.1.0.7")]]);
    assert_eq!(error.kind, ErrorKind::Exhausted);
    assert_eq!(
        error.message,
        "no address is left in 10.1.0.7-10.1.0.7 in 10.1.0.0/24: 1 used, 0 resting, 1 usable"
    );
    assert!(error.hint.unwrap().contains("ipRanges"));
    let gateway = refused(&[], &[vec![range("10.1.0.0/24", "10.1.0.1", "10.1.0.1")]]);
    assert_eq!(gateway.kind, ErrorKind::Exhausted, "a range of reserved addresses has none");
}

#[test]
fn a_family_that_the_network_lacks() {
    let mut addresses = Addresses::new(&network(Some("10.1.0.0/24"), None));
    let said = |r: Result<Vec<IpNet>, AddressError>| r.unwrap_err().to_string();
    let first = id(1);
    let wish = Wish { id: &first, ips: &[ip("fd00::5")], ranges: &[] };
    assert_eq!(said(addresses.allocate(&wish, 0)), "network app has no IPv6 subnet");
    let ranges = [vec![range("fd00::/64", "", "")]];
    let wish = Wish { id: &first, ips: &[], ranges: &ranges };
    assert_eq!(said(addresses.allocate(&wish, 0)), "network app has no IPv6 subnet");
}

#[test]
fn asking_twice_changes_nothing() {
    let mut addresses = Addresses::new(&network(Some("10.1.0.0/24"), None));
    addresses.allocate(&any(&id(1)), 0).unwrap();
    let before = addresses.status(0);
    let error = api::Error::from(addresses.allocate(&any(&id(1)), 0).unwrap_err());
    assert_eq!(error.kind, ErrorKind::Exists);
    assert_eq!(error.message, "app/c1/eth0 has its addresses already: 10.1.0.2/24");
    assert_eq!(addresses.status(0), before);
}

#[test]
fn records_that_contradict_each_other_name_both_holders() {
    let mut addresses = Addresses::new(&network(Some("10.1.0.0/24"), Some("fd00::/64")));
    let (v4, v6) = ("10.1.0.5/24".parse().unwrap(), "fd00::5/64".parse().unwrap());
    addresses.restore(&id(1), &[v6]).unwrap();
    let error = addresses.restore(&id(2), &[v4, v6]).unwrap_err();
    assert_eq!(error.to_string(), "fd00::5 is held by app/c1/eth0, so app/c2/eth0 cannot have it");
    assert_eq!(addresses.holder(v4.addr()), None, "the rest of a refused record is not taken either");
    assert_eq!(addresses.held_by(&id(2)), None);
}
