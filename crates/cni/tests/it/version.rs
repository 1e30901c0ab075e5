//! `VERSION`, and what a person sees.

use serde_json::json;

use crate::golden;
use crate::scene::Scene;

#[test]
fn all_versions_are_listed() {
    let mut scene = Scene::new();
    scene.env.clear();
    let outcome = scene.call_raw("VERSION", br#"{"cniVersion": "1.0.0"}"#);
    assert!(outcome.success);
    golden::same("version.json", &outcome.stdout);
}

#[test]
fn whoever_asks_in_unknown_words_gets_the_newest() {
    let scene = Scene::new();
    for stdin in ["", "garbage", r#"{"cniVersion": "7.0.0"}"#, r#"{"cniVersion": 5}"#, "[]"] {
        let outcome = scene.call_raw("VERSION", stdin.as_bytes());
        assert!(outcome.success, "{stdin}");
        assert_eq!(outcome.json()["cniVersion"], "1.1.0", "{stdin}");
    }
}

#[test]
fn a_person_is_told_what_this_is() {
    let scene = Scene::new();
    let person = scene.call_from("", b"", true);
    assert_eq!(person.error(), (4, "CNI_COMMAND is not set".to_owned()));
    assert!(person.stderr.contains("/etc/cni/net.d/10-weft.conflist"), "{person:?}");
    golden::same("no-command.json", &person.stdout);
    let program = scene.call_from("", b"", false);
    assert_eq!((program.code(), program.stderr.as_str()), (4, ""));
    // Nothing is read from a terminal for VERSION.
    assert!(scene.call_from("VERSION", b"", true).success);
}

#[test]
fn errors_are_in_the_words_of_the_version_asked_for() {
    let scene = Scene::new();
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let conf = scene.conf(json!({"cniVersion": version, "mtu": 1400}));
        let outcome = scene.call("ADD", &conf);
        assert_eq!((outcome.code(), outcome.json()["cniVersion"].as_str()), (7, Some(version)));
        assert_eq!(
            outcome.details(),
            "'mtu' is a matter of the weft network: see `weft network create --help`"
        );
    }
    let unknown = scene.call("ADD", &scene.conf(json!({"cniVersion": "1.2.0"})));
    golden::same("unknown-version.json", &unknown.stdout);
}
