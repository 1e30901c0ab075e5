//! `DEL`: never fails once it is known what is meant, and leaves word of what it could not do.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use serde_json::json;
use weft_model::api::{Detach, ErrorKind, Request};

use crate::agent::{Answer, attached, done};
use crate::scene::{NETNS, Scene, mode};

#[test]
fn the_agent_is_told() {
    let scene = Scene::new();
    let agent = scene.agent();
    for _ in 0..3 {
        agent.replies(done());
        scene.call("DEL", &scene.conf(json!({}))).silent();
        let Request::Detach(detach) = agent.asked() else { panic!() };
        assert_eq!(detach.id.to_string(), "app/abc/eth0");
        assert_eq!(detach.netns.unwrap().to_str(), Some(NETNS));
    }
    agent.refuses(ErrorKind::NotFound, "never heard of it");
    scene.call("DEL", &scene.conf(json!({}))).silent();
    assert!(!scene.journal().exists());
}

#[test]
fn without_an_agent_word_is_left() {
    let mut scene = Scene::new();
    let first = scene.call("DEL", &scene.conf(json!({})));
    first.silent();
    assert!(first.stderr.contains("left word for the agent"), "{first:?}");
    scene.call("DEL", &scene.conf(json!({}))).silent();
    scene.unset("CNI_NETNS");
    scene.set("CNI_IFNAME", "a@b");
    scene.call("DEL", &scene.conf(json!({}))).silent();
    let names: Vec<_> = scene.entries().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["app@abc@a@b.json", "app@abc@eth0.json"]);
    let detach: Detach = serde_json::from_value(scene.entries()[0].1.clone()).unwrap();
    assert_eq!((detach.id.ifname.as_str(), detach.netns), ("a@b", None));
    assert_eq!(fs::metadata(scene.journal()).unwrap().mode() & 0o777, 0o700);
    let entry = fs::metadata(scene.journal().join("app@abc@eth0.json")).unwrap();
    assert_eq!(entry.mode() & 0o777, 0o600);
}

#[test]
fn whatever_the_agent_does_instead_word_is_left() {
    let answers = [Answer::HangUp, Answer::Silence, Answer::Text("?\n"), Answer::Reply(attached(false))];
    for answer in answers {
        let scene = Scene::new();
        let agent = scene.agent();
        agent.will(answer);
        scene.call("DEL", &scene.conf(json!({}))).silent();
        assert_eq!(scene.entries().len(), 1);
    }
    let scene = Scene::new();
    let agent = scene.agent();
    agent.refuses(ErrorKind::Kernel, "netlink says no");
    let outcome = scene.call("DEL", &scene.conf(json!({})));
    outcome.silent();
    assert!(outcome.stderr.contains("netlink says no"), "{outcome:?}");
    assert_eq!(scene.entries().len(), 1);
}

#[test]
fn a_journal_that_cannot_be_written_is_no_reason_to_fail() {
    let scene = Scene::new();
    for journal in ["/proc/nothing/journal", "/dev/null/journal", "/dev/null"] {
        let outcome = scene.call("DEL", &scene.conf(json!({"journal": journal})));
        outcome.silent();
        assert!(outcome.stderr.contains("the next GC will remove"), "{journal}: {outcome:?}");
    }
}

#[test]
fn links_are_not_followed_and_open_doors_not_entered() {
    let scene = Scene::new();
    let elsewhere = scene.dir.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, scene.journal()).unwrap();
    let outcome = scene.call("DEL", &scene.conf(json!({})));
    outcome.silent();
    assert!(outcome.stderr.contains("cannot open the journal"), "{outcome:?}");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);

    fs::remove_file(scene.journal()).unwrap();
    fs::create_dir(scene.journal()).unwrap();
    mode(&scene.journal(), 0o777);
    let outcome = scene.call("DEL", &scene.conf(json!({})));
    assert!(outcome.success && outcome.stderr.contains("others can write in it"), "{outcome:?}");
    assert!(scene.entries().is_empty());

    // A link in the place of an entry is replaced; what it leads to stays.
    mode(&scene.journal(), 0o700);
    let victim = scene.dir.join("victim");
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, scene.journal().join("app@abc@eth0.json")).unwrap();
    scene.call("DEL", &scene.conf(json!({}))).silent();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(scene.entries().len(), 1);
}

#[test]
fn what_is_wrong_elsewhere_does_not_matter() {
    let mut scene = Scene::new();
    scene.set("CNI_NETNS", "../x");
    scene.set("CNI_ARGS", "nonsense");
    let conf = scene.conf(json!({
        "cniVersion": "99.0", "name": "../../x", "type": 5, "unknown": true, "ipam": "?", "dns": 1,
        "runtimeConfig": [], "prevResult": "?", "capabilities": 0, "args": 7
    }));
    let outcome = scene.call("DEL", &conf);
    outcome.silent();
    assert!(outcome.stderr.contains("CNI_NETNS '../x' is not an absolute path; going on without it"));
    assert_eq!(scene.entries().len(), 1);
}

#[test]
fn what_is_not_to_be_made_out_is_an_error() {
    let mut scene = Scene::new();
    assert_eq!(scene.call_raw("DEL", b"garbage").code(), 6);
    assert_eq!(scene.call("DEL", &scene.conf(json!({"network": "../x"}))).code(), 7);
    scene.set("CNI_CONTAINERID", "../x");
    assert_eq!(scene.call("DEL", &scene.conf(json!({}))).code(), 4);
    scene.unset("CNI_CONTAINERID");
    assert_eq!(
        scene.call("DEL", &scene.conf(json!({}))).error(),
        (4, "DEL needs CNI_CONTAINERID".to_owned())
    );
    assert!(!scene.journal().exists());
}
