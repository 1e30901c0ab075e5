//! Layers of somebody who wants out, or wants the host down. Each is refused with its reason, and nothing outside the
//! layer's folder has changed.

use std::io::Write;
use std::os::unix::fs::FileTypeExt;

use weft_runtime::image::{LayerError, Limits, Policy};

use crate::pack::{Ground, Pack};

/// Refused for this reason, and nothing touched.
fn refused(archive: &[u8], why: &str) {
    let ground = Ground::new();
    let error = ground.unpack(archive).expect_err(why);
    assert!(error.to_string().contains(why), "{error} — not: {why}");
    ground.assert_untouched();
}

#[test]
fn paths_that_lead_out() {
    for path in ["../canary/file", "a/../../canary/file", "..", "a/..", "./../canary/x"] {
        refused(&Pack::default().file(path, b"x").done(), "'..'");
        refused(&Pack::default().folder(path).done(), "'..'");
        refused(&Pack::default().pax(&[("path", path.as_bytes())]).file("a", b"x").done(), "'..'");
    }
    refused(&Pack::default().file("/etc/passwd", b"x").done(), "absolute");
    refused(&Pack::default().pax(&[("path", b"//etc")]).file("a", b"").done(), "absolute");
    refused(&Pack::default().pax(&[("path", b"a\0b")]).file("a", b"").done(), "makes no sense");
    refused(&Pack::default().file("", b"").done(), "no path");
    refused(&Pack::default().file("a/.wh...", b"").done(), "without a name");
    refused(&Pack::default().file(".wh.", b"").done(), "without a name");
}

#[test]
fn symbolic_links_that_lead_out() {
    let ground = Ground::new();
    let canary = ground.canary();
    for target in ["../canary", "..", "/", &canary.display().to_string(), "/proc/self/root", "a/../../canary"]
    {
        let link = || Pack::default().folder("a/").link("out", target);
        let why = "leads out of the layer";
        refused(&link().file("out/file", b"overwritten").done(), why);
        refused(&link().folder("out/new/").done(), why);
        refused(&link().link("out/new", "x").done(), why);
        refused(&link().file("out/.wh.file", b"").done(), why);
        refused(&link().file("out/.wh..wh..opq", b"").done(), why);
        refused(&link().file("out/deep/deeper/file", b"x").done(), why);
        refused(&link().file("x", b"x").name("out/new", "x").done(), why);
        // By way of a second link, and of a folder that becomes a link.
        refused(&link().link("second", "out").file("second/file", b"x").done(), why);
        refused(&link().folder("b/").link("b", target).file("b/file", b"x").done(), why);
    }
    // The last name may be a link: it is replaced, not followed.
    let archive = Pack::default().link("file", "../canary/file").file("file", b"mine").done();
    ground.unpack(&archive).unwrap();
    ground.assert_untouched();
    assert_eq!(std::fs::read_to_string(ground.diff().join("file")).unwrap(), "mine");
}

#[test]
fn a_folder_that_becomes_a_link_keeps_its_time_from_the_target() {
    let ground = Ground::new();
    let archive = Pack::default().folder("a/").folder("a/file/").link("a", "../canary").done();
    ground.unpack(&archive).unwrap();
    ground.assert_untouched();
}

#[test]
fn hard_links_that_lead_out() {
    refused(&Pack::default().name("x", "../canary/file").done(), "leads out of the layer");
    refused(&Pack::default().name("x", "/etc/passwd").done(), "leads out of the layer");
    refused(&Pack::default().link("out", "../canary").name("x", "out/file").done(), "not in the layer");
    refused(&Pack::default().name("x", "absent").done(), "not in the layer");
    refused(&Pack::default().name("x", "x").done(), "not in the layer");
    refused(&Pack::default().folder("d/").name("x", "d").done(), "cannot have two names");
    refused(&Pack::default().file(".wh.y", b"").name("x", "y").done(), "cannot have two names");
    // To itself: it stays as it is.
    let ground = Ground::new();
    ground.unpack(&Pack::default().file("x", b"x").name("x", "x").done()).unwrap();
    assert_eq!(std::fs::read(ground.diff().join("x")).unwrap(), b"x");
}

#[test]
fn device_nodes() {
    let node = |path: &[u8], kind, device| Pack::default().raw(kind, path, b"", 0, device).done();
    refused(&node(b"disk", b'4', (8, 0)), "device node outside dev");
    refused(&node(b"devil/null", b'3', (1, 3)), "device node outside dev");
    refused(&node(b"forged", b'3', (0, 0)), "device 0/0");
    let ground = Ground::new();
    let done = ground.unpack(&node(b"dev/null", b'3', (1, 3))).unwrap();
    assert_eq!(done.devices, 1);
    assert!(!ground.diff().join("dev/null").exists());
    let allowed = Policy { devices: true, ..Policy::default() };
    ground.unpack_with(&node(b"null", b'3', (1, 3)), &allowed).unwrap();
    assert!(std::fs::symlink_metadata(ground.diff().join("null")).unwrap().file_type().is_char_device());
    assert!(ground.unpack_with(&node(b"forged", b'3', (0, 0)), &allowed).is_err());
}

#[test]
fn attributes_that_overlayfs_would_believe() {
    let ground = Ground::new();
    let archive = Pack::default()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/../../etc"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.whiteout", b"y"),
            ("SCHILY.xattr.security.selinux", b"x"),
        ])
        .folder("a/")
        .done();
    assert_eq!(ground.unpack(&archive).unwrap().attributes, 4);
    let mut names = [0; 256];
    let len = rustix::fs::listxattr(ground.diff().join("a"), &mut names[..]).unwrap();
    assert!(!String::from_utf8_lossy(&names[..len]).contains("overlay"));
}

#[test]
fn archives_that_are_cut_off_or_damaged() {
    let whole = Pack::default().folder("a/").file("a/b", &[7; 3000]).file("c", b"x").cut();
    for len in (1..whole.len()).filter(|len| len % 61 == 0 && len % 512 != 0) {
        let error = Ground::new().unpack(&whole[..len]).expect_err("a part");
        assert!(matches!(error, LayerError::Truncated), "{len}: {error}");
    }
    let mut forged = whole;
    forged[0] ^= 1;
    refused(&forged, "checksum");
    refused(&[b'x'; 2000], "checksum");
    refused(&Pack::default().raw(b'0', b"a", b"", u64::MAX / 2, (0, 0)).done(), "bytes in one file");
    refused(&Pack::default().raw(b'Z', b"a", b"", 0, (0, 0)).done(), "a kind that tar does not define");
    refused(&Pack::default().raw(b'S', b"a", b"", 0, (0, 0)).done(), "sparse");
    refused(&Pack::default().raw(b'2', b"a", b"", 0, (0, 0)).done(), "to nothing");
    refused(&Pack::default().file("f", b"").file("f/below", b"").done(), "not a folder");
    // A size that the extended header corrects: the content must not be read as a header.
    let inner = Pack::default().file("smuggled", b"x").cut();
    let size = inner.len().to_string();
    let archive = Pack::default().pax(&[("size", size.as_bytes())]).raw(b'0', b"a", b"", 0, (0, 0)).cut();
    let archive = [archive, inner.clone(), vec![0; 1024]].concat();
    let ground = Ground::new();
    ground.unpack(&archive).unwrap();
    assert_eq!(std::fs::read(ground.diff().join("a")).unwrap(), inner);
    assert!(!ground.diff().join("smuggled").exists());
}

#[test]
fn more_than_is_taken() {
    let refused = |archive: &[u8], limits: Limits, why: &str| {
        let ground = Ground::new();
        let error = ground.limited(archive, limits).expect_err(why);
        assert!(error.to_string().contains(why), "{error} — not: {why}");
        ground.assert_untouched();
    };
    let some = Limits::default();
    let many = (0..30).fold(Pack::default(), |pack, n| pack.file(&n.to_string(), b"")).done();
    refused(&many, Limits { entries: 29, ..some }, "more than 29 entries");
    refused(
        &Pack::default().file("a", &[0; 2000]).done(),
        Limits { file: 1999, ..some },
        "1999 bytes in one file",
    );
    refused(
        &Pack::default().file("a", &[0; 4000]).done(),
        Limits { unpacked: 2000, ..some },
        "bytes when unpacked",
    );
    let long = "n".repeat(3000);
    let pax = |value: &str| Pack::default().pax(&[("path", value.as_bytes())]).file("a", b"").done();
    refused(&pax(&long), Limits { extended: 2000, ..some }, "2000 bytes in the headers");
    refused(&pax(&"d/".repeat(2100)), some, "path is too long");
    refused(&pax(&"d/".repeat(300)), some, "too deep");
    // Each link leads to the end of what the last one made deeper.
    let deeper = (0..9).fold(Pack::default().link("l0", "."), |pack, n| {
        let next = format!("l{n}/{}", "d/".repeat(40));
        pack.folder(&next).link(&format!("l{}", n + 1), &next)
    });
    refused(&deeper.done(), some, "too deep");
    refused(&pax(&"n".repeat(256)), some, "a name in its path is too long");
    let folders = (0..30).fold(Pack::default(), |pack, n| pack.folder(&n.to_string())).done();
    refused(&folders, Limits { folders: 1000, ..some }, "bytes of folders' names");
    // A header that claims a name of a gibibyte is refused before anything of it is read.
    let claims = Pack::default().raw(b'L', b"x", b"", 1 << 30, (0, 0)).cut();
    refused(&claims, some, "bytes in the headers");
}

/// An entry that changes nothing, over and over.
struct Endless(Vec<u8>, usize);

impl std::io::Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(self.0.len() - self.1);
        buffer[..count].copy_from_slice(&self.0[self.1..self.1 + count]);
        self.1 = (self.1 + count) % self.0.len();
        Ok(count)
    }
}

#[test]
fn a_million_entries_are_taken_and_no_more() {
    let ground = Ground::new();
    let entry = Pack::default().file(".wh..wh.plnk", b"").cut();
    let endless = Endless(entry, 0);
    let error = weft_runtime::image::unpack(
        endless,
        &ground.diff(),
        &[],
        &Policy::default(),
        &weft_runtime::image::Quiet,
    )
    .expect_err("endless");
    assert!(error.to_string().contains("more than 1000000 entries"), "{error}");
    ground.assert_untouched();
}

#[test]
fn a_bomb_is_not_unpacked() {
    // 300 MiB of zeroes in some kilobytes: beyond the free 256 MiB it is a bomb.
    let mut bomb = zstd::Encoder::new(Vec::new(), 1).unwrap();
    bomb.write_all(&Pack::default().raw(b'0', b"zeroes", b"", 300 << 20, (0, 0)).cut()).unwrap();
    for _ in 0..300 {
        bomb.write_all(&[0; 1 << 20]).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    let ground = Ground::new();
    let error = ground.unpack(&bomb).expect_err("a bomb");
    assert!(matches!(error, LayerError::Bomb { .. }), "{error}");
    ground.assert_untouched();
}
