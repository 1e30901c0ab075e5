//! Which programs of the machine a test needs: found, or named with the way to get them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Where programs are looked for, on the machine and inside sandboxes.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Finds a program on [`PATH`].
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    PATH.split(':').map(|dir| Path::new(dir).join(program)).find(|file| is_executable(file))
}

/// True of a file that can be executed.
#[must_use]
pub fn is_executable(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Makes sure that all `programs` are there and that the test runs as root.
///
/// # Errors
/// Names everything that is missing at once, and what installs it.
pub fn require(programs: &[&str]) -> Result<()> {
    ensure!(is_root()?, "these tests make namespaces and mounts: run them as root");
    let missing: Vec<&str> = programs.iter().copied().filter(|program| find(program).is_none()).collect();
    ensure!(
        missing.is_empty(),
        "missing programs: {}; get them with: scripts/setup test",
        missing.join(", ")
    );
    Ok(())
}

fn is_root() -> Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status").context("failed to read /proc/self/status")?;
    Ok(status.lines().any(|line| line.split_whitespace().take(3).eq(["Uid:", "0", "0"])))
}

/// Runs one of the repository's scripts that build or fetch a program and print where it is.
///
/// # Errors
/// The script's own words.
pub fn from_script(script: &str) -> Result<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(script);
    let output = Command::new(&file).output().with_context(|| format!("failed to run {}", file.display()))?;
    let words = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("scripts/{script} failed:\n{words}");
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}
