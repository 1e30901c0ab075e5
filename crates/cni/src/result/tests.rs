//! Results survive being printed and read again, as far as the version has words for them.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::version::SpecVersion;

fn address() -> impl Strategy<Value = IpNet> {
    (any::<IpAddr>(), 0..=128u8).prop_map(|(ip, len)| {
        let most = if ip.is_ipv4() { 32 } else { 128 };
        IpNet::new(ip, len.min(most)).unwrap()
    })
}

fn interface() -> impl Strategy<Value = Interface> {
    let text = || of("[ -~é]{1,12}");
    (".{0,12}", text(), of(1..9000u32), text(), text(), text()).prop_map(
        |(name, mac, mtu, sandbox, socket_path, pci_id)| Interface {
            name,
            mac,
            mtu,
            sandbox,
            socket_path,
            pci_id,
        },
    )
}

fn route() -> impl Strategy<Value = Route> {
    let n = || of(any::<u32>());
    (address(), of(any::<IpAddr>()), n(), n(), n(), n(), n()).prop_map(
        |(dst, gw, mtu, advmss, priority, table, scope)| Route {
            dst,
            gw,
            attributes: RouteAttributes { mtu, advmss, priority, table, scope },
        },
    )
}

fn result() -> impl Strategy<Value = CniResult> {
    let ip = (address(), of(any::<IpAddr>()), of(any::<prop::sample::Index>()));
    let texts = || vec("[a-z.:]{0,9}", 0..3);
    let dns = (texts(), of("[a-z.]{1,9}"), texts(), texts());
    (vec(interface(), 0..4), vec(ip, 0..4), vec(route(), 0..4), dns).prop_map(
        |(interfaces, ips, routes, dns)| {
            let count = interfaces.len();
            let ip = |(address, gateway, index): (_, _, Option<prop::sample::Index>)| Ip {
                address,
                gateway,
                interface: index.filter(|_| count > 0).map(|i| i.index(count)),
            };
            let (nameservers, domain, search, options) = dns;
            let dns = Dns { nameservers, domain, search, options };
            CniResult { ips: ips.into_iter().map(ip).collect(), interfaces, routes, dns }
        },
    )
}

/// What is left of a result in the words of a version.
fn limited(mut result: CniResult, version: SpecVersion) -> CniResult {
    if version < SpecVersion::V1_1_0 {
        for interface in &mut result.interfaces {
            *interface = Interface { mtu: None, socket_path: None, pci_id: None, ..interface.clone() };
        }
        for route in &mut result.routes {
            route.attributes = RouteAttributes::default();
        }
    }
    if version < SpecVersion::V0_3_0 {
        let v4 = |net: &IpNet| net.addr().is_ipv4();
        let (four, six): (Vec<_>, Vec<_>) = result.ips.iter().cloned().partition(|ip| v4(&ip.address));
        let (routes4, routes6): (Vec<_>, Vec<_>) = result.routes.iter().cloned().partition(|r| v4(&r.dst));
        result.routes = if four.is_empty() { Vec::new() } else { routes4 };
        result.routes.extend(if six.is_empty() { Vec::new() } else { routes6 });
        result.ips = four.into_iter().take(1).chain(six.into_iter().take(1)).collect();
        result.ips.iter_mut().for_each(|ip| ip.interface = None);
        result.interfaces.clear();
    }
    result
}

proptest! {
    #[test]
    fn what_is_printed_is_read_again(result in result(), version in 0..7usize) {
        let version = SpecVersion::ALL[version];
        let text = result.render(version);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&value["cniVersion"], version.as_str());
        prop_assert_eq!(CniResult::parse(&value).unwrap(), limited(result, version), "{}", text);
    }

    #[test]
    fn appending_keeps_every_index_on_its_interface(mut a in result(), b in result()) {
        let name = |r: &CniResult, ip: &Ip| ip.interface.map(|i| r.interfaces[i].name.clone());
        let names = |r: &CniResult| r.ips.iter().map(|ip| name(r, ip)).collect::<Vec<_>>();
        let wanted = [names(&a), names(&b)].concat();
        a.append(b);
        prop_assert_eq!(names(&a), wanted);
    }
}

#[test]
fn the_oldest_form_of_dns_is_a_list() {
    let result = CniResult::parse(&json!({"ip4": {"ip": "10.0.0.7/8"}, "dns": ["10.0.0.1"]})).unwrap();
    assert_eq!(result.dns.nameservers, ["10.0.0.1"]);
    assert_eq!(result.ips[0].address.to_string(), "10.0.0.7/8");
}

#[test]
fn what_is_empty_counts_as_absent() {
    let value = json!({
        "interfaces": [{"name": "a", "mac": "", "sandbox": "", "mtu": 0}], "routes": null, "dns": {"domain": ""},
        "ips": [{"address": "10.0.0.7/8", "gateway": "", "interface": null}], "unheard-of": 1
    });
    let result = CniResult::parse(&value).unwrap();
    assert_eq!(result.interfaces, [Interface { name: "a".into(), ..Interface::default() }]);
    assert_eq!((result.ips[0].gateway, result.ips[0].interface), (None, None));
    assert!(result.dns.is_empty());
}
