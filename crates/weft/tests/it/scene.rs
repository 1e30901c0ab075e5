//! Running the program, and looking at directory trees.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const WEFT: &str = env!("CARGO_BIN_EXE_weft");

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn of(output: &Output) -> Run {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Run { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// It succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Run {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// It exited with this code.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Run {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// What it printed is a document of this version; its keys beside that.
    #[track_caller]
    pub(crate) fn document(&self) -> (Value, Vec<String>) {
        let document: Value = serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        assert_eq!(document["api"], 1, "{self:?}");
        let keys = document.as_object().unwrap().keys().filter(|k| *k != "api").cloned().collect();
        (document, keys)
    }
}

pub(crate) fn command(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).env_remove("NO_COLOR").env_remove("WEFT_LOG");
    command
}

pub(crate) fn weft(arguments: &[&str]) -> Run {
    Run::of(&command(Path::new(WEFT), arguments).output().unwrap())
}

/// An image to install into, with small files in the place of the programs.
pub(crate) struct Image {
    pub(crate) folder: TempDir,
}

impl Image {
    /// A tree such as a host has before weft comes.
    pub(crate) fn new() -> Image {
        let image = Image { folder: tempfile::tempdir().unwrap() };
        for folder in ["etc/systemd/system", "etc/cni", "usr/local/bin", "var/lib", "opt"] {
            fs::create_dir_all(image.path(folder)).unwrap();
        }
        image.write("etc/hosts", "127.0.0.1 localhost\n");
        image.write("usr/local/bin/other", "#!/bin/sh\n");
        fs::write(image.beside("weft"), "program 1").unwrap();
        fs::write(image.beside("weft-cni"), "plugin 1").unwrap();
        image
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    /// A file that is not in the image.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    #[track_caller]
    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    pub(crate) fn arguments<'a>(&'a self, words: &[&'a str]) -> Vec<String> {
        let mut all: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        let named = |option: &str, path: PathBuf| [option.to_owned(), path.display().to_string()];
        all.extend(named("--root", self.root()));
        if words.contains(&"install") {
            all.extend(named("--plugin", self.beside("weft-cni")));
            if words[0] == "install" {
                all.extend(named("--program", self.beside("weft")));
            }
        }
        all
    }

    pub(crate) fn weft(&self, words: &[&str]) -> Run {
        let arguments = self.arguments(words);
        weft(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub(crate) fn snapshot(&self) -> BTreeMap<PathBuf, Thing> {
        let mut things = BTreeMap::new();
        look(&self.root(), &self.root(), &mut things);
        things
    }
}

/// What a name stands for: mode and owner, and content, target or nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Thing {
    pub(crate) mode: u32,
    owner: (u32, u32),
    content: Vec<u8>,
}

fn look(root: &Path, at: &Path, things: &mut BTreeMap<PathBuf, Thing>) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = match meta.file_type() {
            t if t.is_file() => fs::read(&path).unwrap(),
            t if t.is_symlink() => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
            _ => Vec::new(),
        };
        let thing = Thing { mode: meta.permissions().mode(), owner: (meta.uid(), meta.gid()), content };
        things.insert(path.strip_prefix(root).unwrap().to_owned(), thing);
        if meta.is_dir() {
            look(root, &path, things);
        }
    }
}
