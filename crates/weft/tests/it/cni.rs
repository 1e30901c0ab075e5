//! The CNI part by itself, and beside the node's.

use serde_json::Value;

use crate::scene::Image;

#[test]
fn the_part_comes_and_goes_by_itself() {
    let image = Image::new();
    let before = image.snapshot();
    image
        .weft(&["cni", "install", "--network", "app", "--bin", "/usr/lib/cni", "--conf", "/etc/cni/conf"])
        .ok();
    let list: Value = serde_json::from_str(&image.read("etc/cni/conf/10-weft.conflist")).unwrap();
    assert_eq!(list["plugins"][0]["network"], "app");
    assert!(image.path("usr/lib/cni/weft").exists() && !image.path("usr/local/bin/weft").exists());
    image.weft(&["cni", "uninstall"]).ok();
    assert_eq!(image.snapshot(), before);
    assert_eq!(image.weft(&["cni", "uninstall"]).ok().out, "nothing is installed\n");
}

#[test]
fn the_two_parts_do_not_disturb_each_other() {
    let image = Image::new();
    let before = image.snapshot();
    image.weft(&["install", "--no-cni"]).ok();
    let node = image.snapshot();
    image.weft(&["cni", "install"]).ok();
    image.weft(&["cni", "uninstall"]).ok();
    assert_eq!(image.snapshot(), node);
    image.weft(&["cni", "install"]).ok();
    image.weft(&["install", "--no-cni"]).ok();
    assert!(image.path("opt/cni/bin/weft").exists());
    image.weft(&["uninstall"]).ok();
    assert_eq!(image.snapshot(), before);
}

#[test]
fn another_network_replaces_the_list_unless_it_was_edited() {
    let image = Image::new();
    image.weft(&["cni", "install"]).ok();
    image.weft(&["cni", "install", "--network", "app"]).ok();
    assert!(image.read("etc/cni/net.d/10-weft.conflist").contains("\"network\": \"app\""));
    image.write("etc/cni/net.d/10-weft.conflist", "{}");
    let run = image.weft(&["cni", "install"]).ok();
    assert!(run.out.contains("(it was edited)"), "{run:?}");
    image.weft(&["cni", "install", "--force"]).ok();
    assert!(image.read("etc/cni/net.d/10-weft.conflist").contains("cniVersion"));
}
