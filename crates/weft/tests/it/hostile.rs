//! Links laid out as traps, and failures half-way: nothing outside the image changes, and nothing stays.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::scene::{Image, Run, WEFT, command};

/// A directory outside the image, which must stay empty.
fn outside(image: &Image) -> std::path::PathBuf {
    let outside = image.beside("outside");
    fs::create_dir_all(&outside).unwrap();
    outside
}

#[test]
fn a_link_in_the_place_of_a_parent_is_refused() {
    for parent in
        ["etc/weft", "opt/cni", "etc/systemd/network", "etc/NetworkManager", "var/lib/weft", "usr/local/bin"]
    {
        let image = Image::new();
        let outside = outside(&image);
        let _ = fs::remove_dir_all(image.path(parent));
        symlink(&outside, image.path(parent)).unwrap();
        let before = image.snapshot();
        let run = image.weft(&["install", "--force"]).code(1);
        assert!(run.err.contains("symbolic link"), "{parent}: {run:?}");
        assert_eq!(image.snapshot(), before, "{parent}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{parent}");
    }
}

#[test]
fn a_link_in_the_place_of_a_file_is_refused_even_by_force() {
    for file in [
        "usr/local/bin/weft",
        "etc/weft/config.toml",
        "etc/cni/net.d/10-weft.conflist",
        "var/lib/weft/installed.json",
    ] {
        for dangling in [true, false] {
            let image = Image::new();
            let target = outside(&image).join("target");
            if !dangling {
                fs::write(&target, "precious").unwrap();
            }
            fs::create_dir_all(image.path(file).parent().unwrap()).unwrap();
            symlink(&target, image.path(file)).unwrap();
            let before = image.snapshot();
            image.weft(&["install", "--force"]).code(1);
            assert_eq!(image.snapshot(), before, "{file}");
            assert_eq!(
                fs::read_to_string(&target).ok().as_deref(),
                (!dangling).then_some("precious"),
                "{file}"
            );
        }
    }
}

#[test]
fn a_file_of_ours_that_became_a_link_is_neither_followed_nor_removed() {
    let image = Image::new();
    image.weft(&["install"]).ok();
    let target = outside(&image).join("target");
    fs::write(&target, "precious").unwrap();
    fs::remove_file(image.path("etc/weft/config.toml")).unwrap();
    symlink(&target, image.path("etc/weft/config.toml")).unwrap();
    image.weft(&["install"]).code(1);
    let run = image.weft(&["uninstall"]).ok();
    assert!(run.out.contains("it is no longer the file that was installed"), "{run:?}");
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
}

#[test]
fn a_parent_that_became_a_link_keeps_its_file_in_the_record() {
    let image = Image::new();
    image.weft(&["install"]).ok();
    let outside = outside(&image);
    fs::write(outside.join("weft"), "plugin 1").unwrap();
    fs::remove_dir_all(image.path("opt/cni/bin")).unwrap();
    symlink(&outside, image.path("opt/cni/bin")).unwrap();
    let run = image.weft(&["uninstall"]).code(1);
    assert!(run.err.contains("symbolic link") && !image.path("usr/local/bin/weft").exists(), "{run:?}");
    assert_eq!(fs::read_to_string(outside.join("weft")).unwrap(), "plugin 1");
    fs::remove_file(image.path("opt/cni/bin")).unwrap();
    image.weft(&["uninstall"]).ok();
    assert!(!image.path("var/lib/weft").exists());
}

#[test]
fn a_record_that_leads_out_of_the_image_is_refused() {
    let image = Image::new();
    image.weft(&["install"]).ok();
    let manifest = image.read("var/lib/weft/installed.json");
    for bad in ["/../outside/x", "relative", "/"] {
        image.write("var/lib/weft/installed.json", &manifest.replace("/opt/cni/bin/weft", bad));
        let before = image.snapshot();
        let run = image.weft(&["uninstall"]).code(1);
        assert!(run.err.contains("cannot be understood"), "{run:?}");
        assert_eq!(image.snapshot(), before);
    }
}

#[test]
fn directories_and_special_files_in_the_way_are_refused() {
    let image = Image::new();
    fs::create_dir(image.path("usr/local/bin/weft")).unwrap();
    let before = image.snapshot();
    image.weft(&["install", "--force"]).code(1);
    assert_eq!(image.snapshot(), before);
    fs::remove_dir(image.path("usr/local/bin/weft")).unwrap();
    fs::write(image.path("etc/weft"), "a file where a directory belongs").unwrap();
    let before = image.snapshot();
    image.weft(&["install"]).code(1);
    assert_eq!(image.snapshot(), before);
}

/// Root may write anywhere: run as nobody, on a tree of nobody's.
fn as_nobody(image: &Image, words: &[&str]) -> Run {
    let program = image.beside("program");
    if !program.exists() {
        fs::copy(WEFT, &program).unwrap();
    }
    let arguments = image.arguments(words);
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = command(&program, &words);
    if fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0) {
        give(image.folder.path());
        command.uid(65534).gid(65534);
    }
    Run::of(&command.output().unwrap())
}

fn give(path: &Path) {
    chown(path, Some(65534), Some(65534)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|e| give(&e.unwrap().path()));
    }
}

fn writable(image: &Image, path: &str, yes: bool) {
    let mode = if yes { 0o755 } else { 0o555 };
    fs::set_permissions(image.path(path), fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_failure_half_way_takes_everything_back() {
    for read_only in ["opt", "etc/systemd/system", "etc/cni"] {
        let image = Image::new();
        as_nobody(&image, &["uninstall"]).ok();
        writable(&image, read_only, false);
        let before = image.snapshot();
        let run = as_nobody(&image, &["install"]).code(1);
        assert!(run.err.starts_with("weft: nothing was installed: failed to "), "{run:?}");
        assert!(run.err.contains("\nhint: run this as root"), "{run:?}");
        assert_eq!(image.snapshot(), before, "{read_only}");
        writable(&image, read_only, true);
    }
}

#[test]
fn an_upgrade_that_fails_half_way_leaves_the_older_version() {
    let image = Image::new();
    image.write("etc/cni/net.d/10-weft.conflist", "{}");
    as_nobody(&image, &["install", "--force"]).ok();
    fs::write(image.beside("weft"), "program 2").unwrap();
    fs::write(image.beside("weft-cni"), "plugin 2").unwrap();
    writable(&image, "opt/cni/bin", false);
    let before = image.snapshot();
    as_nobody(&image, &["install", "--enable"]).code(1);
    assert_eq!(image.snapshot(), before);
    writable(&image, "opt/cni/bin", true);
    as_nobody(&image, &["install", "--enable"]).ok();
    assert_eq!(image.read("opt/cni/bin/weft"), "plugin 2");
}

#[test]
fn what_cannot_be_removed_is_said_and_can_be_tried_again() {
    let image = Image::new();
    as_nobody(&image, &["uninstall"]).ok();
    let before = image.snapshot();
    as_nobody(&image, &["install"]).ok();
    writable(&image, "opt/cni/bin", false);
    let run = as_nobody(&image, &["uninstall"]).code(1);
    assert!(run.err.contains("failed to remove /opt/cni/bin/weft"), "{run:?}");
    assert!(!image.path("usr/local/bin/weft").exists());
    writable(&image, "opt/cni/bin", true);
    as_nobody(&image, &["uninstall"]).ok();
    assert_eq!(image.snapshot(), before);
}
