//! The node agent: store → plan → dataplane, and the socket on which people and plugins speak to it.
//!
//! Threads, not tasks: namespaces belong to threads, and the kernel serialises what the agent does most.

mod agent;
mod clock;
mod cluster;
pub mod config;
pub mod doctor;
mod engine;
mod fault;
mod flows;
mod host;
mod inventory;
mod journal;
mod look;
mod notify;
mod peers;
pub mod privileges;
mod probe;
mod reaper;
mod socket;
pub mod trace;
mod watch;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use weft_kernel::{Linux, memory};
use weft_model::api::Owned;

pub use cluster::settings;
pub use config::{Config, ConfigError};
pub use engine::StartError;

/// How often the journal is looked at: plugins write there only while there is no agent.
const JOURNAL_ROUND: Duration = Duration::from_secs(2);

/// What keeps the agent from running.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A folder of its own cannot be made or is not safe.
    #[error("failed to prepare the folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot listen.
    #[error("failed to listen at {path}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Store or kernel cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Events cannot be received.
    #[error("failed to watch the kernel")]
    Watch(#[source] weft_kernel::netlink::Error),
    /// It cannot give up what it does not need.
    #[error("failed to give up privileges")]
    Privileges(#[source] io::Error),
    /// A thread or signal handler cannot be set up.
    #[error("failed to start a thread")]
    Thread(#[source] io::Error),
}

/// Runs the agent until SIGTERM or SIGINT. What it set up in the kernel stays: traffic goes on without it.
///
/// # Errors
/// What keeps it from starting.
pub fn run(config: &Config) -> Result<(), RunError> {
    memory::share_one_heap();
    // Before any thread starts: each has its own.
    privileges::give_up().map_err(|e| RunError::Privileges(e.into()))?;
    // What the agent writes is root's alone (BAR.md, security row 18).
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let folder = |path: PathBuf| private_folder(&path).map_err(|source| RunError::Folder { path, source });
    folder(config.state_dir.clone())?;
    folder(config.run_dir.clone())?;
    folder(config.journal())?;
    let path = config.socket();
    // Blocked before any thread starts, so that no thread dies of them.
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(RunError::Thread)?;
    let watch = watch::Watch::open().map_err(RunError::Watch)?;
    let look = look::Look::open().map_err(RunError::Watch)?;
    let (retire, retired) = mpsc::channel();
    let (ring, bell) = mpsc::channel();
    let mut engine = engine::Engine::start(config, retire)?;
    // Before the first comparison: nothing is taken away because nobody was asked yet.
    match config.cluster_file.as_deref().map(peers::read) {
        Some(Ok(cluster)) => {
            engine.cluster(cluster);
        }
        Some(Err(error)) => tracing::warn!(error, "the cluster stays as it was last heard of"),
        None => {}
    }
    engine.sync();
    // In a cluster the first host brings it along.
    if config.default_network
        && !settings::is_member(config)
        && let Err(error) = engine.default_network()
    {
        tracing::warn!(error = chain(&error), "failed to make the default network");
    }
    let reaper_kernel = Linux::open().map_err(StartError::Kernel)?;
    let ports: Vec<u32> = engine.ports().into_iter().chain(reaper_kernel.ports()).collect();
    let (line, orders) = cluster::Line::new();
    let agent = Arc::new(agent::Agent::new(engine, ring, line));
    journal::drain(&agent, &config.journal());
    let listener = socket::listen(&path).map_err(|source| RunError::Listen { path: path.clone(), source })?;

    let here = &agent;
    spawn("reaper", here, move |agent| reaper::run(&agent, &retired, reaper_kernel))?;
    spawn("repairs", here, move |agent| agent.repairs(&bell))?;
    spawn("watch", here, move |agent| watch.run(&agent, &ports))?;
    spawn("settings", here, move |agent| look.run(&agent))?;
    spawn("denials", here, |agent| flows::run(&agent))?;
    spawn("socket", here, move |agent| socket::serve(&agent, listener))?;
    let journal = config.journal();
    spawn("journal", here, move |agent| {
        loop {
            thread::sleep(JOURNAL_ROUND);
            journal::drain(&agent, &journal);
            let mut engine = agent.engine();
            let worked = engine.settle();
            engine.keep_cluster();
            drop(engine);
            if worked {
                memory::give_back();
            }
        }
    })?;
    let theirs = config.clone();
    spawn("cluster", here, move |agent| cluster::run(&agent, &theirs, &orders))?;
    spawn("probe", here, move |agent| probe::run(&agent))?;
    if let Some(path) = config.cluster_file.clone() {
        spawn("peers", here, move |agent| peers::follow(&agent, &path))?;
    }
    // Store and kernel have been read whole.
    memory::give_back();
    // The last agent's retired wires may be left.
    agent.engine().reap_later();
    notify::notify("READY=1");
    tracing::info!(socket = %path.display(), "ready");
    let signal = signals.forever().next();
    tracing::info!(signal, "stopping; traffic goes on");
    notify::notify("STOPPING=1");
    // Nobody gets half an answer: whoever holds the engine finishes first.
    let mut engine = agent.engine();
    engine.settle();
    engine.keep_cluster();
    let _ = fs::remove_file(&path);
    Ok(())
}

fn spawn(
    name: &str,
    agent: &Arc<agent::Agent>,
    work: impl FnOnce(Arc<agent::Agent>) + Send + 'static,
) -> Result<(), RunError> {
    let agent = agent.clone();
    let builder = thread::Builder::new().name(name.to_owned());
    builder.spawn(move || work(agent)).map(|_| ()).map_err(RunError::Thread)
}

/// Makes a folder that only root can look into; refuses a link in its place (BAR.md, security row 18).
fn private_folder(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        // Only where it is needed: a folder that cannot be written keeps no agent from starting.
        Ok(found) if found.is_dir() && found.permissions().mode() & 0o777 == 0o700 => Ok(()),
        Ok(found) if found.is_dir() => fs::set_permissions(path, fs::Permissions::from_mode(0o700)),
        Ok(_) => Err(io::Error::new(io::ErrorKind::NotADirectory, "it is a link or a file, not a folder")),
        Err(_) => DirBuilder::new().recursive(true).mode(0o700).create(path),
    }
}

/// Everything of weft's in this kernel, read without an agent.
///
/// # Errors
/// When the kernel cannot be read.
pub fn inventory() -> Result<Vec<Owned>, String> {
    inventory::offline()
}

/// This host's addresses on the underlay: those that the configuration names, or those of the default
/// route's interface; at most one per family, IPv4 first.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn underlay(config: &Config) -> Result<Vec<ipnet::IpNet>, String> {
    host::underlay(&config.underlay).map(|found| found.addresses).map_err(|e| chain(&e))
}

/// Removes everything of weft's from this kernel and puts back the settings that it had changed,
/// without an agent. Returns the equivalent commands of what was done. Absence is success.
///
/// # Errors
/// What could not be removed.
pub fn remove_all(config: &Config) -> Result<Vec<String>, String> {
    inventory::remove_all(config)
}

/// 64 bits that nobody can foresee: the standard library keys its hashers from the system's random source.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(thread::current().id())
}

/// An error with its causes on one line; a cause that the line before says already is left out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
