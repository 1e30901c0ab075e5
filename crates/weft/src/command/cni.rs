//! `weft cni`: the CNI plugin by itself, for a host whose agent came another way.

use std::path::PathBuf;

use weft_model::NetworkName;

use super::install::{show, tree};
use crate::cli::Session;
use crate::install::{CniPlaces, Part, apply, cni, plugin, remove};
use crate::output::entry;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Install the CNI plugin and its configuration, or bring them up to date
    Install(Install),
    /// Remove the CNI plugin and its configuration
    Uninstall {
        /// Remove from the image below this directory
        #[arg(long, value_name = "DIR")]
        root: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Install {
    /// Install into the image below this directory
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Where the container runtime looks for CNI plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    bin: PathBuf,
    /// Where the container runtime looks for CNI configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    conf: PathBuf,
    /// The weft network that containers join
    #[arg(long, value_name = "NAME", default_value = "default")]
    network: NetworkName,
    /// Replace foreign files that are in the way; uninstall puts them back
    #[arg(long)]
    force: bool,
    /// The CNI plugin to install [default: weft-cni beside this program]
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
}

pub(crate) fn run(session: &Session, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Install(args) => {
            let tree = tree(args.root.as_deref())?;
            let places = CniPlaces {
                bin: &args.bin,
                conf: &args.conf,
                network: &args.network,
                socket: session.socket.as_deref(),
            };
            let wanted = cni(&places, plugin(args.plugin.as_deref())?)?;
            show(session, &apply(&tree, &wanted, args.force, || Ok(()))?)
        }
        Command::Uninstall { root } => match remove(&tree(root.as_deref())?, &[Part::Cni], false)? {
            Some(changes) => show(session, &changes),
            None => {
                let none: [(); 0] = [];
                session.output.show(|| entry("changes", none), || "nothing is installed\n".to_owned())
            }
        },
    }
}
