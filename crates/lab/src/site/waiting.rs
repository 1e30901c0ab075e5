//! A container with nothing to do: its root is busybox alone.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::Error;

/// Where the program may be.
const PROGRAMS: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];
/// What a person wants to type in such a container.
const APPLETS: [&str; 8] = ["sh", "sleep", "ping", "ip", "nc", "wget", "httpd", "ps"];

/// The words of `weft run` for it.
pub(super) fn words(folder: &Path) -> Result<Vec<String>, Error> {
    let root = folder.join("root");
    if !root.exists() {
        build(&root)?;
    }
    let root = root.display().to_string();
    Ok(["--rootfs", &root, "/bin/sleep", "2147483647"].map(str::to_owned).into())
}

fn build(root: &Path) -> Result<(), Error> {
    let failed = |source| Error::File { path: root.to_owned(), source };
    let found = PROGRAMS.iter().map(PathBuf::from).find_map(|path| Some((fs::read(&path).ok()?, path)));
    // A program that needs libraries names their loader in its first bytes (PT_INTERP, elf(5)).
    let (bytes, from) = found.filter(|(bytes, _)| !holds(&bytes[..bytes.len().min(4096)], b"/ld-")).ok_or(
        Error::Missing {
            program: PROGRAMS[0].into(),
            hint: "containers that only wait need a busybox without libraries (Debian's package busybox-static); \
                   or say what to run: `weft lab run HOST NAME IMAGE`",
        },
    )?;
    let aside = root.with_extension("new");
    let made = || {
        for folder in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
            fs::create_dir_all(aside.join(folder))?;
        }
        fs::write(aside.join("bin/busybox"), &bytes)?;
        fs::set_permissions(aside.join("bin/busybox"), fs::metadata(&from)?.permissions())?;
        for applet in APPLETS {
            symlink("busybox", aside.join("bin").join(applet))?;
        }
        fs::rename(&aside, root)
    };
    made().map_err(failed)
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|some| some == part)
}
