//! Executing a program as a runtime executes a plugin: environment, stdin, wait for its end.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::host::Seat;

/// Where the contestants find `iptables`, `nft` and the like.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a command with `stdin` to its end. The time is that from just before it is started until it has
/// exited and its output is read.
///
/// # Errors
/// What it printed, if it failed.
pub(crate) fn run(command: &mut Command, stdin: &[u8]) -> Result<(Duration, Vec<u8>)> {
    command.env("PATH", PATH).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let begin = Instant::now();
    let mut child = command.spawn().with_context(|| format!("failed to start {command:?}"))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that reads no input closes the pipe.
        let _ = pipe.write_all(stdin);
    }
    let output = child.wait_with_output()?;
    let took = begin.elapsed();
    if !output.status.success() {
        let (out, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("{command:?} failed ({}): {} {}", output.status, words.trim(), out.trim());
    }
    Ok((took, output.stdout))
}

/// Executes a CNI plugin with its configuration.
///
/// # Errors
/// What it printed, if it failed.
pub(crate) fn cni(program: &Path, verb: &str, seat: &Seat, conf: &Value) -> Result<(Duration, Value)> {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", &seat.container)
        .env("CNI_NETNS", &seat.netns)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_ARGS", "IgnoreUnknown=1")
        .env("CNI_PATH", program.parent().unwrap_or(Path::new("/")));
    let (took, output) = run(&mut command, conf.to_string().as_bytes())?;
    let result = if output.is_empty() { Value::Null } else { serde_json::from_slice(&output)? };
    Ok((took, result))
}
