//! `weft agent`: runs the agent in the foreground.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tracing_subscriber::filter::LevelFilter;
use weft_agent::Config;

use crate::cli::Session;
use crate::failure::Failure;
use crate::place;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value_os_t = place::config())]
    config: PathBuf,
    /// What must survive a reboot [default: the configuration's]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// What lives until the next reboot [default: the configuration's]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

pub(crate) fn run(session: &Session, args: Args) -> anyhow::Result<()> {
    log()?;
    let config = settle(load(&args.config)?, session.socket.clone(), args);
    weft_agent::run(&config).map_err(|why| anyhow::anyhow!(why).context("the agent stopped"))
}

/// Begins to log to standard error.
pub(crate) fn log() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        .with_max_level(level(std::env::var("WEFT_LOG").ok().as_deref())?)
        .init();
    Ok(())
}

/// Reads the configuration, with advice.
pub(crate) fn load(path: &Path) -> anyhow::Result<Config> {
    let advice = || {
        Failure::new("the agent has no configuration")
            .hint("see docs/reference.md, or delete the file: all defaults are good")
    };
    Config::load(path).with_context(advice)
}

/// What was typed wins over what the file says.
fn settle(mut config: Config, socket: Option<PathBuf>, args: Args) -> Config {
    config.state_dir = args.state_dir.unwrap_or(config.state_dir);
    config.run_dir = args.run_dir.unwrap_or(config.run_dir);
    config.socket = socket.or(config.socket);
    config
}

fn level(wish: Option<&str>) -> anyhow::Result<LevelFilter> {
    wish.filter(|w| !w.is_empty()).unwrap_or("info").parse().map_err(|_| {
        let message = format!("WEFT_LOG is '{}'", wish.unwrap_or_default());
        Failure::new(message).hint("it can be off, error, warn, info, debug or trace").into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_info_unless_told_otherwise() {
        assert_eq!(level(None).unwrap(), LevelFilter::INFO);
        assert_eq!(level(Some("")).unwrap(), LevelFilter::INFO);
        assert_eq!(level(Some("debug")).unwrap(), LevelFilter::DEBUG);
        assert!(crate::failure::text(&level(Some("loud")).unwrap_err()).contains("'loud'"));
    }

    #[test]
    fn options_win_over_the_file() {
        let args = Args { config: "".into(), state_dir: Some("/s".into()), run_dir: None };
        let config = settle(Config::default(), Some("/a.sock".into()), args);
        assert_eq!(config.state_dir, Path::new("/s"));
        assert_eq!((config.run_dir.clone(), config.socket()), ("/run/weft".into(), "/a.sock".into()));
    }
}
