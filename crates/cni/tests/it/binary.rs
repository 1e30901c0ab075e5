//! The program itself: exit codes, and nothing on stdout but the answer.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::scene::{NETNS, Scene};

fn execute(env: &[(&str, &str)], stdin: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_weft-cni"))
        .env_clear()
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // A program that refuses before it reads closes the pipe.
    let _ = pipe.write_all(stdin);
    drop(pipe);
    child.wait_with_output().unwrap()
}

#[test]
fn it_answers_and_fails_as_the_library_does() {
    let version = execute(&[("CNI_COMMAND", "VERSION")], br#"{"cniVersion":"0.4.0"}"#);
    assert_eq!(version.status.code(), Some(0));
    let json: Value = serde_json::from_slice(&version.stdout).unwrap();
    assert_eq!(json["cniVersion"], "0.4.0");

    for stdin in [Vec::new(), b"garbage".to_vec(), vec![b'['; 10 << 20]] {
        for command in ["", "STATUS", "GC"] {
            let output = execute(&[("CNI_COMMAND", command)], &stdin);
            assert_eq!(output.status.code(), Some(1));
            let json: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(json["code"], if command.is_empty() { 4 } else { 6 });
        }
    }
}

#[test]
fn a_del_without_agent_is_silent_and_leaves_word() {
    let scene = Scene::new();
    let env =
        [("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "abc"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", NETNS)];
    let output = execute(&env, scene.conf(json!({})).to_string().as_bytes());
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
    assert_eq!(scene.entries().len(), 1);
}
