//! The parts of a configuration; hostile ones are tested with whole calls.

use serde_json::json;

use super::*;

fn parse(value: &Value) -> Result<Conf, ConfError> {
    Conf::parse(value.to_string().as_bytes(), Command::Add)
}

#[test]
fn the_smallest_configuration_means_the_defaults() {
    let conf = parse(&json!({"cniVersion": "1.0.0", "name": "n", "type": "weft"})).unwrap();
    assert_eq!(conf.version, SpecVersion::V1_0_0);
    let defaults = Essentials {
        owner: Owner::cni("n"),
        network: "default".parse().unwrap(),
        socket: api::SOCKET.into(),
        journal: api::JOURNAL.into(),
        ipam: None,
    };
    assert_eq!(conf.essentials, defaults);
    assert_eq!((conf.runtime, conf.dns, conf.previous), Default::default());
}

#[test]
fn every_key_that_is_known_is_allowed() {
    let conf = json!({
        "cniVersion": "1.1.0", "cniVersions": ["1.0.0", "1.1.0"], "name": "Net_1.a-b", "type": "weft.2", "network": "app",
        "socket": "/run/x.sock", "journal": "/run/x", "ipam": {"type": "host-local", "subnet": "10.0.0.0/8"},
        "dns": {}, "capabilities": {"mac": true}, "runtimeConfig": {}, "args": {}, "prevResult": {},
        "disableCheck": true, "disableGC": true, "loadOnlyInlinedPlugins": true, "cni.dev/anything": []
    });
    let conf = parse(&conf).unwrap();
    assert_eq!(conf.essentials.ipam.as_deref(), Some("host-local"));
    assert!(conf.disable_check);
    assert_eq!(conf.previous, Some(CniResult::default()));
}

#[test]
fn errors_have_the_specifications_codes() {
    let base = |key: &str, value: Value| {
        let mut conf = json!({"cniVersion": "1.0.0", "name": "n", "type": "weft"});
        conf[key] = value;
        parse(&conf).unwrap_err().code()
    };
    assert_eq!(base("cniVersion", json!("1.0")), 1);
    assert_eq!(base("runtimeConfig", json!({"aliases": ["a"]})), 2);
    assert_eq!(base("prevResult", json!(5)), 6);
    assert_eq!(base("name", json!("")), 7);
    assert_eq!(base("ipMasq", json!(true)), 7);
    assert_eq!(Conf::parse(b"", Command::Add).unwrap_err().code(), 6);
}

#[test]
fn del_finds_what_it_needs_among_rubbish() {
    let text = json!({"network": "app", "socket": [], "journal": "/j", "ipam": {"type": "../x"}}).to_string();
    let found = Essentials::parse(text.as_bytes()).unwrap();
    assert_eq!((found.network.as_str(), found.socket), ("app", PathBuf::from(api::SOCKET)));
    assert_eq!((found.journal, found.ipam), (PathBuf::from("/j"), None));
}
