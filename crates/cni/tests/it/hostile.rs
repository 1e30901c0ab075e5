//! What somebody might send who means harm, or whose program is broken.

use std::io::{self, Read};
use std::process::ExitCode;

use serde_json::{Value, json};
use weft_cni::{Env, Streams, run};

use crate::scene::Scene;

const COMMANDS: [&str; 5] = ["ADD", "DEL", "CHECK", "STATUS", "GC"];

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let scene = Scene::new();
    let agent = scene.agent();
    let long = "a".repeat(300);
    for name in ["../x", "/etc", "a/b", "..", "-a", "a\0b", "a b", "a\nb", "é", "", long.as_str()] {
        for key in ["name", "type", "network"] {
            for command in ["ADD", "CHECK", "STATUS"] {
                let outcome = scene.call(command, &scene.conf(json!({key: name})));
                assert_eq!(outcome.code(), 7, "{command} {key} {name:?}");
                assert!(outcome.stdout.len() < 1000, "{outcome:?}");
            }
        }
        for command in ["DEL", "GC"] {
            assert_eq!(
                scene.call(command, &scene.conf(json!({"network": name}))).code(),
                7,
                "{command} {name:?}"
            );
        }
        let ipam = scene.call("ADD", &scene.conf(json!({"ipam": {"type": name}})));
        assert_eq!(ipam.code(), 7, "{name:?}");
    }
    assert!(agent.was_left_alone());
    let strays: Vec<_> = std::fs::read_dir(&scene.dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(strays, ["agent.sock"]);
}

#[test]
fn variables_that_lead_elsewhere_are_refused() {
    let long = "a".repeat(300);
    for name in ["../x", "/etc", "a/b", "..", "-a", "a b", "a\nb", "é", "a:b", long.as_str()] {
        for variable in ["CNI_CONTAINERID", "CNI_IFNAME"] {
            let mut scene = Scene::new();
            if variable == "CNI_CONTAINERID" && name == "a:b" {
                continue;
            }
            scene.set(variable, name);
            for command in ["ADD", "DEL", "CHECK"] {
                assert_eq!(
                    scene.call(command, &scene.conf(json!({}))).code(),
                    4,
                    "{command} {variable} {name:?}"
                );
            }
            assert_eq!(std::fs::read_dir(&scene.dir).unwrap().count(), 0);
        }
    }
}

#[test]
fn missing_variables_are_named() {
    for command in ["ADD", "CHECK"] {
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
            let mut scene = Scene::new();
            scene.unset(name);
            let outcome = scene.call(command, &scene.conf(json!({})));
            assert_eq!(outcome.error(), (4, format!("{command} needs {name}")));
        }
    }
    let scene = Scene::new();
    assert_eq!(scene.call("add", &scene.conf(json!({}))).code(), 4);
    assert_eq!(scene.call("UPDATE", &scene.conf(json!({}))).code(), 4);
}

#[test]
fn arguments_that_nobody_knows_are_refused() {
    let mut scene = Scene::new();
    scene.set("CNI_ARGS", "FOO=bar");
    let outcome = scene.call("ADD", &scene.conf(json!({})));
    assert_eq!(
        outcome.error(),
        (4, "CNI_ARGS: unknown key 'FOO'; IgnoreUnknown=1 would allow it".to_owned())
    );
}

#[test]
fn more_than_a_mebibyte_is_not_read() {
    let scene = Scene::new();
    let mut conf = scene.conf(json!({})).to_string().into_bytes();
    conf.resize(10 << 20, b' ');
    for command in COMMANDS {
        assert_eq!(scene.call_raw(command, &conf).code(), 6, "{command}");
    }
    // What just fits is read.
    conf.truncate(1 << 20);
    assert_eq!(scene.call_raw("ADD", &conf).code(), 11);
}

#[test]
fn depth_is_no_danger() {
    let scene = Scene::new();
    for open in ["[", "{\"a\":"] {
        let deep = format!("{{\"args\":{}", open.repeat(100_000));
        for command in COMMANDS {
            assert_eq!(scene.call_raw(command, deep.as_bytes()).code(), 6, "{command}");
        }
    }
}

#[test]
fn what_is_no_configuration_is_not_decoded() {
    let scene = Scene::new();
    for stdin in ["", "null", "[]", "\"x\"", "5", "{", "{}x", "\u{0}", "{\"a\":1,}", "\u{feff}{}"] {
        for command in COMMANDS {
            let outcome = scene.call_raw(command, stdin.as_bytes());
            assert_eq!(outcome.code(), 6, "{command} {stdin:?}");
            assert_eq!(outcome.json()["cniVersion"], "1.1.0");
        }
    }
    assert_eq!(scene.call_raw("ADD", b"{\"name\":\"\xff\"}").code(), 6);
}

#[test]
fn wrong_types_are_named_with_their_key() {
    let scene = Scene::new();
    let table: [(Value, &str); 22] = [
        (json!({"cniVersion": 1}), "key 'cniVersion' must be a string, but is a number"),
        (json!({"cniVersions": "1.0.0"}), "key 'cniVersions' must be a list, but is a string"),
        (json!({"cniVersions": [1]}), "key 'cniVersions[0]' must be a string, but is a number"),
        (json!({"name": ["x"]}), "key 'name' must be a string, but is a list"),
        (json!({"name": null}), "key 'name' is missing"),
        (json!({"type": true}), "key 'type' must be a string, but is true or false"),
        (json!({"type": "-remove-"}), "key 'type' is missing"),
        (json!({"network": {}}), "key 'network' must be a string, but is an object"),
        (json!({"socket": 1}), "key 'socket' must be a string, but is a number"),
        (json!({"socket": "agent.sock"}), "key 'socket': 'agent.sock' is not an absolute path"),
        (json!({"journal": "/a\u{0}b"}), "key 'journal': '/a\\0b' is not an absolute path"),
        (json!({"ipam": []}), "key 'ipam' must be an object, but is a list"),
        (json!({"ipam": {"subnet": "10.0.0.0/8"}}), "key 'ipam.type' is missing"),
        (
            json!({"dns": {"nameservers": "10.0.0.1"}}),
            "key 'dns.nameservers' must be a list, but is a string",
        ),
        (
            json!({"capabilities": {"ips": "yes"}}),
            "key 'capabilities.ips' must be true or false, but is a string",
        ),
        (json!({"runtimeConfig": 1}), "key 'runtimeConfig' must be an object, but is a number"),
        (json!({"runtimeConfig": {"ips": ["x"]}}), "key 'runtimeConfig.ips[0]': 'x' is not an IP address"),
        (
            json!({"runtimeConfig": {"mac": "x"}}),
            "key 'runtimeConfig.mac': 'x' is not an Ethernet address of one interface",
        ),
        (
            json!({"runtimeConfig": {"ipRanges": [[{}]]}}),
            "key 'runtimeConfig.ipRanges[0][0].subnet' is missing",
        ),
        (json!({"args": []}), "key 'args' must be an object, but is a list"),
        (json!({"args": {"cni": {"ips": "x"}}}), "key 'args.cni.ips' must be a list, but is a string"),
        (json!({"disableCheck": 1}), "key 'disableCheck' must be true or false, but is a number"),
    ];
    for (more, why) in table {
        let outcome = scene.call("ADD", &scene.conf(more));
        assert_eq!(outcome.error(), (7, format!("the network configuration's {why}")));
    }
}

#[test]
fn a_socket_whose_path_is_too_long_is_the_configurations_fault() {
    let scene = Scene::new();
    let long = format!("/{}", "a".repeat(200));
    assert_eq!(scene.call("ADD", &scene.conf(json!({"socket": long}))).code(), 7);
    scene.call("DEL", &scene.conf(json!({"socket": long}))).silent();
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("broken"))
    }
}

impl io::Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::other("broken"))
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn broken_pipes_are_failures_and_no_more() {
    let scene = Scene::new();
    let mut stdout = Vec::new();
    let env = Env::new([("CNI_COMMAND", "STATUS")]);
    let mut streams =
        Streams { stdin: &mut Broken, stdout: &mut stdout, stderr: &mut Broken, terminal: true };
    assert_eq!(run(&env, &scene.host, &mut streams), ExitCode::FAILURE);
    let error: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(error["code"], 5);

    let env = Env::new([("CNI_COMMAND", "VERSION")]);
    let mut streams =
        Streams { stdin: &mut io::empty(), stdout: &mut Broken, stderr: &mut Broken, terminal: false };
    assert_eq!(run(&env, &scene.host, &mut streams), ExitCode::FAILURE);
}
