//! `STATUS`: would `ADD` work now?

use serde_json::json;
use weft_model::api::{ErrorKind, Request};

use crate::agent::{Answer, attached, done};
use crate::scene::Scene;

#[test]
fn an_agent_that_is_ready_says_so() {
    let scene = Scene::new();
    let agent = scene.agent();
    agent.replies(done());
    scene.call("STATUS", &scene.conf(json!({}))).silent();
    assert_eq!(agent.asked(), Request::Ready { network: "app".parse().unwrap() });
}

#[test]
fn it_needs_no_container() {
    let mut scene = Scene::new();
    let agent = scene.agent();
    agent.replies(done());
    scene.env.clear();
    scene.call("STATUS", &scene.conf(json!({}))).silent();
}

#[test]
fn what_keeps_add_from_working_is_50_and_what_endangers_containers_is_51() {
    let scene = Scene::new();
    let agent = scene.agent();
    for (kind, code) in [
        (ErrorKind::Exhausted, 50),
        (ErrorKind::TryAgain, 50),
        (ErrorKind::NotFound, 50),
        (ErrorKind::Invalid, 50),
        (ErrorKind::Exists, 50),
        (ErrorKind::Kernel, 51),
        (ErrorKind::Storage, 51),
    ] {
        agent.refuses(kind, "no");
        let outcome = scene.call("STATUS", &scene.conf(json!({})));
        assert_eq!(outcome.error(), (code, "no".to_owned()));
        assert_eq!(outcome.details(), "do something");
    }
}

#[test]
fn without_an_agent_add_cannot_work() {
    let scene = Scene::new();
    let outcome = scene.call("STATUS", &scene.conf(json!({})));
    assert_eq!(outcome.code(), 50);
    assert!(outcome.details().contains("systemctl start weft"));
    let agent = scene.agent();
    for answer in [Answer::HangUp, Answer::Silence] {
        agent.will(answer);
        assert_eq!(scene.call("STATUS", &scene.conf(json!({}))).code(), 50);
    }
    agent.replies(attached(false));
    assert_eq!(scene.call("STATUS", &scene.conf(json!({}))).code(), 103);
}

#[test]
fn a_mistake_in_the_file_is_found_before_the_first_container() {
    let scene = Scene::new();
    let outcome = scene.call("STATUS", &scene.conf(json!({"netwrok": "app"})));
    assert_eq!(outcome.error(), (7, "the network configuration has an unknown key 'netwrok'".to_owned()));
    assert_eq!(outcome.details(), "did you mean 'network'?");
}

#[test]
fn it_came_with_1_1_0() {
    let scene = Scene::new();
    assert_eq!(scene.call("STATUS", &scene.conf(json!({"cniVersion": "1.0.0"}))).code(), 1);
}
