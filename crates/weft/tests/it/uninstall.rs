//! Foreign files: refused, kept, put back.

use std::fs;

use crate::scene::Image;

const CONFLIST: &str = "etc/cni/net.d/10-weft.conflist";

#[test]
fn foreign_files_in_the_way_are_all_named_and_nothing_is_written() {
    let image = Image::new();
    image.write(CONFLIST, "{}");
    image.write("usr/local/bin/weft", "a weaver's program");
    let before = image.snapshot();
    let run = image.weft(&["install"]).code(1);
    let expected = "nothing was installed: not made by weft, and in the way: /usr/local/bin/weft, /etc/cni/net.d/10-weft.conflist";
    assert!(run.err.contains(expected), "{run:?}");
    assert!(run.err.contains("\nhint: --force "), "{run:?}");
    assert_eq!(image.snapshot(), before);
}

#[test]
fn force_keeps_them_and_uninstall_puts_them_back() {
    let image = Image::new();
    image.write(CONFLIST, "{}");
    image.write("usr/local/bin/weft", "a weaver's program");
    let before = image.snapshot();
    image.weft(&["install", "--force"]).ok();
    assert_eq!(image.read("usr/local/bin/weft"), "program 1");
    assert_eq!(image.read("usr/local/bin/weft.weft-saved"), "a weaver's program");
    // The record of what was saved outlives upgrades.
    fs::write(image.beside("weft"), "program 2").unwrap();
    image.weft(&["install"]).ok();
    let run = image.weft(&["uninstall"]).ok();
    assert!(run.out.contains("restored  /usr/local/bin/weft\n"), "{run:?}");
    assert_eq!(image.snapshot(), before);
}

#[test]
fn identical_files_are_not_ours_and_stay() {
    let image = Image::new();
    image.write("usr/local/bin/weft", "program 1");
    let before = image.snapshot();
    let run = image.weft(&["install"]).ok();
    assert!(run.out.contains("kept     /usr/local/bin/weft  (it was there before weft)\n"), "{run:?}");
    image.weft(&["uninstall"]).ok();
    assert_eq!(image.snapshot(), before);
}

#[test]
fn a_configuration_that_was_there_first_is_kept_for_ever() {
    let image = Image::new();
    image.write("etc/weft/config.toml", "default_network = false\n");
    let before = image.snapshot();
    image.weft(&["install"]).ok();
    assert_eq!(image.read("etc/weft/config.toml"), "default_network = false\n");
    image.weft(&["uninstall"]).ok();
    assert_eq!(image.snapshot(), before);
}

#[test]
fn what_others_put_into_our_directories_stays() {
    let image = Image::new();
    image.weft(&["install"]).ok();
    image.write("opt/cni/bin/bridge", "theirs");
    let run = image.weft(&["uninstall"]).ok();
    assert!(run.out.contains("left     /opt/cni/bin  (the directory is not empty)\n"), "{run:?}");
    assert_eq!(image.read("opt/cni/bin/bridge"), "theirs");
    assert!(!image.path("opt/cni/bin/weft").exists());
}

#[test]
fn a_pending_file_that_turned_out_to_be_another_is_left() {
    let image = Image::new();
    image.weft(&["install"]).ok();
    let manifest = image.read("var/lib/weft/installed.json");
    let manifest = manifest.replace("\"settings\": true", "\"settings\": true, \"pending\": true");
    image.write("var/lib/weft/installed.json", &manifest);
    image.write(CONFLIST, "{\"name\": \"theirs\"}");
    let run = image.weft(&["uninstall"]).ok();
    assert!(run.out.contains("10-weft.conflist  (it is not weft's)"), "{run:?}");
    assert_eq!(image.read(CONFLIST), "{\"name\": \"theirs\"}");
}

#[test]
fn a_link_made_by_systemctl_enable_goes_with_the_unit() {
    let image = Image::new();
    fs::create_dir(image.path("etc/systemd/system/multi-user.target.wants")).unwrap();
    let before = image.snapshot();
    image.weft(&["install"]).ok();
    let link = image.path("etc/systemd/system/multi-user.target.wants/weft.service");
    std::os::unix::fs::symlink("/etc/systemd/system/weft.service", &link).unwrap();
    image.weft(&["uninstall"]).ok();
    assert_eq!(image.snapshot(), before);
}
