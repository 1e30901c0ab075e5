//! No agent, an agent that makes no sense, a reader that goes away.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;

use weft_model::api::{Error, ErrorKind, Reply};

use crate::canned::{Agent, usual};
use crate::scene::{WEFT, command, weft};

#[test]
fn no_socket_is_exit_code_3_with_what_was_tried_and_how_to_start() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock").display().to_string();
    for words in [
        &["status"][..],
        &["diff"],
        &["plan"],
        &["attach", "--pid", "1"],
        &["detach", "blue"],
        &["network", "ls"],
        &["network", "create", "app"],
        &["network", "rm", "app"],
    ] {
        let mut all = vec!["--socket", &socket];
        all.extend(words);
        let run = weft(&all).code(3);
        let expected = format!("weft: the agent cannot be reached at {socket}: there is no such socket; ");
        assert!(run.err.starts_with(&expected), "{run:?}");
        assert!(run.err.lines().nth(1).unwrap().starts_with("hint: "), "{run:?}");
        assert_eq!(run.out, "");
    }
}

#[test]
fn a_socket_on_which_nobody_listens_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let run = weft(&["status", "--socket", &socket.display().to_string()]).code(3);
    assert!(run.err.contains("nobody listens on it"), "{run:?}");
}

#[test]
fn with_json_the_failure_is_a_document() {
    let run = weft(&["status", "--json", "--socket", "/nowhere/agent.sock"]).code(3);
    let (document, keys) = run.document();
    assert_eq!(keys, ["error"]);
    assert_eq!(document["error"]["code"], 3);
    assert_eq!(run.err, "");
}

#[test]
fn what_the_agent_refuses_comes_with_its_hint() {
    let agent = Agent::new(|_| {
        Reply::Error(Error::new(ErrorKind::Exists, "network app exists").hint("choose another name"))
    });
    let run = agent.weft(&["network", "create", "app"]).code(1);
    assert_eq!(run.err, "weft: network app exists\nhint: choose another name\n");
}

#[test]
fn nonsense_a_wrong_answer_and_none_at_all_are_failures_in_words() {
    for (answer, words) in [
        ("{\"no\": 1}\n", "is not understood"),
        ("", "hung up without an answer"),
        ("{\"diff\": []}\n", "'diff', which was not asked for"),
    ] {
        let agent = Agent::raw(move |_| answer.to_owned());
        let run = agent.weft(&["status"]).code(1);
        assert!(run.err.contains(words), "{answer:?}: {run:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let agent = Agent::new(usual);
    let socket = agent.socket().display().to_string();
    for words in
        [&["status", "--socket", &socket][..], &["diff", "--socket", &socket], &["--help"], &["reference"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = command(Path::new(WEFT), words);
        let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{words:?}");
    }
}

#[test]
fn a_full_disk_is_a_failure() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let status = command(Path::new(WEFT), &["version"]).stdout(full).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for words in [
        &[][..],
        &["weave"],
        &["attach"],
        &["attach", "x", "--pid", "1"],
        &["attach", "/proc/self/ns/net"],
        &["attach", "x", "--network", "../x"],
        &["network", "rm"],
        &["install", "--prefix", "relative"],
        &["install", "--prefix", "/a b"],
        &["network", "create", "x", "--mtu", "12"],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display().to_string();
        let mut all = words.to_vec();
        if words.first() == Some(&"install") {
            all.extend(["--root", root.as_str()]);
        }
        let run = weft(&all).code(2);
        assert_eq!(run.out, "", "{words:?}");
    }
}

#[test]
fn inventory_does_without_the_agent_and_says_so() {
    let run = weft(&["inventory", "--json", "--socket", "/nowhere/agent.sock"]).ok();
    assert_eq!(run.document().0["source"], "kernel");
    assert!(run.err.contains("read from the kernel instead"), "{run:?}");
    let offline = weft(&["inventory", "--json", "--offline"]).ok();
    assert_eq!(offline.document().0["source"], "kernel");
}
