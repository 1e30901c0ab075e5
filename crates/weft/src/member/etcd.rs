//! This host's etcd: a child that is started again when it ends, and ends with its parent.
//!
//! Debian's package `etcd-server` brings the program; weft only runs it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::bail;
use weft_kernel::netns::ends_with_thread;

use super::door::{loopback, peer_url};
use super::files::{Files, Share, endpoint};
use crate::failure::Failure;

/// Where the program may be.
const PROGRAMS: [&str; 3] = ["/usr/bin/etcd", "/usr/local/bin/etcd", "/usr/sbin/etcd"];
/// How often its files are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Between two starts: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The program.
///
/// # Errors
/// If it is not installed, with the way to get it.
pub(crate) fn program() -> anyhow::Result<&'static str> {
    match PROGRAMS.into_iter().find(|p| Path::new(p).is_file()) {
        Some(program) => Ok(program),
        None => bail!(Failure::new("there is no etcd on this host").hint(
            "install it (Debian: apt-get install etcd-server, and leave its own service off), or use one that \
             runs elsewhere: weft init --store etcd://…"
        )),
    }
}

/// The command line: both ways of speaking to it need certificates of the cluster's authority, and only other
/// servers may be its peers.
fn arguments(files: &Files, share: &Share) -> Vec<String> {
    let file = |name: &str| files.of_member(name).display().to_string();
    let trusted = files.path("ca.pem").display().to_string();
    let (client, local) = (endpoint(share.address), endpoint(loopback(share.address)));
    let state = if share.joined { "existing" } else { "new" };
    vec![
        format!("--name={}", share.name),
        format!("--data-dir={}", files.data().display()),
        format!("--listen-client-urls=https://{client},https://{local}"),
        format!("--advertise-client-urls=https://{client}"),
        format!("--listen-peer-urls={}", peer_url(share.address)),
        format!("--initial-advertise-peer-urls={}", peer_url(share.address)),
        format!("--initial-cluster={}", share.initial),
        format!("--initial-cluster-state={state}"),
        "--initial-cluster-token=weft".to_owned(),
        format!("--cert-file={}", file("server.pem")),
        format!("--key-file={}", file("server.key")),
        "--client-cert-auth=true".to_owned(),
        format!("--trusted-ca-file={trusted}"),
        format!("--peer-cert-file={}", file("server.pem")),
        format!("--peer-key-file={}", file("server.key")),
        "--peer-client-cert-auth=true".to_owned(),
        format!("--peer-trusted-ca-file={trusted}"),
        format!("--peer-cert-allowed-cn={}", weft_store::cluster::authority::SERVER),
        // History of more than an hour is of no use: agents that were away longer take a snapshot.
        "--auto-compaction-mode=periodic".to_owned(),
        "--auto-compaction-retention=1h".to_owned(),
        "--election-timeout=2000".to_owned(),
        "--heartbeat-interval=200".to_owned(),
    ]
}

/// Runs etcd until this process ends.
///
/// # Errors
/// If it cannot be started at all.
pub(crate) fn run(files: &Files) -> anyhow::Result<()> {
    let program = program()?;
    let share = files.share()?;
    let mut wait = PAUSE.0;
    loop {
        let mut command = Command::new(program);
        command.args(arguments(files, &share)).stdin(Stdio::null());
        // Of the environment, etcd would take settings.
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        // This thread runs as long as the process.
        ends_with_thread(&mut command);
        let (begun, files_then) = (Instant::now(), certificates(files));
        let mut child = command.spawn()?;
        let ended = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if certificates(files) != files_then {
                tracing::info!("the certificates changed: etcd is started again");
                child.kill()?;
                wait = Duration::ZERO;
                break child.wait()?;
            }
            std::thread::sleep(LOOK);
        };
        if begun.elapsed() > PAUSE.1 {
            wait = wait.min(PAUSE.0);
        }
        tracing::warn!(%ended, "etcd ended; it is started again");
        std::thread::sleep(wait);
        wait = (wait * 2).clamp(PAUSE.0, PAUSE.1);
    }
}

/// What etcd reads only when it starts.
fn certificates(files: &Files) -> Vec<Option<Vec<u8>>> {
    let all = [files.path("ca.pem"), files.of_member("server.pem")];
    all.into_iter().map(|path| std::fs::read(path).ok()).collect()
}
