//! `GC`: what may stay, and what must not be guessed.

use serde_json::{Value, json};
use weft_model::api::{Collect, ErrorKind, Reply, Request};

use crate::agent::{Agent, done};
use crate::scene::Scene;

fn kept(agent: &Agent) -> Option<Vec<(String, String)>> {
    let Request::Collect(Collect { network, owner, keep }) = agent.asked() else { panic!() };
    assert_eq!((network.as_str(), owner.0.as_str()), ("app", "cni:shop"));
    keep.map(|keep| keep.into_iter().map(|(c, i)| (c.into(), i.into())).collect())
}

fn pair(container: &str, ifname: &str) -> Value {
    json!({"containerID": container, "ifname": ifname})
}

#[test]
fn both_names_of_the_list_are_understood() {
    let mut scene = Scene::new();
    scene.env.clear();
    let agent = scene.agent();
    let (a, b) = (("a".to_owned(), "eth0".to_owned()), ("b".to_owned(), "eth0".to_owned()));
    for (more, keep) in [
        (json!({"cni.dev/valid-attachments": [pair("a", "eth0")]}), vec![a.clone()]),
        (json!({"cni.dev/attachments": [pair("b", "eth0")]}), vec![b.clone()]),
        (
            json!({"cni.dev/attachments": [pair("b", "eth0")], "cni.dev/valid-attachments": [pair("a", "eth0"), pair("b", "eth0")]}),
            vec![a, b],
        ),
        (json!({"cni.dev/valid-attachments": []}), vec![]),
        (json!({"cni.dev/valid-attachments": [pair("../x", "eth0"), pair("c", "no such name")]}), vec![]),
    ] {
        agent.replies(Reply::Collected(Vec::new()));
        scene.call("GC", &scene.conf(more)).silent();
        assert_eq!(kept(&agent), Some(keep));
    }
}

#[test]
fn no_list_is_not_an_empty_list() {
    let scene = Scene::new();
    let agent = scene.agent();
    for more in [json!({}), json!({"cni.dev/valid-attachments": null})] {
        agent.replies(Reply::Collected(Vec::new()));
        scene.call("GC", &scene.conf(more)).silent();
        assert_eq!(kept(&agent), None);
    }
}

#[test]
fn a_list_of_another_shape_removes_nothing() {
    let scene = Scene::new();
    let agent = scene.agent();
    for list in [
        json!({}),
        json!("a"),
        json!(["a"]),
        json!([{"containerID": "a"}]),
        json!([{"containerID": 1, "ifname": "eth0"}]),
    ] {
        assert_eq!(scene.call("GC", &scene.conf(json!({"cni.dev/valid-attachments": list}))).code(), 7);
    }
    scene.call("GC", &scene.conf(json!({"disableGC": true}))).silent();
    assert_eq!(scene.call("GC", &scene.conf(json!({"cniVersion": "1.0.0"}))).code(), 1);
    assert!(agent.was_left_alone());
}

#[test]
fn unknown_keys_do_not_matter() {
    let scene = Scene::new();
    let agent = scene.agent();
    agent.replies(Reply::Collected(Vec::new()));
    scene.call("GC", &scene.conf(json!({"unknown": 1, "dns": 7, "name": "-remove-"}))).silent();
}

#[test]
fn it_may_fail() {
    let scene = Scene::new();
    assert_eq!(scene.call("GC", &scene.conf(json!({}))).code(), 11);
    let agent = scene.agent();
    agent.refuses(ErrorKind::Storage, "disk full");
    assert_eq!(scene.call("GC", &scene.conf(json!({}))).code(), 5);
    agent.replies(done());
    assert_eq!(scene.call("GC", &scene.conf(json!({}))).code(), 103);
}
