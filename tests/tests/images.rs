//! Images with real programs: Debian's docker-registry with TLS, passwords and tokens, skopeo as the other reader and
//! writer of archives, wires that break, processes that are killed, and a disk that is full.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use weft_tests::registry::{self, AUTHORITY, Asks, BREAKING, HOST, PASSWORD, USER};
use weft_tests::weft::programs_folder;
use weft_tests::{Sandbox, programs, wait};

const WEFT: &str = "/run/weft-bin/weft";
/// Two layers: busybox, and four MiB that do not compress.
const NAME: &str = "localhost/app:1";

struct Ground {
    host: Sandbox,
}

impl Ground {
    fn new() -> Result<Ground> {
        programs::require(&["busybox", "tar", "sha256sum", "skopeo"])?;
        let host = Sandbox::new()?;
        host.copy_in(&programs_folder()?.join("weft"), WEFT)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/image");
        host.copy_in(&script, "/run/image")?;
        host.copy_in(&programs::find("busybox").context("no busybox")?, "/run/base/bin/busybox")?;
        host.sh("ln -s busybox /run/base/bin/sh; mkdir -p /run/content/data; \
             head -c 4194304 /dev/urandom >/run/content/data/noise; \
             /run/image localhost/app:1 'echo hello' /run/base /run/content >/run/app.tar")?;
        Ok(Ground { host })
    }

    fn weft(&self, args: &[&str]) -> Result<String> {
        self.host.run(&[&[WEFT], args].concat())
    }

    fn json(&self, args: &[&str]) -> Result<Value> {
        Ok(serde_json::from_str(&self.weft(&[args, &["--json"]].concat())?)?)
    }

    /// With a password on standard input.
    fn pull_as(&self, user: &str, password: &str, name: &str) -> Result<String> {
        let script = format!(
            "echo '{password}' | {WEFT} image pull --ca {AUTHORITY} --user {user} --password-stdin {name}"
        );
        self.host.sh(&script)
    }

    fn id(&self, name: &str) -> Result<String> {
        let shown = self.json(&["image", "inspect", name])?;
        Ok(shown["images"][0]["id"].as_str().context("no id")?.to_owned())
    }

    /// The content of all layers together. (An id changes when a program writes the configuration in another form.)
    fn content(&self, name: &str) -> Result<String> {
        let shown = self.json(&["image", "inspect", name])?;
        let chain = shown["images"][0]["chain"].as_array().context("no chain")?;
        Ok(chain.last().context("no layers")?["chain_id"].as_str().context("no chain id")?.to_owned())
    }

    fn count(&self, folder: &str) -> Result<usize> {
        Ok(self.host.sh(&format!("ls /var/lib/weft/images/{folder}"))?.split_whitespace().count())
    }

    fn forget(&self) -> Result<()> {
        self.weft(&["image", "prune", "--all"])?;
        ensure!(
            (self.count("blobs/sha256")?, self.count("layers")?, self.count("ingest")?) == (0, 0, 0),
            "left over"
        );
        Ok(())
    }
}

/// It must fail, with these words.
fn refused<T>(result: Result<T>, words: &str) -> Result<()> {
    match result {
        Ok(_) => bail!("it worked, but should have said: {words}"),
        Err(error) => {
            let text = format!("{error:#}");
            ensure!(text.contains(words), "it said: {text}\nand not: {words}");
            Ok(())
        }
    }
}

#[test]
fn archives_that_others_write_and_read() -> Result<()> {
    let ground = Ground::new()?;
    let host = &ground.host;
    let said = ground.weft(&["image", "load", "/run/app.tar"])?;
    ensure!(said.starts_with("loaded localhost/app:1"), "{said}");
    let id = ground.id(NAME)?;
    let listed = ground.weft(&["image", "ls", "--no-trunc"])?;
    ensure!(listed.contains(&id) && listed.contains(NAME), "{listed}");
    let shown = ground.weft(&["image", "inspect", NAME])?;
    for word in
        ["chain id", "diff id", "/var/lib/weft/images/layers/", "\"mediaType\"", "\"diff_ids\"", "PATH=/bin"]
    {
        ensure!(shown.contains(word), "no {word} in {shown}");
    }
    ensure!(ground.weft(&["image", "history", NAME])?.contains("does not say how"));
    ensure!(ground.weft(&["info"])?.contains("storage driver"));
    // From weft to skopeo and back, in each form.
    let content = ground.content(NAME)?;
    ground.weft(&["image", "save", NAME, "-o", "/run/saved.tar"])?;
    ground.weft(&["image", "save", NAME, "--format", "oci", "-o", "/run/oci.tar"])?;
    ground.weft(&["image", "save", NAME, "--format", "folder", "-o", "/run/layout"])?;
    refused(
        ground.weft(&["image", "save", NAME, "--format", "folder", "-o", "/run/layout"]),
        "is there already",
    )?;
    let copy = |from: &str, to: &str| host.run(&["skopeo", "--insecure-policy", "copy", "-q", from, to]);
    for (from, to, path) in [
        ("docker-archive:/run/saved.tar", "oci:/run/theirs:localhost/app:1", "/run/theirs"),
        ("oci-archive:/run/oci.tar", "docker-archive:/run/theirs.tar:localhost/app:1", "/run/theirs.tar"),
        ("oci:/run/layout", "oci-archive:/run/theirs-oci.tar:localhost/app:1", "/run/theirs-oci.tar"),
        // The store itself is a layout that others can read.
        ("oci:/var/lib/weft/images", "docker-archive:/run/store.tar:localhost/app:1", "/run/store.tar"),
    ] {
        copy(from, to).with_context(|| format!("skopeo cannot read {from}"))?;
        ground.forget()?;
        ground.weft(&["image", "load", path]).with_context(|| format!("from {path}"))?;
        ensure!(ground.content(NAME)? == content, "another image came back by {path}");
    }
    host.sh(&format!("{WEFT} image save {NAME} | gzip -1 | {WEFT} image load"))?;
    refused(ground.weft(&["image", "pull", "busybox"]), "names no registry")?;
    refused(ground.weft(&["image", "rm", "absent"]), "there is no image 'absent'")?;
    ground.forget()
}

#[test]
fn from_a_registry_that_asks_who_is_there() -> Result<()> {
    let ground = Ground::new()?;
    let host = &ground.host;
    registry::start(host, Asks::Nothing)?;
    registry::push(host, Path::new("/run/app.tar"), "team/app:1")?;
    let name = format!("{HOST}/team/app:1");
    ground.weft(&["image", "pull", "--plain-http", &name])?;
    let id = ground.id(&name)?;
    let again = ground.weft(&["image", "pull", "--plain-http", &name])?;
    ensure!(again.contains("all of it was here"), "{again}");
    refused(ground.weft(&["image", "pull", &name]), "--plain-http")?;
    for asks in [Asks::Password, Asks::Token] {
        ground.forget()?;
        registry::start(host, asks)?;
        refused(ground.weft(&["image", "pull", &name]), "--ca")?;
        refused(ground.weft(&["image", "pull", "--ca", AUTHORITY, &name]), "wants a name and a password")?;
        refused(ground.pull_as(USER, "wrong", &name), "does not let 'reader' in")?;
        ground.pull_as(USER, PASSWORD, &name).with_context(|| format!("{asks:?}"))?;
        ensure!(ground.id(&name)? == id, "another image");
        let absent = format!("{HOST}/team/absent:1");
        refused(ground.pull_as(USER, PASSWORD, &absent), "has no team/absent:1")?;
    }
    // The same from a file of passwords, and by digest.
    let shown = ground.json(&["image", "inspect", &name])?;
    let digest = shown["images"][0]["manifest"].as_str().context("no manifest")?.to_owned();
    host.write("/run/auth.json", r#"{"auths":{"localhost:5000":{"auth":"cmVhZGVyOnNlY3JldA=="}}}"#)?;
    let pinned = format!("{HOST}/team/app@{digest}");
    ground.forget()?;
    ground.weft(&["image", "pull", "--ca", AUTHORITY, "--auth-file", "/run/auth.json", &pinned])?;
    ensure!(ground.id(&pinned)? == id, "another image");
    // A container of an image that is not here brings it.
    ground.forget()?;
    let run = |what: &str| {
        let access = format!("SSL_CERT_FILE={AUTHORITY} REGISTRY_AUTH_FILE=/run/auth.json");
        host.sh(&format!("{access} {WEFT} run --rm --network none {HOST}/{what}"))
    };
    refused(host.sh(&format!("{WEFT} run --explain --network none {HOST}/team/app:1")), "there is no image")?;
    ensure!(run("team/app:1")?.trim() == "hello", "it did not run");
    refused(run("team/absent:1"), "has no team/absent:1")?;
    // Whoever keeps the registry changes a layer: the digest tells.
    ground.forget()?;
    host.sh("for f in $(find /run/registry/data -name data -size +1000k); do printf X | dd of=$f bs=1 seek=5000 conv=notrunc 2>/dev/null; done")?;
    refused(ground.pull_as(USER, PASSWORD, &name), "is not what its name says")?;
    ensure!(ground.weft(&["image", "ls"])?.contains("no images"));
    ground.forget()
}

/// An index of three platforms is put into the registry by hand.
const INDEX: &str = r#"
import hashlib, json, urllib.request
def ask(method, path, body=None, kind=None):
    request = urllib.request.Request("http://localhost:5000/v2/team/" + path, body, method=method)
    if kind: request.add_header("Content-Type", kind)
    request.add_header("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json")
    return urllib.request.urlopen(request)
entries = []
for tag, platform in [("host", {"os": "linux", "architecture": "ARCH"}), ("v7", {"os": "linux", "architecture": "arm", "variant": "v7"}),
                      ("v6", {"os": "linux", "architecture": "arm", "variant": "v6"})]:
    answer = ask("GET", "multi/manifests/" + tag)
    body = answer.read()
    entries.append({"mediaType": answer.headers["Content-Type"], "size": len(body), "platform": platform,
                    "digest": "sha256:" + hashlib.sha256(body).hexdigest()})
kind = "application/vnd.docker.distribution.manifest.list.v2+json"
ask("PUT", "multi/manifests/1", json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode(), kind)
"#;

#[test]
fn of_several_platforms_the_fitting_one() -> Result<()> {
    let ground = Ground::new()?;
    let host = &ground.host;
    registry::start(host, Asks::Nothing)?;
    for tag in ["host", "v7", "v6"] {
        host.sh(&format!("mkdir -p /run/{tag}; echo {tag} >/run/{tag}/which; /run/image localhost/x:1 true /run/{tag} >/run/{tag}.tar"))?;
        registry::push(host, Path::new(&format!("/run/{tag}.tar")), &format!("team/multi:{tag}"))?;
    }
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    host.write("/run/index.py", INDEX.replace("ARCH", architecture))?;
    host.run(&["python3", "/run/index.py"])?;
    let name = format!("{HOST}/team/multi:1");
    let which = || host.sh("cat /var/lib/weft/images/layers/*/diff/which");
    for (platform, fitting) in [(None, "host"), (Some("linux/arm/v7"), "v7"), (Some("linux/arm/v6"), "v6")] {
        ground.forget()?;
        let platform = platform.map(|p| ["--platform", p]);
        let args = ["image", "pull", "--plain-http", &name];
        ground.weft(&[&args[..], platform.as_ref().map_or(&[], |p| &p[..])].concat())?;
        ensure!(which()?.trim() == fitting, "{platform:?}: {}", which()?);
    }
    let none = ["image", "pull", "--plain-http", "--platform", "linux/riscv64", &name];
    refused(
        ground.weft(&none),
        &format!("no image for linux/riscv64; there are linux/{architecture}, linux/arm/v7"),
    )
}

#[test]
fn what_breaks_off_is_taken_up_again() -> Result<()> {
    let ground = Ground::new()?;
    let host = &ground.host;
    registry::start(host, Asks::Nothing)?;
    registry::push(host, Path::new("/run/app.tar"), "team/app:1")?;
    // Broken off: the same pull goes on where it was.
    registry::breaking_wire(host, false)?;
    let name = format!("{BREAKING}/team/app:1");
    ground.weft(&["image", "pull", "--plain-http", &name])?;
    let asked = host.sh("cat /run/asked")?;
    let resumed = asked.lines().filter(|line| line.contains("/blobs/") && line.contains("bytes=")).count();
    ensure!(resumed >= 2, "nothing was taken up again:\n{asked}");
    ground.forget()?;
    // Killed: the next one does. Two at once share what there is to do.
    host.sh("kill $(cat /run/breaking.pid); while kill -0 $(cat /run/breaking.pid) 2>/dev/null; do sleep 0.05; done; rm /run/asked")?;
    registry::breaking_wire(host, true)?;
    let mut pull = host.command(WEFT);
    let mut pull = pull
        .args(["image", "pull", "--plain-http", &name])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let half = wait::until("half a layer", wait::LONG, || {
        host.sh("find /var/lib/weft/images/ingest -name 'blob-*.part' -size +1900k | grep -q .").map(|_| ())
    });
    host.sh("kill -9 $(pidof weft)")?;
    pull.wait()?;
    half?;
    ensure!(ground.weft(&["image", "ls"])?.contains("no images"));
    let mut both: Vec<_> = (0..2)
        .map(|_| {
            host.command(WEFT).args(["image", "pull", "--plain-http", &name]).stderr(Stdio::piped()).spawn()
        })
        .collect::<std::io::Result<_>>()?;
    for pull in both.drain(..) {
        let output = pull.wait_with_output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let asked = host.sh("cat /run/asked")?;
    let mut blobs: Vec<&str> = asked.lines().filter(|line| line.contains("/blobs/")).collect();
    ensure!(blobs.iter().any(|line| line.contains("bytes=")), "nothing was taken up again:\n{asked}");
    blobs.sort_unstable();
    let all = blobs.len();
    blobs.dedup();
    // The configuration is small and may be asked for by both.
    ensure!(all - blobs.len() <= 2, "a layer was fetched twice:\n{asked}");
    ensure!(
        host.sh("cat /var/lib/weft/images/layers/*/diff/data/noise | cmp - /run/content/data/noise").is_ok()
    );
    ground.weft(&["image", "rm", &name])?;
    ground.forget()
}

#[test]
fn killed_at_any_point_the_store_is_sound() -> Result<()> {
    let ground = Ground::new()?;
    let host = &ground.host;
    let rounds = if std::env::var_os("WEFT_FULL").is_some() { 200 } else { 12 };
    for round in 0..rounds {
        let mut load: Command = host.command("timeout");
        // From before it begins to after it has ended.
        let moment = format!("{:.3}", 0.004 + 0.009 * f64::from(round % 24));
        let status = load
            .args(["-s", "KILL", &moment, WEFT, "image", "load", "/run/app.tar"])
            .stderr(Stdio::null())
            .status()?;
        let listed = ground.weft(&["image", "ls"])?;
        ensure!(
            !status.success() || listed.contains(NAME),
            "round {round}: it ended well and the image is not there"
        );
        if listed.contains(NAME) {
            ground.weft(&["image", "save", NAME, "-o", "/run/check.tar"]).context("listed, but not whole")?;
        }
        // Who was killed may still be in a system call, with its lock: then a later command sweeps.
        wait::until("a swept store", wait::LONG, || {
            let trees = host.sh("find /var/lib/weft/images/ingest -mindepth 1 -name '*.tree' | wc -l")?;
            if trees.trim() != "0" {
                ground.weft(&["image", "ls"])?;
                bail!("not swept");
            }
            Ok(())
        })?;
        if round % 3 == 0 {
            ground.forget()?;
        }
    }
    ground.weft(&["image", "load", "/run/app.tar"])?;
    ground.forget()
}

#[test]
fn a_full_disk_leaves_nothing() -> Result<()> {
    let ground = Ground::new()?;
    let host = &ground.host;
    host.sh("mkdir -p /var/lib/weft && chmod 700 /var/lib/weft && mount -t tmpfs -o size=9m,mode=700 none /var/lib/weft")?;
    host.sh("mkdir /run/small; echo x >/run/small/x; /run/image small:1 true /run/small | /run/weft-bin/weft image load")?;
    // The archives fit, the unpacked layers beside them do not.
    for _ in 0..2 {
        let full = ground.weft(&["image", "load", "/run/app.tar"]);
        refused(full, "make room")?;
        ground.weft(&["image", "prune"])?;
        ensure!(ground.weft(&["image", "ls"])?.contains("small:1"), "the other image is gone");
        ensure!((ground.count("layers")?, ground.count("ingest")?) == (1, 0), "something stayed");
    }
    host.sh("mount -o remount,size=40m /var/lib/weft")?;
    ground.weft(&["image", "load", "/run/app.tar"])?;
    wait::until("the store", Duration::from_secs(5), || ground.id(NAME).map(|_| ()))
}
