//! `CHECK`: the agent gets the addresses that the runtime believes in.

use serde_json::{Value, json};
use weft_model::api::{ErrorKind, Reply, Request};

use crate::scene::{NETNS, Scene};

fn with_previous(scene: &Scene, more: &Value) -> Value {
    let mut conf = scene.conf(json!({"prevResult": {
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "weft1a2b3c4d"},
            {"name": "eth0", "sandbox": "/run/netns/other"},
            {"name": "eth0", "sandbox": NETNS}
        ],
        "ips": [
            {"address": "192.0.2.1/24", "interface": 1},
            {"address": "10.88.0.7/16", "interface": 2},
            {"address": "fd00:88::7/64", "interface": 2},
            {"address": "198.51.100.1/24"}
        ]
    }}));
    for (key, value) in more.as_object().unwrap() {
        conf[key] = value.clone();
    }
    conf
}

#[test]
fn only_this_interfaces_addresses_are_expected() {
    let scene = Scene::new();
    let agent = scene.agent();
    agent.replies(Reply::Checked(Vec::new()));
    scene.call("CHECK", &with_previous(&scene, &json!({"from-a-newer-weft": 1}))).silent();
    let Request::Check(check) = agent.asked() else { panic!() };
    let expect: Vec<_> = check.expect.iter().map(ToString::to_string).collect();
    assert_eq!(expect, ["10.88.0.7/16", "fd00:88::7/64"]);
    assert_eq!((check.id.to_string().as_str(), check.netns.unwrap().to_str()), ("app/abc/eth0", Some(NETNS)));
}

#[test]
fn everything_wrong_is_told() {
    let scene = Scene::new();
    let agent = scene.agent();
    agent.replies(Reply::Checked(vec!["eth0 is down".into(), "route ::/0 is missing".into()]));
    let outcome = scene.call("CHECK", &with_previous(&scene, &json!({})));
    assert_eq!(outcome.error(), (102, "app/abc/eth0 is not as it should be".to_owned()));
    assert_eq!(outcome.details(), "eth0 is down; route ::/0 is missing");
}

#[test]
fn a_container_that_nobody_knows_is_code_3() {
    let scene = Scene::new();
    let agent = scene.agent();
    agent.refuses(ErrorKind::NotFound, "there is no app/abc/eth0");
    assert_eq!(scene.call("CHECK", &with_previous(&scene, &json!({}))).code(), 3);
}

#[test]
fn without_an_agent_it_is_tried_again_later() {
    let scene = Scene::new();
    assert_eq!(scene.call("CHECK", &with_previous(&scene, &json!({}))).code(), 11);
}

#[test]
fn there_must_be_something_to_compare_with() {
    let scene = Scene::new();
    let agent = scene.agent();
    assert_eq!(scene.call("CHECK", &scene.conf(json!({}))).code(), 7);
    let outcome = scene.call("CHECK", &with_previous(&scene, &json!({"prevResult": {"ips": []}})));
    assert_eq!(outcome.code(), 102);
    assert_eq!(outcome.details(), "the result of ADD lists no interface eth0 inside the container");
    assert!(agent.was_left_alone());
}

#[test]
fn it_can_be_switched_off() {
    let scene = Scene::new();
    scene.call("CHECK", &scene.conf(json!({"disableCheck": true}))).silent();
    scene.call("CHECK", &scene.conf(json!({"disableCheck": "true"}))).silent();
}

#[test]
fn it_came_with_0_4_0() {
    let scene = Scene::new();
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1"] {
        let conf = with_previous(&scene, &json!({"cniVersion": version}));
        let (code, msg) = scene.call("CHECK", &conf).error();
        let why = format!("CHECK needs cniVersion 0.4.0 or newer, the configuration has {version}");
        assert_eq!((code, msg), (1, why));
    }
}
