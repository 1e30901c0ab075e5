//! `weft member`: runs this host's share of the cluster's store, and the door for hosts that join.

use std::path::PathBuf;

use anyhow::bail;

use crate::cli::Session;
use crate::failure::Failure;
use crate::member::door::Door;
use crate::member::files::Files;
use crate::member::{etcd, service};
use crate::place;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent's configuration file
    #[arg(long, value_name = "FILE", default_value_os_t = place::config())]
    config: PathBuf,
}

pub(crate) fn run(_: &Session, args: &Args) -> anyhow::Result<()> {
    super::agent::log()?;
    let config = super::agent::load(&args.config)?;
    let files = Files::new(&config.state_dir);
    if !files.is_member() {
        bail!(
            Failure::new("this host runs no share of a store")
                .hint("`weft init` begins a cluster, `weft join TOKEN --member` joins one and runs a share")
        );
    }
    // For `weft leave`, where no systemd knows it.
    std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700)
        .create(&config.run_dir)?;
    let pid = service::pid_file(&config);
    Files::write(&pid, &std::process::id().to_string())?;
    let door = Door::new(&files)?;
    let opened = std::thread::Builder::new().name("door".to_owned()).spawn(move || door.open());
    let opened = opened?;
    let served = if files.share()?.elsewhere {
        None
    } else {
        let serve = move || etcd::run(&files);
        Some(std::thread::Builder::new().name("etcd".to_owned()).spawn(serve)?)
    };
    // Either of them ends only when it cannot go on.
    let mut threads: Vec<_> = [Some(opened), served].into_iter().flatten().collect();
    loop {
        if let Some(at) = threads.iter().position(std::thread::JoinHandle::is_finished) {
            threads.remove(at).join().unwrap_or(Ok(()))?;
            bail!("the share of the store ended");
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
}
