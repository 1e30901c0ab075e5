//! Whatever bytes a registry sends as a layer: nothing panics, and nothing beside the layer's folder changes. Needs root.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use weft_runtime::image::{Limits, Policy, Quiet, unpack};

static GROUND: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let ground = tempfile::tempdir().expect("a folder to work in");
    fs::create_dir(ground.path().join("canary")).expect("a folder beside the layer");
    fs::write(ground.path().join("canary/file"), "untouched").expect("a file beside the layer");
    let diff = ground.path().join("diff");
    (ground, diff)
});

/// Small, so that a run is quick; the paths through the code are the same.
const LIMITS: Limits = Limits {
    manifest: 1 << 16,
    config: 1 << 16,
    layers: 10,
    compressed: 1 << 20,
    unpacked: 1 << 20,
    ratio: 100,
    entries: 200,
    file: 1 << 16,
    path: 4095,
    depth: 20,
    extended: 1 << 16,
    folders: 1 << 14,
};

fuzz_target!(|bytes: &[u8]| {
    let (ground, diff) = &*GROUND;
    let _ = fs::remove_dir_all(diff); // the first time there is none
    fs::create_dir(diff).expect("a folder for the layer");
    let mut archive = bytes.to_vec();
    // Checksums made right: the fuzzer would not find them by itself.
    for block in archive.chunks_exact_mut(512).filter(|block| block[156] != 0) {
        let sum: u32 =
            block.iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { 32 } else { u32::from(*b) }).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    for archive in [bytes, &archive] {
        let _ = unpack(archive, diff, &[], &Policy { limits: LIMITS, devices: false }, &Quiet); // refused or not
    }
    let names = fs::read_dir(ground.path()).expect("the folder").count();
    let canary = fs::read_to_string(ground.path().join("canary/file")).expect("the file beside the layer");
    let beside = fs::read_dir(ground.path().join("canary")).expect("the folder beside").count();
    assert_eq!((names, canary.as_str(), beside), (2, "untouched", 1));
});
