//! Container images made on the spot from busybox: no registry, and the same bytes every time.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::{Sandbox, programs};

/// Busybox with a web server; what the suite's containers run.
pub const BUSYBOX: &str = "localhost/weft-busybox:1";
/// Waits until it is told to end; what holds a pod's namespaces.
pub const PAUSE: &str = "localhost/weft-pause:1";
/// Where [`put`] leaves the archive in a sandbox.
pub const ARCHIVE: &str = "/run/images.tar";

const APPLETS: [&str; 14] = [
    "cat", "echo", "hostname", "httpd", "id", "ip", "ls", "nc", "ping", "sh", "sleep", "timeout", "true",
    "wget",
];

/// Writes one docker-save archive with both images into the sandbox.
///
/// # Errors
/// If there is no statically linked busybox.
pub fn put(sandbox: &Sandbox) -> Result<()> {
    sandbox.write(ARCHIVE, archive()?)
}

/// The archive: one layer, two images of it that differ in their command.
///
/// # Errors
/// If there is no statically linked busybox.
pub fn archive() -> Result<Vec<u8>> {
    programs::require(&["busybox"])?;
    let file = programs::find("busybox").context("no busybox")?;
    let busybox = std::fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?;
    ensure!(
        is_static(&busybox),
        "{} is dynamically linked: containers need the package busybox-static (scripts/setup test)",
        file.display()
    );
    let layer = layer(&busybox)?;
    let layer_name = format!("{}.tar", hex(&layer));
    let mut archive = Builder::new(Vec::new());
    let mut manifest = Vec::new();
    // A first process gets no signal that it does not handle: hence the trap.
    let pause = ["/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait; done"];
    for (tag, command) in [(BUSYBOX, &["/bin/sh"][..]), (PAUSE, &pause)] {
        let config = json!({
            "architecture": architecture()?,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": { "Env": ["PATH=/bin"], "WorkingDir": "/", "Cmd": command },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))] },
            "history": [{ "created": "1970-01-01T00:00:00Z" }],
        });
        let config = config.to_string().into_bytes();
        let name = format!("{}.json", hex(&config));
        add(&mut archive, &name, EntryType::Regular, 0o644, &config)?;
        manifest.push(json!({ "Config": name, "RepoTags": [tag], "Layers": [layer_name] }));
    }
    add(&mut archive, &layer_name, EntryType::Regular, 0o644, &layer)?;
    let manifest = serde_json::Value::from(manifest).to_string();
    add(&mut archive, "manifest.json", EntryType::Regular, 0o644, manifest.as_bytes())?;
    Ok(archive.into_inner()?)
}

fn layer(busybox: &[u8]) -> Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    for dir in ["bin/", "dev/", "etc/", "proc/", "run/", "sys/", "www/"] {
        add(&mut layer, dir, EntryType::Directory, 0o755, b"")?;
    }
    add(&mut layer, "tmp/", EntryType::Directory, 0o1777, b"")?;
    add(&mut layer, "etc/passwd", EntryType::Regular, 0o644, b"root:x:0:0:root:/:/bin/sh\n")?;
    add(&mut layer, "etc/group", EntryType::Regular, 0o644, b"root:x:0:\n")?;
    add(&mut layer, "bin/busybox", EntryType::Regular, 0o755, busybox)?;
    for applet in APPLETS {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        layer.append_link(&mut header, Path::new("bin").join(applet), "busybox")?;
    }
    Ok(layer.into_inner()?)
}

fn add<W: Write>(tar: &mut Builder<W>, name: &str, kind: EntryType, mode: u32, data: &[u8]) -> Result<()> {
    let mut header = header(kind, mode, data.len() as u64);
    tar.append_data(&mut header, name, data).with_context(|| format!("failed to pack {name}"))
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu(); // times, user and group are 0
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header
}

fn hex(data: &[u8]) -> String {
    Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Go's word for this machine.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("no images for {other}: add its name in Go's words"),
    }
}

/// True if a 64-bit little-endian ELF names no interpreter (`PT_INTERP`, see elf(5)).
fn is_static(elf: &[u8]) -> bool {
    let number = |at: usize, len: usize| -> Option<usize> {
        let bytes = elf.get(at..at + len)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    };
    let headers = || Some((number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?));
    let Some((start, size, count)) = headers() else { return false };
    elf.starts_with(b"\x7fELF") && (0..count).all(|n| number(start + n * size, 4) != Some(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_every_time() {
        assert_eq!(hex(&archive().unwrap()), hex(&archive().unwrap()));
    }

    #[test]
    fn a_dynamic_program_is_told_from_a_static_one() {
        assert!(is_static(&std::fs::read(programs::find("busybox").unwrap()).unwrap()));
        assert!(!is_static(&std::fs::read(programs::find("bash").unwrap()).unwrap()));
        assert!(!is_static(b""));
    }
}
