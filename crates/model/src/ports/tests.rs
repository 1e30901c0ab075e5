//! Words for published ports: what is understood, and what is refused.

use proptest::prelude::*;

use super::*;

fn mapping(text: &str) -> PortMapping {
    text.parse().unwrap()
}

#[test]
fn what_can_be_typed() {
    for (typed, shown) in [
        ("8080:80", "8080:80/tcp"),
        ("53:5353/UDP", "53:5353/udp"),
        ("9000-9002:90-92/sctp", "9000-9002:90-92/sctp"),
        ("127.0.0.1:8080:80", "127.0.0.1:8080:80/tcp"),
        ("0.0.0.0:8080:80/tcp", "0.0.0.0:8080:80/tcp"),
        ("[::1]:8080:80", "[::1]:8080:80/tcp"),
        ("[::]:1-65535:1-65535", "[::]:1-65535:1-65535/tcp"),
        ("[::ffff:192.0.2.1]:80:80", "192.0.2.1:80:80/tcp"),
        ("8080-8080:80", "8080:80/tcp"),
    ] {
        assert_eq!(mapping(typed).to_string(), shown, "{typed}");
    }
}

#[test]
fn what_cannot() {
    for (typed, why) in [
        ("", "does not read"),
        ("80", "does not read"),
        ("80:80:80:80", "does not read"),
        ("::1:80:80", "does not read"),
        ("[::1]80:80", "does not read"),
        ("[::1:80:80", "does not read"),
        ("[::1]:80:80:80", "does not read"),
        ("0:80", "'0' is not a port"),
        ("80:0", "'0' is not a port"),
        ("65536:80", "'65536' is not a port"),
        ("80:65536", "'65536' is not a port"),
        ("99999999999999999999:80", "is not a port"),
        ("+80:80", "'+80' is not a port"),
        ("-1:80", "'' is not a port"),
        ("80-:80", "'' is not a port"),
        ("a:80", "'a' is not a port"),
        ("90-80:80-90", "90-80 is turned round"),
        ("80-90:90-80", "90-80 is turned round"),
        ("80-90:80", "11 ports of the host cannot lead to 1 ports"),
        ("80:80/icmp", "'icmp' is not a protocol"),
        ("80:80/", "'' is not a protocol"),
        ("host:80:80", "'host' is not an IP address"),
        (":80:80", "'' is not an IP address"),
        ("1.2.3:80:80", "'1.2.3' is not an IP address"),
        ("[fe80::1]:80:80", "cannot be published at fe80::1"),
        ("224.0.0.1:80:80", "cannot be published at 224.0.0.1"),
        ("255.255.255.255:80:80", "cannot be published at"),
        ("80\n:80", "'80\\n' is not a port"),
    ] {
        let error = typed.parse::<PortMapping>().unwrap_err().to_string();
        assert!(error.contains(why), "{typed}: {error}");
    }
}

#[test]
fn a_record_is_checked_as_well() {
    let read = |text: &str| serde_json::from_str::<PortMapping>(text);
    let good = read(r#"{"protocol":"udp","host":[53,54],"container":5353}"#).unwrap();
    assert_eq!(good.to_string(), "53-54:5353-5354/udp");
    for bad in [
        r#"{"protocol":"udp","host":[0,54],"container":5353}"#,
        r#"{"protocol":"udp","host":[55,54],"container":5353}"#,
        r#"{"protocol":"udp","host":[53,54],"container":65535}"#,
        r#"{"protocol":"udp","host":[53,65536],"container":1}"#,
        r#"{"protocol":"icmp","host":[53,54],"container":1}"#,
        r#"{"protocol":"udp","host":[53,54],"container":1,"host_ip":"ff02::1"}"#,
        r#"{"protocol":"udp","host":[53,54],"container":1,"hostip":"::1"}"#,
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn two_that_meet_and_two_that_do_not() {
    for (one, other, ipv4, ipv6) in [
        ("80:80", "80:8080", true, true),
        ("80:80", "80:80/udp", false, false),
        ("80:80", "81:80", false, false),
        ("80-90:80-90", "90-99:1-10", true, true),
        ("80:80", "192.0.2.1:80:80", true, false),
        ("0.0.0.0:80:80", "[::]:80:80", false, false),
        ("192.0.2.1:80:80", "192.0.2.2:80:80", false, false),
        ("192.0.2.1:80:80", "192.0.2.1:80:81", true, false),
        ("127.0.0.1:80:80", "0.0.0.0:80:80", true, false),
    ] {
        let (one, other) = (mapping(one), mapping(other));
        assert_eq!((one.meets(&other, true), one.meets(&other, false)), (ipv4, ipv6), "{one} and {other}");
    }
}

fn any_mapping() -> impl Strategy<Value = PortMapping> {
    let address = prop_oneof![
        Just(None),
        any::<Ipv4Addr>().prop_map(|a| Some(IpAddr::V4(a))),
        any::<Ipv6Addr>().prop_map(|a| Some(IpAddr::V6(a))),
    ];
    (prop::sample::select(&Protocol::ALL[..]), address, any::<(u16, u16)>(), any::<u16>())
        .prop_filter_map("not a mapping", |(p, a, host, container)| {
            PortMapping::new(p, a, host, container).ok()
        })
}

proptest! {
    #[test]
    fn text_and_record_round_trip(mapping in any_mapping()) {
        prop_assert_eq!(mapping.to_string().parse(), Ok(mapping));
        let record = serde_json::to_string(&mapping).unwrap();
        prop_assert_eq!(serde_json::from_str::<PortMapping>(&record).unwrap(), mapping);
        let pairs: Vec<_> = mapping.pairs().collect();
        prop_assert_eq!(pairs.len(), usize::from(mapping.last - mapping.first) + 1);
        prop_assert_eq!(pairs[0], (mapping.first, mapping.container));
    }

    #[test]
    fn rubbish_never_panics(text in "[0-9:/\\[\\]\\-.a-z]{0,40}") {
        let _ = text.parse::<PortMapping>();
    }

    #[test]
    fn meeting_is_mutual(one in any_mapping(), other in any_mapping(), ipv4: bool) {
        prop_assert_eq!(one.meets(&other, ipv4), other.meets(&one, ipv4));
    }
}
