//! Delegated IPAM, with shell scripts as plugins: off unless listed, trusted, and told what the protocol says.

use std::fs;

use serde_json::{Value, json};
use weft_model::api::{ErrorKind, Reply, Request};

use crate::agent::{attached, done};
use crate::scene::{Scene, mode};

/// Prints an address, and writes down what it was asked.
const GOOD: &str = r#"
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME" >> "$0.log"
cat > "$0.stdin"
[ "$CNI_COMMAND" != ADD ] || echo '{"cniVersion": "1.1.0", "ips": [{"address": "192.0.2.7/24", "gateway": "192.0.2.1"}], "dns": {"nameservers": ["192.0.2.53"]}}'
"#;

fn scene(body: &str) -> Scene {
    let mut scene = Scene::new();
    scene.script("other-ipam", body);
    fs::write(&scene.host.ipam_allowed, "# ours\nother-ipam # of the other team\n").unwrap();
    mode(&scene.host.ipam_allowed, 0o644);
    let dirs = format!("relative:/nowhere:{}", scene.dir.display());
    scene.set("CNI_PATH", dirs);
    scene.set("PATH", "/usr/bin:/bin");
    scene
}

fn conf(scene: &Scene) -> Value {
    scene.conf(json!({"ipam": {"type": "other-ipam"}, "runtimeConfig": {"ips": ["192.0.2.7"]}}))
}

fn log(scene: &Scene) -> String {
    fs::read_to_string(scene.dir.join("other-ipam.log")).unwrap_or_default()
}

#[test]
fn its_addresses_go_to_the_agent_as_they_are() {
    let scene = scene(GOOD);
    let agent = scene.agent();
    agent.replies(attached(false));
    let outcome = scene.call("ADD", &conf(&scene));
    assert_eq!(outcome.json()["dns"]["nameservers"], json!(["192.0.2.53"]), "{outcome:?}");
    let Request::Attach(attach) = agent.asked() else { panic!() };
    let assigned: Vec<_> = attach.assigned.iter().map(ToString::to_string).collect();
    assert_eq!(assigned, ["192.0.2.7/24"]);
    assert!(attach.ips.is_empty() && attach.ranges.is_empty());
    assert_eq!(log(&scene), "ADD abc eth0\n");
    let stdin: Value =
        serde_json::from_slice(&fs::read(scene.dir.join("other-ipam.stdin")).unwrap()).unwrap();
    assert_eq!(stdin, conf(&scene));
}

#[test]
fn its_addresses_are_given_back_when_the_agent_fails() {
    let scene = scene(GOOD);
    let agent = scene.agent();
    agent.refuses(ErrorKind::Kernel, "no");
    assert_eq!(scene.call("ADD", &conf(&scene)).code(), 100);
    assert_eq!(log(&scene), "ADD abc eth0\nDEL abc eth0\n");
    drop(fs::remove_file(scene.socket()));
    assert_eq!(scene.call("ADD", &conf(&scene)).code(), 11);
    assert_eq!(log(&scene), "ADD abc eth0\nDEL abc eth0\n".repeat(2));
}

#[test]
fn it_hears_every_command() {
    let scene = scene(GOOD);
    let agent = scene.agent();
    let mut with_previous = conf(&scene);
    with_previous["prevResult"] = json!({"interfaces": [{"name": "eth0", "sandbox": "/x"}], "ips": []});
    for (command, reply, conf) in [
        ("CHECK", Reply::Checked(Vec::new()), &with_previous),
        ("STATUS", done(), &conf(&scene)),
        ("GC", Reply::Collected(Vec::new()), &conf(&scene)),
        ("DEL", done(), &conf(&scene)),
    ] {
        agent.replies(reply);
        scene.call(command, conf).silent();
    }
    assert_eq!(log(&scene), "CHECK abc eth0\nSTATUS abc eth0\nGC abc eth0\nDEL abc eth0\n");
}

#[test]
fn it_is_told_to_give_back_even_without_an_agent() {
    let scene = scene(GOOD);
    scene.call("DEL", &conf(&scene)).silent();
    assert_eq!(log(&scene), "DEL abc eth0\n");
    assert_eq!(scene.call("GC", &conf(&scene)).code(), 11);
    assert_eq!(log(&scene), "DEL abc eth0\nGC abc eth0\n");
}

#[test]
fn its_own_error_is_passed_on() {
    let scene = scene(r#"echo '{"code": 11, "msg": "pool is empty", "details": "try later"}'; exit 1"#);
    let agent = scene.agent();
    let outcome = scene.call("ADD", &conf(&scene));
    assert_eq!(outcome.error(), (11, "the IPAM plugin 'other-ipam' failed: pool is empty".to_owned()));
    assert_eq!(outcome.details(), "try later");
    assert!(agent.was_left_alone());
    agent.replies(done());
    let del = scene.call("DEL", &conf(&scene));
    del.silent();
    assert!(del.stderr.contains("pool is empty"), "{del:?}");
}

#[test]
fn what_it_prints_must_be_a_result() {
    for (body, code) in [
        ("echo nonsense", 104),
        ("true", 104),
        (r#"echo '{"ips": []}'"#, 104),
        (r#"echo '{"ips": [{"address": "x"}]}'"#, 104),
        ("echo oops; exit 3", 104),
        ("exec sleep 60", 11),
    ] {
        let scene = scene(body);
        assert_eq!(scene.call("ADD", &conf(&scene)).code(), code, "{body}");
    }
}

#[test]
fn much_input_and_much_output_do_not_lock() {
    let scene = scene(
        r#"head -c 900000 /dev/zero | tr '\0' ' '; cat > /dev/null; echo '{"ips": [{"address": "192.0.2.7/24"}]}'"#,
    );
    let agent = scene.agent();
    agent.replies(attached(false));
    let mut conf = conf(&scene);
    conf["args"] = json!({"padding": "x".repeat(900_000)});
    let outcome = scene.call("ADD", &conf);
    assert!(outcome.success, "{outcome:?}");
}

#[test]
fn a_plugin_that_is_not_listed_is_not_executed() {
    let scene = scene(GOOD);
    for list in [Some(""), Some("# other-ipam\nother\nother-ipam2"), None] {
        match list {
            Some(text) => fs::write(&scene.host.ipam_allowed, text).unwrap(),
            None => fs::remove_file(&scene.host.ipam_allowed).unwrap(),
        }
        for command in ["ADD", "STATUS"] {
            let outcome = scene.call(command, &conf(&scene));
            assert_eq!(outcome.error(), (7, "the IPAM plugin 'other-ipam' may not be executed".to_owned()));
            assert!(outcome.details().contains("add a line 'other-ipam' to /"), "{outcome:?}");
        }
    }
    let del = scene.call("DEL", &conf(&scene));
    del.silent();
    assert!(del.stderr.contains("may not be executed"));
    assert_eq!(log(&scene), "");
}

#[test]
fn what_others_could_have_written_is_not_executed() {
    let scene = scene(GOOD);
    let program = scene.dir.join("other-ipam");
    let refused = |why: &str| {
        let outcome = scene.call("ADD", &conf(&scene));
        assert_eq!(outcome.code(), 7);
        assert!(outcome.error().1.ends_with(why), "{outcome:?}");
    };
    mode(&program, 0o757);
    refused("other-ipam can be written by others");
    mode(&program, 0o644);
    refused("other-ipam is not an executable file");
    mode(&program, 0o755);
    mode(&scene.dir, 0o777);
    refused("can be written by others");
    mode(&scene.dir, 0o700);
    mode(&scene.host.ipam_allowed, 0o666);
    refused("ipam-allowed can be written by others");
    mode(&scene.host.ipam_allowed, 0o644);
    fs::remove_file(&program).unwrap();
    fs::create_dir(&program).unwrap();
    refused("other-ipam is not an executable file");
    fs::remove_dir(&program).unwrap();
    refused("is in none of the directories of CNI_PATH");
    assert_eq!(log(&scene), "");
}

#[test]
fn what_belongs_to_somebody_else_is_not_executed() {
    let mut scene = scene(GOOD);
    scene.host.trusted_uid += 1;
    let outcome = scene.call("ADD", &conf(&scene));
    assert!(outcome.error().1.ends_with("ipam-allowed does not belong to root"), "{outcome:?}");
    assert_eq!(log(&scene), "");
}
