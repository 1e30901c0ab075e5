//! Installing again: our files are replaced, a person's work is kept.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::scene::{Image, WEFT, command};

#[test]
fn a_newer_program_replaces_the_older() {
    let image = Image::new();
    let before = image.snapshot();
    image.weft(&["install"]).ok();
    fs::write(image.beside("weft"), "program 2").unwrap();
    let run = image.weft(&["install"]).ok();
    assert!(run.out.contains("replaced  /usr/local/bin/weft\n"), "{run:?}");
    assert!(run.out.contains("kept      /opt/cni/bin/weft\n"), "{run:?}");
    assert_eq!(image.read("usr/local/bin/weft"), "program 2");
    image.weft(&["uninstall"]).ok();
    assert_eq!(image.snapshot(), before);
}

/// The agent holds its state directory locked as long as it runs, and an upgrade comes while it does.
#[test]
fn a_running_agent_is_in_nobodys_way() {
    let image = Image::new();
    image.weft(&["install"]).ok();
    let held = fs::File::open(image.path("var/lib/weft")).unwrap();
    held.try_lock().unwrap();
    fs::write(image.beside("weft"), "program 2").unwrap();
    image.weft(&["install"]).ok();
    assert_eq!(image.read("usr/local/bin/weft"), "program 2");
    image.weft(&["cni", "uninstall"]).ok();
}

#[test]
fn two_at_once_are_one_too_many() {
    let image = Image::new();
    image.weft(&["install"]).ok();
    let before = image.snapshot();
    let held = fs::File::open(image.path("var/lib/weft/installed.lock")).unwrap();
    held.try_lock().unwrap();
    for command in [&["install"], &["uninstall"]] {
        let run = image.weft(command);
        assert!(run.err.contains("another weft is installing or uninstalling here"), "{run:?}");
        assert_eq!(image.snapshot(), before);
    }
}

#[test]
fn twice_the_same_changes_nothing() {
    let image = Image::new();
    image.weft(&["install", "--enable"]).ok();
    let once = image.snapshot();
    let run = image.weft(&["install", "--enable"]).ok();
    assert_eq!(image.snapshot(), once);
    assert!(run.out.lines().all(|l| l.starts_with("kept ")), "{run:?}");
    // Not to ask for it again is not to disable it.
    image.weft(&["install"]).ok();
    assert_eq!(image.snapshot(), once);
}

#[test]
fn an_edited_configuration_is_kept_and_removed_in_the_end_with_a_word() {
    let image = Image::new();
    let before = image.snapshot();
    image.weft(&["install"]).ok();
    image.write("etc/weft/config.toml", "block_metadata = false\n");
    let run = image.weft(&["install"]).ok();
    assert!(run.out.contains("kept  /etc/weft/config.toml  (it was edited)\n"), "{run:?}");
    assert_eq!(image.read("etc/weft/config.toml"), "block_metadata = false\n");
    let run = image.weft(&["uninstall"]).ok();
    assert!(run.out.contains("removed  /etc/weft/config.toml  (it had been edited)\n"), "{run:?}");
    assert_eq!(image.snapshot(), before);
}

#[test]
fn an_edited_unit_is_replaced_and_that_is_said() {
    let image = Image::new();
    image.weft(&["install"]).ok();
    let unit = image.read("etc/systemd/system/weft.service");
    image.write("etc/systemd/system/weft.service", "[Unit]\n");
    let run = image.weft(&["install"]).ok();
    assert!(run.out.contains("(it had been edited; the edit is gone)"), "{run:?}");
    assert_eq!(image.read("etc/systemd/system/weft.service"), unit);
}

#[test]
fn files_that_moved_do_not_stay_behind() {
    let image = Image::new();
    let before = image.snapshot();
    image.weft(&["install", "--cni-bin", "/opt/old/bin"]).ok();
    let run = image.weft(&["install"]).ok();
    assert!(run.out.contains("removed  /opt/old/bin/weft"), "{run:?}");
    assert!(image.path("opt/cni/bin/weft").exists() && !image.path("opt/old/bin/weft").exists());
    image.weft(&["uninstall"]).ok();
    assert_eq!(image.snapshot(), before);
}

#[test]
fn keep_state_keeps_the_edited_configuration_until_the_next_time() {
    let image = Image::new();
    let before = image.snapshot();
    image.weft(&["install"]).ok();
    image.write("etc/weft/config.toml", "block_metadata = false\n");
    let run = image.weft(&["uninstall", "--keep-state"]).ok();
    assert!(run.out.contains("kept     /etc/weft/config.toml  (it was edited)\n"), "{run:?}");
    assert_eq!(image.read("etc/weft/config.toml"), "block_metadata = false\n");
    assert!(!image.path("usr/local/bin/weft").exists());
    image.weft(&["install"]).ok();
    assert_eq!(image.read("etc/weft/config.toml"), "block_metadata = false\n");
    image.weft(&["uninstall"]).ok();
    assert_eq!(image.snapshot(), before);
}

#[test]
fn a_run_that_was_killed_is_made_good() {
    let image = Image::new();
    let before = image.snapshot();
    image.weft(&["install"]).ok();
    // As if it had died before the plugin was written, with a temporary file left over.
    let mut manifest: Value = serde_json::from_str(&image.read("var/lib/weft/installed.json")).unwrap();
    for entry in manifest["files"].as_array_mut().unwrap() {
        entry["pending"] = true.into();
    }
    image.write("var/lib/weft/installed.json", &manifest.to_string());
    fs::remove_file(image.path("opt/cni/bin/weft")).unwrap();
    image.write("opt/cni/bin/.weft-tmp-1-1", "half of it");
    let killed = image.folder.path().join("killed");
    assert!(
        std::process::Command::new("cp").arg("-a").arg(image.root()).arg(&killed).status().unwrap().success()
    );

    image.weft(&["uninstall"]).ok();
    assert_eq!(image.snapshot(), before);

    fs::remove_dir_all(image.root()).unwrap();
    fs::rename(&killed, image.root()).unwrap();
    image.weft(&["install"]).ok();
    assert_eq!(image.read("opt/cni/bin/weft"), "plugin 1");
    assert!(!image.path("opt/cni/bin/.weft-tmp-1-1").exists());
    image.weft(&["uninstall"]).ok();
    assert_eq!(image.snapshot(), before);
}

#[test]
fn killed_at_any_moment_it_can_be_undone_and_done_again() {
    let mut killed = 0;
    for round in 0..60 {
        let image = Image::new();
        let before = image.snapshot();
        if round % 2 == 1 {
            image.weft(&["install"]).ok();
            fs::write(image.beside("weft"), "program 2").unwrap();
        }
        let arguments = image.arguments(&["install", "--enable"]);
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = command(Path::new(WEFT), &words);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(150 * round));
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().code().is_none());
        if round % 3 == 0 {
            image.weft(&["install"]).ok();
        }
        let run = image.weft(&["uninstall"]).ok();
        assert_eq!(image.snapshot(), before, "round {round}: {run:?}");
    }
    assert!(killed > 0, "every run was over before it could be killed");
}
