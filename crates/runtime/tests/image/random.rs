//! Random trees and random damage: packed by GNU tar and unpacked here, the tree is the same as GNU tar makes; and
//! whatever bytes come, nothing outside changes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::pack::{Ground, Pack, tree};

#[derive(Clone, Debug)]
enum Node {
    File { content: Vec<u8>, mode: u32, owner: (u32, u32) },
    Folder { mode: u32, owner: (u32, u32) },
    Link(String),
    Name(usize),
}

fn node() -> impl Strategy<Value = Node> {
    let owner = || (0u32..70_000, 0u32..70_000);
    prop_oneof![
        4 => (prop::collection::vec(any::<u8>(), 0..2000), 0u32..0o10000, owner())
            .prop_map(|(content, mode, owner)| Node::File { content, mode, owner }),
        3 => (0u32..0o10000, owner()).prop_map(|(mode, owner)| Node::Folder { mode: mode | 0o700, owner }),
        1 => "[a-z./]{1,120}".prop_map(Node::Link),
        1 => (0usize..50).prop_map(Node::Name),
    ]
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[a-zA-Z0-9_ é.-]{1,60}", 1..5).prop_map(|words| words.join("/"))
}

/// Makes the tree as far as the file system lets it be made.
fn make(root: &Path, nodes: &[(String, Node)]) {
    let mut files = Vec::new();
    for (name, node) in nodes {
        if name.split('/').any(|w| w == "." || w == ".." || w.starts_with(".wh.")) {
            continue;
        }
        let path = root.join(name);
        let Some(parent) = path.parent() else { continue };
        // Not through a link of the tree: GNU tar and this reader would both, but where it leads is unknown.
        let through = parent.ancestors().take_while(|a| *a != root).any(|a| a.is_symlink());
        if through || fs::create_dir_all(parent).is_err() || path.symlink_metadata().is_ok() {
            continue;
        }
        match node {
            Node::File { content, mode, owner } => {
                fs::write(&path, content).unwrap();
                chown(&path, Some(owner.0), Some(owner.1)).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
                files.push(path);
            }
            Node::Folder { mode, owner } => {
                fs::create_dir(&path).unwrap();
                chown(&path, Some(owner.0), Some(owner.1)).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            }
            Node::Link(target) => symlink(target, &path).unwrap(),
            Node::Name(n) if !files.is_empty() => fs::hard_link(&files[n % files.len()], &path).unwrap(),
            Node::Name(_) => {}
        }
    }
}

fn tar(args: &[&str]) {
    let output = Command::new("tar").args(args).output().expect("GNU tar");
    assert!(output.status.success(), "tar {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn cases(few: u32) -> Config {
    let full = std::env::var_os("WEFT_FULL").is_some();
    Config { cases: if full { few * 50 } else { few }, failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn unpacked_as_gnu_tar_unpacks(
        nodes in prop::collection::vec((path(), node()), 1..40),
        format in prop_oneof![Just("gnu"), Just("pax")],
        zstd in any::<bool>(),
    ) {
        let ground = Ground::new();
        let place = tempfile::tempdir().unwrap();
        let (source, theirs, archive) =
            (place.path().join("source"), place.path().join("theirs"), place.path().join("layer.tar"));
        fs::create_dir(&source).unwrap();
        fs::create_dir(&theirs).unwrap();
        make(&source, &nodes);
        let word = |path: &Path| path.to_str().unwrap().to_owned();
        tar(&["-C", &word(&source), "--format", format, "--numeric-owner", "-cf", &word(&archive), "."]);
        tar(&["-C", &word(&theirs), "--same-owner", "-p", "--numeric-owner", "-xf", &word(&archive)]);
        let mut bytes = fs::read(&archive).unwrap();
        if zstd {
            bytes = zstd::encode_all(&bytes[..], 1).unwrap();
        }
        ground.unpack(&bytes).unwrap();
        prop_assert_eq!(tree(&ground.diff()), tree(&theirs));
        ground.assert_untouched();
    }
}

/// Names and targets that meet each other, and that want out.
fn word() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("a"),
        Just("b"),
        Just(".."),
        Just("."),
        Just("canary"),
        Just("file"),
        Just(".wh.a"),
        Just(".wh..wh..opq"),
        Just("diff"),
        Just(""),
    ];
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn nothing_outside_changes(entries in prop::collection::vec((0u8..6, word(), word()), 1..12)) {
        let ground = Ground::new();
        let mut pack = Pack::default();
        for (kind, path, target) in &entries {
            pack = match kind {
                0 => pack.file(path, b"content"),
                1 => pack.folder(path),
                2 => pack.link(path, target),
                3 => pack.name(path, target),
                4 => pack.link(path, &format!("{}/{target}", ground.folder.path().display())),
                _ => pack.raw(b'3', path.as_bytes(), b"", 0, (0, 0)),
            };
        }
        let _ = ground.unpack(&pack.done()); // refused or not, it is the same to what is outside
        ground.assert_untouched();
    }

    #[test]
    fn no_damage_breaks_it(at in prop::collection::vec((0usize..6000, any::<u8>()), 1..8), fix in any::<bool>()) {
        let ground = Ground::new();
        let mut bytes = Pack::default()
            .pax(&[("path", b"long/name"), ("SCHILY.xattr.user.x", b"y")])
            .file("a", &[1; 700]).folder("b/").link("c", "a").name("d", "a").file(".wh.e", b"").done();
        for (at, byte) in at {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        for block in bytes.chunks_exact_mut(512).filter(|_| fix) {
            // Checksums made right again, so that the damage is read and not only noticed.
            let sum: u32 = block.iter().enumerate().map(|(n, b)| if (148..156).contains(&n) { 32 } else { u32::from(*b) }).sum();
            if block[257..262] == *b"ustar" {
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let _ = ground.unpack(&bytes); // sound or refused, it does not panic
        ground.assert_untouched();
    }
}
