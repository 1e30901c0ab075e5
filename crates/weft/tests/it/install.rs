//! Installing into an image, and taking it out again: before equals after.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::scene::Image;

const INSTALLED: [&str; 10] = [
    "etc/NetworkManager/conf.d/weft.conf",
    "etc/cni/net.d/10-weft.conflist",
    "etc/systemd/network/05-weft.network",
    "etc/systemd/system/weft-containers.service",
    "etc/systemd/system/weft.service",
    "etc/weft/config.toml",
    "opt/cni/bin/weft",
    "usr/local/bin/weft",
    "var/lib/weft/installed.json",
    "var/lib/weft/installed.lock",
];

#[test]
fn what_comes_goes_and_the_tree_is_as_before() {
    for options in [&["install"][..], &["install", "--enable"], &["install", "--no-cni"]] {
        let image = Image::new();
        let before = image.snapshot();
        image.weft(options).ok();
        assert_ne!(image.snapshot(), before);
        let run = image.weft(&["uninstall"]).ok();
        assert_eq!(image.snapshot(), before, "{run:?}");
        let again = image.weft(&["uninstall"]).ok();
        assert_eq!(again.out, "nothing is installed\n");
    }
}

#[test]
fn the_files_are_there_with_their_modes_and_nothing_else() {
    let image = Image::new();
    let before = image.snapshot();
    image.weft(&["install", "--enable"]).ok();
    let after = image.snapshot();
    let mut fresh: Vec<String> = Vec::new();
    for (path, thing) in after.iter().filter(|(p, _)| !before.contains_key(*p)) {
        let full = image.root().join(path);
        if full.is_dir() {
            let expected = if path.ends_with("var/lib/weft") { 0o700 } else { 0o755 };
            assert_eq!(thing.mode & 0o7777, expected, "{}", path.display());
        } else if !full.is_symlink() {
            let mode = match path.file_name().and_then(|n| n.to_str()) {
                Some("weft") => 0o755,
                Some("installed.lock") => 0o600,
                _ => 0o644,
            };
            assert_eq!(thing.mode & 0o7777, mode, "{}", path.display());
            fresh.push(path.display().to_string());
        }
    }
    fresh.sort_by_key(|p| p.to_lowercase());
    let mut expected = INSTALLED.to_vec();
    expected.sort_by_key(|p| p.to_lowercase());
    assert_eq!(fresh, expected);
    let link = fs::read_link(image.path("etc/systemd/system/multi-user.target.wants/weft.service")).unwrap();
    assert_eq!(link.to_str(), Some("/etc/systemd/system/weft.service"));
    assert_eq!(
        (image.read("usr/local/bin/weft"), image.read("opt/cni/bin/weft")),
        ("program 1".into(), "plugin 1".into())
    );
}

#[test]
fn the_umask_does_not_matter() {
    let image = Image::new();
    let arguments = image.arguments(&["install"]);
    let script = "umask 077; exec \"$@\"";
    let status = std::process::Command::new("sh")
        .args(["-c", script, "sh", crate::scene::WEFT])
        .args(&arguments)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let mode = |path: &str| fs::metadata(image.path(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        (mode("usr/local/bin/weft"), mode("etc/weft"), mode("etc/weft/config.toml")),
        (0o755, 0o755, 0o644)
    );
}

#[test]
fn the_unit_and_the_list_say_what_was_asked() {
    let image = Image::new();
    image.weft(&["install", "--prefix", "/opt/weft", "--socket", "/run/x.sock"]).ok();
    let unit = image.read("etc/systemd/system/weft.service");
    for line in [
        "ExecStart=/opt/weft/bin/weft agent",
        "Restart=always",
        "RestartSec=0.2",
        "RuntimeDirectoryPreserve=yes",
        "KillMode=process",
        "NoNewPrivileges=yes",
        "ProtectSystem=full",
    ] {
        assert!(unit.lines().any(|l| l == line), "{line}\n{unit}");
    }
    let list: serde_json::Value =
        serde_json::from_str(&image.read("etc/cni/net.d/10-weft.conflist")).unwrap();
    assert_eq!((&list["cniVersion"], &list["name"]), (&"1.0.0".into(), &"weft".into()));
    let plugin = &list["plugins"][0];
    assert_eq!((&plugin["type"], &plugin["socket"]), (&"weft".into(), &"/run/x.sock".into()));
    assert_eq!(
        plugin["capabilities"],
        serde_json::json!({"bandwidth": true, "ips": true, "mac": true, "ipRanges": true, "dns": true, "portMappings": true})
    );
}

#[test]
fn without_the_plugin_at_hand_it_says_how_to_go_on() {
    let image = Image::new();
    let before = image.snapshot();
    fs::remove_file(image.beside("weft-cni")).unwrap();
    let run = image.weft(&["install"]).code(1);
    assert!(run.err.contains("hint: name it with --plugin FILE, or do without by --no-cni"), "{run:?}");
    assert_eq!(image.snapshot(), before);
    image.weft(&["cni", "uninstall", "--json"]).ok();
}

#[test]
fn changes_are_told_as_text_and_as_a_document() {
    let image = Image::new();
    let run = image.weft(&["install", "--json"]).ok();
    let (document, keys) = run.document();
    assert_eq!(keys, ["changes"]);
    assert_eq!(
        document["changes"][0],
        serde_json::json!({"action": "created", "path": "/usr/local/bin/weft"})
    );
    let (_, keys) = image.weft(&["uninstall", "--json"]).ok().document();
    assert_eq!(keys, ["changes", "commands"]);
}
