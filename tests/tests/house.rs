//! The house stands as DESIGN.md §2 draws it: dependencies point one way, `unsafe` has one island,
//! files fit a screen or three.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Which crates of ours each may use in what it ships. A new crate needs a line here and one in DESIGN.md §2.
const ARROWS: [(&str, &[&str]); 10] = [
    ("weft-model", &[]),
    ("weft-plan", &["weft-model"]),
    ("weft-kernel", &["weft-model"]),
    ("weft-store", &["weft-model"]),
    ("weft-dataplane", &["weft-model", "weft-plan", "weft-kernel"]),
    ("weft-agent", &["weft-model", "weft-plan", "weft-kernel", "weft-dataplane", "weft-store"]),
    ("weft-lab", &["weft-model", "weft-plan", "weft-kernel", "weft-dataplane", "weft-store", "weft-agent"]),
    // `DEL` without an agent cuts the wire by itself, hence the kernel.
    ("weft-cni", &["weft-model", "weft-kernel"]),
    (
        "weft",
        &[
            "weft-model",
            "weft-plan",
            "weft-kernel",
            "weft-dataplane",
            "weft-store",
            "weft-agent",
            "weft-lab",
            "weft-runtime",
        ],
    ),
    ("weft-runtime", &["weft-model", "weft-kernel"]),
];
/// What only tests, benchmarks and tasks consist of: nobody may depend on them.
const TOOLS: [&str; 3] = ["weft-tests", "weft-benches", "xtask"];
/// Lines a source file may have (DESIGN.md §13).
const CEILING: usize = 400;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn packages() -> Result<Vec<Value>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .context("failed to run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array_mut().context("no packages")?;
    ensure!(packages.len() >= ARROWS.len() - 1, "cargo metadata shows only {} packages", packages.len());
    Ok(std::mem::take(packages))
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Of a package: the crates of ours that it uses, in what it ships and in its tests.
fn uses(package: &Value, ours: &BTreeSet<String>) -> (BTreeSet<String>, BTreeSet<String>) {
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    let mine = dependencies.filter(|d| ours.contains(word(d, "name")));
    let (tests, ships): (Vec<_>, Vec<_>) = mine.partition(|d| word(d, "kind") == "dev");
    let names = |all: Vec<&Value>| all.into_iter().map(|d| word(d, "name").to_owned()).collect();
    (names(ships), names(tests))
}

#[test]
fn dependencies_point_one_way() -> Result<()> {
    let packages = packages()?;
    let ours: BTreeSet<String> = packages.iter().map(|p| word(p, "name").to_owned()).collect();
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ARROWS.into_iter().map(|(name, to)| (name, to.iter().copied().collect())).collect();
    let mut turned = Vec::new();
    for package in &packages {
        let name = word(package, "name");
        let (ships, tests) = uses(package, &ours);
        turned.extend(
            ships
                .iter()
                .chain(&tests)
                .filter(|d| TOOLS.contains(&d.as_str()))
                .map(|d| format!("{name} → {d}")),
        );
        if TOOLS.contains(&name) {
            continue;
        }
        let Some(allowed) = allowed.get(name) else {
            turned.push(format!("{name} has no place in the drawing"));
            continue;
        };
        turned
            .extend(ships.iter().filter(|d| !allowed.contains(d.as_str())).map(|d| format!("{name} → {d}")));
    }
    ensure!(turned.is_empty(), "arrows that DESIGN.md §2 does not know: {}", turned.join(", "));
    Ok(())
}

#[test]
fn the_drawing_has_no_circle() {
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    while done.len() < arrows.len() {
        let next: Vec<&str> = arrows
            .iter()
            .filter(|(name, to)| !done.contains(*name) && to.iter().all(|d| done.contains(d)))
            .map(|(name, _)| *name)
            .collect();
        assert!(!next.is_empty(), "a circle among those that are not in {done:?}");
        done.extend(next);
    }
}

#[test]
fn only_the_kernel_crate_may_be_unsafe() -> Result<()> {
    let workspace = std::fs::read_to_string(root().join("Cargo.toml"))?;
    ensure!(workspace.contains("unsafe_code = \"forbid\""), "the workspace does not forbid unsafe code");
    for package in packages()? {
        let manifest = std::fs::read_to_string(word(&package, "manifest_path"))?;
        let inherits = manifest.contains("[lints]\nworkspace = true");
        let name = word(&package, "name");
        ensure!(inherits != (name == "weft-kernel"), "{name}: inherits the workspace's lints: {inherits}");
    }
    // The forbidding lint says all but this: nobody has switched lints off from outside.
    let mut islands = BTreeSet::new();
    for (file, text) in sources()? {
        // Put together, so that this text is not itself what it looks for.
        let openings = ["{", "fn", "impl"].map(|next| ["un", "safe ", next].concat());
        let code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
        if code.clone().any(|l| openings.iter().any(|o| l.contains(o))) {
            islands.insert(file.components().take(2).collect::<PathBuf>());
        }
    }
    ensure!(islands == BTreeSet::from(["crates/kernel".into()]), "unsafe code in {islands:?}");
    Ok(())
}

#[test]
fn files_are_short_and_begin_with_what_they_are_for() -> Result<()> {
    let mut wrong = Vec::new();
    for (file, text) in sources()? {
        let lines = text.lines().count();
        if lines > CEILING {
            wrong.push(format!("{} has {lines} lines, more than {CEILING}", file.display()));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{} does not begin with what it is for", file.display()));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn nothing_names_the_machine_it_was_written_on() -> Result<()> {
    let here = root().canonicalize()?;
    // The whole path: a part of it, such as /tmp, may well stand in a test.
    let place = here.to_str().filter(|p| p.len() > 1);
    let mut wrong = Vec::new();
    for (file, text) in sources()? {
        let named = |line: &str| place.is_some_and(|p| line.contains(p));
        wrong.extend(text.lines().filter(|l| named(l)).map(|l| format!("{}: {l}", file.display())));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Every source file that is part of the repository, by its path from the root, with its text.
fn sources() -> Result<Vec<(PathBuf, String)>> {
    let root = root();
    let (mut open, mut found) = (Vec::new(), Vec::new());
    for part in ["crates", "tests", "benches", "fuzz", "xtask", "ebpf"] {
        open.push(PathBuf::from(part));
    }
    while let Some(folder) = open.pop() {
        let Ok(entries) = std::fs::read_dir(root.join(&folder)) else { continue };
        for entry in entries {
            let (name, path) = {
                let entry = entry?;
                (entry.file_name(), folder.join(entry.file_name()))
            };
            if root.join(&path).is_dir() {
                if name != "target" {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(root.join(&path))?;
                found.push((path, text));
            }
        }
    }
    ensure!(found.len() > 100, "only {} source files were found", found.len());
    Ok(found)
}
