//! A directory of its own for every test, and a call of the plugin in it.

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use weft_cni::{Env, Host, Streams, run};

use crate::agent::Agent;

/// A file that is there and is not this process's network namespace.
pub(crate) const NETNS: &str = "/proc/self/ns/uts";

pub(crate) struct Scene {
    pub(crate) dir: PathBuf,
    pub(crate) host: Host,
    pub(crate) env: Vec<(String, String)>,
}

/// What a call has come to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Scene {
    pub(crate) fn new() -> Scene {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("weft-cni-{}-{number}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
        let host = Host {
            ipam_allowed: dir.join("ipam-allowed"),
            trusted_uid: fs::metadata(&dir).unwrap().uid(),
            patience: Duration::from_millis(400),
            patience_del: Duration::from_millis(400),
            patience_status: Duration::from_millis(400),
        };
        let env = [("CNI_CONTAINERID", "abc"), ("CNI_NETNS", NETNS), ("CNI_IFNAME", "eth0")];
        Scene { dir, host, env: env.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec() }
    }

    pub(crate) fn agent(&self) -> Agent {
        Agent::listen(&self.socket())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("agent.sock")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.dir.join("journal")
    }

    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<str>) {
        self.env.retain(|(k, _)| k != name);
        self.env.push((name.to_owned(), value.as_ref().to_owned()));
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.env.retain(|(k, _)| k != name);
    }

    /// A configuration with `more` in it; `null` removes a key.
    pub(crate) fn conf(&self, more: Value) -> Value {
        let mut conf = json!({
            "cniVersion": "1.1.0", "name": "shop", "type": "weft", "network": "app",
            "socket": self.socket(), "journal": self.journal(),
        });
        let Value::Object(more) = more else { panic!("{more} is no object") };
        for (key, value) in more {
            conf[&key] = value;
        }
        conf.as_object_mut().unwrap().retain(|_, v| *v != json!("-remove-"));
        conf
    }

    pub(crate) fn call(&self, command: &str, conf: &Value) -> Outcome {
        self.call_raw(command, conf.to_string().as_bytes())
    }

    pub(crate) fn call_raw(&self, command: &str, stdin: &[u8]) -> Outcome {
        self.call_from(command, stdin, false)
    }

    pub(crate) fn call_from(&self, command: &str, stdin: &[u8], terminal: bool) -> Outcome {
        let mut env = self.env.clone();
        if !command.is_empty() {
            env.push(("CNI_COMMAND".to_owned(), command.to_owned()));
        }
        let (mut stdin, mut stdout, mut stderr) = (Cursor::new(stdin), Vec::new(), Vec::new());
        let mut streams = Streams { stdin: &mut stdin, stdout: &mut stdout, stderr: &mut stderr, terminal };
        let code = run(&Env::new(env), &self.host, &mut streams);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Outcome { success: code == ExitCode::SUCCESS, stdout: text(stdout), stderr: text(stderr) }
    }

    /// An executable shell script.
    pub(crate) fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        mode(&path, 0o755);
        path
    }

    /// The journal's entries, by name.
    pub(crate) fn entries(&self) -> Vec<(String, Value)> {
        let Ok(dir) = fs::read_dir(self.journal()) else { return Vec::new() };
        let mut entries: Vec<_> = dir
            .map(|entry| {
                let entry = entry.unwrap();
                let text = fs::read_to_string(entry.path()).unwrap();
                (entry.file_name().into_string().unwrap(), serde_json::from_str(&text).unwrap())
            })
            .collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub(crate) fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

impl Outcome {
    /// The one JSON document on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The error, which must be one: its code and its message.
    #[track_caller]
    pub(crate) fn error(&self) -> (u64, String) {
        let json = self.json();
        assert!(!self.success, "{self:?}");
        assert!(json["cniVersion"].is_string(), "{self:?}");
        (json["code"].as_u64().unwrap(), json["msg"].as_str().unwrap().to_owned())
    }

    #[track_caller]
    pub(crate) fn code(&self) -> u64 {
        self.error().0
    }

    #[track_caller]
    pub(crate) fn details(&self) -> String {
        self.json()["details"].as_str().unwrap_or_else(|| panic!("no details: {self:?}")).to_owned()
    }

    /// Success, with nothing on stdout.
    #[track_caller]
    pub(crate) fn silent(&self) {
        assert!(self.success && self.stdout.is_empty(), "{self:?}");
    }
}
