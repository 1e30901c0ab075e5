//! Ports at the loopback: programs in a cgroup of the test's own, and real sockets.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

#[test]
fn a_place_that_is_none_is_named() {
    let nowhere = Place { cgroup: "/".into(), pins: "/sys/fs/bpf/x".into() };
    assert!(matches!(nowhere.check(), Err(Error::Cgroup(path)) if path == Path::new("/")));
    if let Some(machine) = Place::of_this_machine() {
        let place = Place { pins: "/tmp/weft-nowhere/x".into(), ..machine };
        assert!(matches!(place.check(), Err(Error::Pins(path)) if path == place.pins));
        assert_eq!(place.read().unwrap(), None);
        place.remove().unwrap();
    }
}

#[test]
fn the_kernel_takes_the_programs() {
    let ports = Map::create("weft_ports", bpf::MapKind::Hash, 8).unwrap();
    let flows = Map::create("weft_flows", bpf::MapKind::Recent, 8).unwrap();
    for (name, at) in programs::ALL {
        if let Err(error) = programs::load(name, at, &ports, &flows) {
            panic!("{error}: {:?}", std::error::Error::source(&error));
        }
    }
}

#[test]
fn a_map_gives_back_what_was_put_into_it() {
    let map = Map::<KEY, VALUE>::create("weft_test", bpf::MapKind::Hash, 8).unwrap();
    let cookie = netns_cookie().unwrap();
    let to = SocketAddr::from(([10, 0, 0, 2], 80));
    let mut wanted = BTreeMap::new();
    for at in [SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)), SocketAddr::from((Ipv6Addr::LOCALHOST, 8080))] {
        let port = LocalPort { protocol: 6, at };
        map.put(&key(&port, cookie), &value(to)).unwrap();
        wanted.insert(port, to);
    }
    map.put(&key(wanted.first_key_value().unwrap().0, cookie + 1), &value(to)).unwrap();
    let keys = map.keys().unwrap();
    assert_eq!(keys.len(), 3);
    let found: BTreeMap<_, _> =
        keys.iter().filter_map(|k| Some((read_key(k, cookie)?, read_value(&map.get(k).unwrap()?)))).collect();
    assert_eq!(found, wanted);
    for key in &keys {
        map.remove(key).unwrap();
        map.remove(key).unwrap();
        assert_eq!(map.get(key).unwrap(), None);
    }
    assert!(map.keys().unwrap().is_empty());
}
