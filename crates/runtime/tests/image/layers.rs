//! What layers are made of, one subject each.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::getxattr;
use weft_runtime::image::{Digest, LayerError, Policy, Quiet, unpack};

use crate::pack::{Ground, Pack};

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_char_device() && meta.rdev() == 0)
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let len = getxattr(path, name, &mut value[..]).ok()?;
    Some(value[..len].to_vec())
}

fn is_opaque(path: &Path) -> bool {
    attribute(path, "trusted.overlay.opaque").as_deref() == Some(b"y")
}

#[test]
fn files_folders_links_and_what_belongs_to_them() {
    let ground = Ground::new();
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let archive = Pack::default()
        .folder("./")
        .folder("usr/")
        .folder("usr/bin/")
        .owner(7, 8)
        .mode(0o4755)
        .file("usr/bin/su", b"program")
        .name("usr/bin/other", "usr/bin/su")
        .mode(0o644)
        .link("bin", "usr/bin")
        .file("bin/through", b"the link stays inside")
        .link("absolute", "/etc/passwd")
        .pax(&[("SCHILY.xattr.security.capability", capability), ("mtime", b"12.5")])
        .file("usr/bin/ping", b"")
        .raw(b'6', b"pipe", b"", 0, (0, 0))
        .done();
    let done = ground.unpack(&archive).unwrap();
    assert_eq!(done.diff_id, Digest::of(&archive));
    assert_eq!((done.entries, done.devices, done.attributes, done.opaque), (10, 0, 0, false));
    let at = |path: &str| ground.diff().join(path);
    let su = fs::symlink_metadata(at("usr/bin/su")).unwrap();
    assert_eq!(
        (su.mode() & 0o7777, su.uid(), su.gid(), su.mtime(), su.nlink()),
        (0o4755, 7, 8, 1_000_000_000, 2)
    );
    assert_eq!(fs::symlink_metadata(at("usr/bin/other")).unwrap().ino(), su.ino());
    assert_eq!(fs::read_link(at("absolute")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::read_to_string(at("usr/bin/through")).unwrap(), "the link stays inside");
    assert_eq!(attribute(&at("usr/bin/ping"), "security.capability").as_deref(), Some(&capability[..]));
    let ping = fs::symlink_metadata(at("usr/bin/ping")).unwrap();
    assert_eq!((ping.mtime(), ping.mtime_nsec()), (12, 500_000_000));
    assert!(fs::symlink_metadata(at("pipe")).unwrap().file_type().is_fifo());
    // A folder's own time, although something was put into it afterwards.
    assert_eq!(fs::metadata(at("usr/bin")).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn whiteouts_and_opaque_folders() {
    let ground = Ground::new();
    let archive = Pack::default()
        .folder("a/")
        .file("a/.wh.gone", b"")
        .folder("b/")
        .file("b/.wh..wh..opq", b"")
        .file("b/new", b"x")
        .file(".wh.c", b"")
        .folder("c/")
        .file("c/new", b"x")
        .folder("d/")
        .file(".wh.d", b"")
        .file("e", b"mine")
        .file(".wh.e", b"")
        .file(".wh..wh.plnk", b"")
        .file(".wh.f", b"")
        .file("f/deep", b"x")
        .done();
    ground.unpack(&archive).unwrap();
    let at = |path: &str| ground.diff().join(path);
    assert!(is_whiteout(&at("a/gone")) && !is_opaque(&at("a")));
    assert!(is_opaque(&at("b")) && at("b/new").exists());
    assert!(is_opaque(&at("c")), "taken away and made anew");
    assert!(is_opaque(&at("d")), "made and then its older self taken away");
    assert_eq!(fs::read_to_string(at("e")).unwrap(), "mine", "a whiteout counts for layers below only");
    assert!(is_opaque(&at("f")) && at("f/deep").exists());
    let names: Vec<_> = fs::read_dir(ground.diff()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!names.iter().any(|n| n.to_string_lossy().starts_with(".wh.")), "{names:?}");
}

#[test]
fn a_later_entry_takes_the_place_of_an_earlier_one() {
    let ground = Ground::new();
    let archive = Pack::default()
        .folder("a/")
        .file("a/b", b"1")
        .file("a", b"a file now")
        .file("c", b"1")
        .folder("c/")
        .file("c/d", b"2")
        .file("e", b"first")
        .file("e", b"second")
        .link("l", "e")
        .file("l", b"not through the link")
        .folder("x/")
        .link("way", "x")
        .file("way/1", b"through the link")
        .folder("way/")
        .file("way/2", b"not any more")
        .done();
    ground.unpack(&archive).unwrap();
    let read = |path: &str| fs::read_to_string(ground.diff().join(path)).unwrap();
    assert_eq!((read("a").as_str(), read("c/d").as_str()), ("a file now", "2"));
    assert_eq!((read("x/1").as_str(), read("way/2").as_str()), ("through the link", "not any more"));
    assert_eq!((read("e").as_str(), read("l").as_str()), ("second", "not through the link"));
}

#[test]
fn folders_that_no_entry_describes_are_as_in_the_layers_below() {
    let (low, middle, top) = (Ground::new(), Ground::new(), Ground::new());
    let archive =
        Pack::default().owner(3, 4).mode(0o2750).folder("./").folder("a/").folder("a/b/").folder("c/").done();
    low.unpack(&archive).unwrap();
    let hides = Pack::default().file(".wh.c", b"").done();
    unpack(&hides[..], &middle.diff(), &[(&low.diff(), false)], &Policy::default(), &Quiet).unwrap();
    let uses = Pack::default().file("a/b/new", b"x").file("c/new", b"x").file("d/new", b"x").done();
    let below = [(&*middle.diff(), false), (&*low.diff(), false)];
    unpack(&uses[..], &top.diff(), &below, &Policy::default(), &Quiet).unwrap();
    let how = |path: &str| {
        let meta = fs::metadata(top.diff().join(path)).unwrap();
        (meta.permissions().mode() & 0o7777, meta.uid(), meta.gid())
    };
    assert_eq!([how(""), how("a"), how("a/b")], [(0o2750, 3, 4); 3]);
    assert_eq!([how("c"), how("d")], [(0o755, 0, 0); 2], "hidden, and nowhere");
}

#[test]
fn every_compression_has_the_same_content() {
    let archive = Pack::default().file("a", &[b'x'; 300_000]).done();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&archive[..1000]).unwrap();
    let mut gzip = gzip.finish().unwrap();
    let mut second = flate2::write::GzEncoder::new(&mut gzip, flate2::Compression::fast());
    second.write_all(&archive[1000..]).unwrap(); // members one after the other, as pigz and eStargz write
    second.finish().unwrap();
    let mut zstd = vec![0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]; // a frame to be skipped
    zstd.extend(zstd::encode_all(&archive[..], 3).unwrap());
    for packed in [&archive, &gzip, &zstd] {
        let ground = Ground::new();
        assert_eq!(ground.unpack(packed).unwrap().diff_id, Digest::of(&archive));
        assert_eq!(fs::metadata(ground.diff().join("a")).unwrap().len(), 300_000);
    }
    for broken in [&gzip[..gzip.len() - 20], &zstd[..zstd.len() - 5]] {
        assert!(matches!(Ground::new().unpack(broken), Err(LayerError::Decompress { .. })));
    }
}

#[test]
fn long_names_in_both_forms() {
    let long = vec!["folder-with-a-long-name"; 20].join("/");
    let mut gnu = Vec::new();
    {
        let mut builder = tar::Builder::new(&mut gnu);
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o600);
        builder.append_data(&mut header, &long, &b"x"[..]).unwrap();
        builder.finish().unwrap();
    }
    let pax = Pack::default().pax(&[("path", long.as_bytes())]).file("short", b"x").done();
    for archive in [gnu, pax] {
        let ground = Ground::new();
        ground.unpack(&archive).unwrap();
        assert_eq!(fs::read_to_string(ground.diff().join(&long)).unwrap(), "x");
    }
}
