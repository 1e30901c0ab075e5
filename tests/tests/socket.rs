//! The agent's socket against hostile clients: names, sizes, strangers, silence (BAR.md, security rows 2,
//! 18 and 19).

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_lab::Namespace;
use weft_model::Mode;
use weft_model::api::{ErrorKind, REQUEST_LIMIT, Request};
use weft_tests::programs;
use weft_tests::scene::{Case, Families, SOON, Scene};

/// Sends bytes as they are, and gives the answer.
fn say(socket: &Path, bytes: &[u8]) -> Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(SOON))?;
    // An agent that has heard enough may hang up before the end.
    let _ = stream.write_all(bytes);
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    serde_json::from_str(&line).with_context(|| format!("no answer: {line:?}"))
}

fn refused(socket: &Path, request: &Value) -> Result<()> {
    let answer = say(socket, format!("{request}\n").as_bytes())?;
    let kind = answer["error"]["kind"].as_str();
    ensure!(kind == Some("invalid"), "{request:.200} was answered with {answer:.300}");
    Ok(())
}

/// All files below a folder.
fn tree(folder: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            tree(&path, found)?;
        }
        found.insert(path);
    }
    Ok(())
}

/// Row 2.
#[test]
fn hostile_names_are_refused() -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, Case { mode: Mode::Routed, families: Families::Dual })?;
    let namespace = Namespace::new()?;
    let socket = scene.host.socket();
    let mut before = BTreeSet::new();
    tree(scene.host.folder(), &mut before)?;
    let long = "a".repeat(300);
    let names = [
        "",
        ".",
        "..",
        "../x",
        "../../../../tmp/x",
        "/etc/passwd",
        "a/b",
        "a\0b",
        "a\nb",
        "a b",
        "-x",
        "%d",
        "é",
        "a;b",
        "a'b",
        "a\"b",
        "$(id)",
        &long,
    ];
    let fine = json!({
        "id": { "network": network, "container": "c", "ifname": "eth0" },
        "netns": namespace.path(),
    });
    for name in names {
        for field in ["network", "container", "ifname"] {
            let mut wish = fine.clone();
            wish["id"][field] = json!(name);
            refused(&socket, &json!({ "attach": wish }))?;
            refused(&socket, &json!({ "detach": { "id": wish["id"] } }))?;
            refused(&socket, &json!({ "check": { "id": wish["id"] } }))?;
        }
        let mut wish = fine.clone();
        wish["host_ifname"] = json!(name);
        refused(&socket, &json!({ "attach": wish }))?;
        refused(&socket, &json!({ "network-create": { "name": name, "masquerade": true } }))?;
        refused(&socket, &json!({ "network-remove": { "name": name } }))?;
        refused(&socket, &json!({ "ready": { "network": name } }))?;
    }
    // Files that are no namespaces; a pipe must not make the agent wait.
    let pipe = scene.host.folder().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR)?;
    before.insert(pipe.clone());
    let pipe = pipe.display().to_string();
    for path in
        [&pipe, "/etc/passwd", "/proc/self/ns/mnt", "/dev/zero", "/nonexistent", "", ".", "/proc/1/ns/pid"]
    {
        let mut wish = fine.clone();
        wish["netns"] = json!(path);
        refused(&socket, &json!({ "attach": wish }))?;
    }
    // Fields and requests that nobody knows.
    let mut wish = fine;
    wish["privileged"] = json!(true);
    for unknown in
        [json!({ "attach": wish }), json!({ "shutdown": {} }), json!([]), json!("attach"), json!(1)]
    {
        refused(&socket, &unknown)?;
    }
    let mut after = BTreeSet::new();
    tree(scene.host.folder(), &mut after)?;
    ensure!(before == after, "files appeared: {:?}", after.difference(&before).collect::<Vec<_>>());
    ensure!(scene.host.status()?.workloads.is_empty(), "a hostile wish was granted");
    Ok(())
}

#[test]
fn rubbish_is_answered_and_survived() -> Result<()> {
    let scene = Scene::new()?;
    let socket = scene.host.socket();
    let too_long = [vec![b'x'; REQUEST_LIMIT + 10], vec![b'\n']].concat();
    let deep = [vec![b'['; 200_000], vec![b'\n']].concat();
    let deep_object = [br#"{"a":"#.repeat(100_000), vec![b'\n']].concat();
    for rubbish in [&b"\n"[..], b"{\n", b"\0\0\0\n", b"\xff\xfe\n", b"{}\n", &too_long, &deep, &deep_object] {
        let answer = say(&socket, rubbish)?;
        ensure!(answer["error"]["kind"] == "invalid", "{answer:.300}");
    }
    let _ = UnixStream::connect(&socket)?.write_all(b"half a requ");
    ensure!(scene.host.status()?.api > 0);
    Ok(())
}

/// Row 18. Neither may others reach the socket nor, should its mode be wrong one day, speak to the agent.
#[test]
fn only_root_may_speak() -> Result<()> {
    programs::require(&["setpriv", "python3"])?;
    let scene = Scene::new()?;
    let socket = scene.host.socket();
    // Who is turned away may find the line closed before having said a word; the answer is there to read.
    let script = "
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
try:
    s.sendall(b'\"status\"\\n')
except BrokenPipeError:
    pass
print(s.makefile().readline())";
    let ask = |who: &[&str]| -> Result<(bool, String)> {
        let output = Command::new("setpriv")
            .args(who)
            .args(["python3", "-c", script])
            .arg(&socket)
            .env("PATH", programs::PATH)
            .current_dir("/")
            .output()?;
        let words = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&words).into_owned()))
    };
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let (answered, words) = ask(&[])?;
    ensure!(answered && words.contains("\"status\""), "root is not answered: {words}");
    let (answered, words) = ask(&nobody)?;
    ensure!(!answered && words.contains("PermissionError"), "a stranger got through: {words}");
    for (path, mode) in [(scene.host.folder(), 0o711), (&scene.host.run_dir(), 0o711), (&socket, 0o666)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    for who in [&nobody[..], &["--reuid=65534", "--regid=0", "--clear-groups"]] {
        let (_, words) = ask(who)?;
        ensure!(words.contains("only root"), "a stranger was answered: {words}");
        ensure!(!words.contains("networks"), "a stranger was told: {words}");
    }
    Ok(())
}

/// Row 19: who says nothing holds up nobody. The promise is a second.
#[test]
fn silent_clients_hold_up_nobody() -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, Case { mode: Mode::Routed, families: Families::Dual })?;
    let socket = scene.host.socket();
    let connect = |bytes: &[u8]| -> Result<UnixStream> {
        let mut stream = UnixStream::connect(&socket)?;
        stream.write_all(bytes)?;
        Ok(stream)
    };
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(connect(b"")?);
        clients.push(connect(b"{\"attach\":")?); // half a request
    }
    let begin = Instant::now();
    scene.host.request(&Request::Status)?;
    let workload = scene.workload(&network)?;
    workload.namespace.detach(&scene.host, &network)?;
    let took = begin.elapsed();
    ensure!(took < Duration::from_secs(10), "requests took {took:?} beside silent clients");
    drop(clients);
    Ok(())
}

/// On a segment no wish takes another's, the bridge's or a port's.
#[test]
fn foreign_ethernet_addresses_are_refused() -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, Case { mode: Mode::Bridge, families: Families::Dual })?;
    let other = scene.workload(&network)?;
    let namespace = Namespace::new()?;
    let bridge = other.attached.bridge.as_ref().context("no bridge")?.1;
    for mac in [other.attached.mac, other.attached.host_mac, bridge] {
        let mut wish = namespace.wish(&network, "eth0")?;
        wish.mac = Some(mac);
        let error =
            Namespace::attach_as(&scene.host, wish).expect_err("another's Ethernet address was given");
        ensure!(error.refusal().is_some_and(|r| r.kind == ErrorKind::Exists), "{error}");
    }
    let mut wish = namespace.wish(&network, "eth0")?;
    wish.mac = Some("02:00:00:00:00:77".parse()?);
    Namespace::attach_as(&scene.host, wish)?;
    Ok(())
}
