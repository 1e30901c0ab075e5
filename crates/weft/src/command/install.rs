//! `weft install`: puts weft's files on this host, or into an image.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use anyhow::bail;
use weft_model::NetworkName;

use crate::cli::Session;
use crate::failure::Failure;
use crate::install::{
    Change, CniPlaces, NodePlaces, Tree, Wanted, apply, cni, node, plugin, program, systemd,
};
use crate::output::entry;
use crate::table::Table;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Install into the image below this directory; only files are written, nothing is started
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The program goes to `bin` below this directory
    #[arg(long, value_name = "DIR", default_value = "/usr/local")]
    prefix: PathBuf,
    /// Where the container runtime looks for CNI plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    cni_bin: PathBuf,
    /// Where the container runtime looks for CNI configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    cni_conf: PathBuf,
    /// Do without the CNI plugin and its configuration
    #[arg(long)]
    no_cni: bool,
    /// Start the agent now and at every boot
    #[arg(long)]
    enable: bool,
    /// Replace foreign files that are in the way; uninstall puts them back
    #[arg(long)]
    force: bool,
    /// The CNI plugin to install [default: weft-cni beside this program]
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// The program to install [default: this one]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let tree = tree(args.root.as_deref())?;
    let mut wanted =
        node(&NodePlaces { prefix: &args.prefix, enable: args.enable }, program(args.program.as_deref())?)?;
    if !args.no_cni {
        let network: NetworkName = "default".parse()?;
        let socket = session.socket.as_deref();
        let places = CniPlaces { bin: &args.cni_bin, conf: &args.cni_conf, network: &network, socket };
        wanted.extend(cni(&places, plugin(args.plugin.as_deref())?)?);
    }
    let live = args.root.is_none() && systemd::running();
    let changes = if live {
        live_apply(session, &tree, &wanted, args)?
    } else {
        apply(&tree, &wanted, args.force, || Ok(()))?
    };
    show(session, &changes)?;
    if args.root.is_none() && !args.enable && !session.output.json {
        let next = if live { "systemctl enable weft && systemctl restart weft" } else { "weft agent" };
        session.output.remark(&format!("the agent was not started: `{next}` does it"));
    }
    Ok(())
}

/// With systemd at work. An agent that will not start makes everything as it was, the old agent included.
fn live_apply(session: &Session, tree: &Tree, wanted: &[Wanted], args: &Args) -> anyhow::Result<Vec<Change>> {
    let was_active = systemd::unit_is_active();
    let touched = Cell::new(false);
    let result = apply(tree, wanted, args.force, || {
        touched.set(true);
        systemd::reload()?;
        if args.enable { systemd::restart() } else { Ok(()) }
    });
    if result.is_err() && touched.get() {
        let _ = systemd::reload();
        let _ = if was_active { systemd::restart() } else { Ok(()) };
    }
    let changes = result?;
    for unit in systemd::tell_others() {
        session.output.remark(&format!(
            "{unit} was not told to leave weft's links alone: it will know when it restarts"
        ));
    }
    Ok(changes)
}

/// This host, which takes root, or an image.
pub(crate) fn tree(root: Option<&Path>) -> anyhow::Result<Tree> {
    match root {
        Some(root) => Tree::image(root),
        None if rustix::process::geteuid().is_root() => Tree::host(),
        None => bail!(
            Failure::new("only root may do this").hint("run it as root, or with --root DIR for an image")
        ),
    }
}

/// What was done, file by file.
pub(crate) fn show(session: &Session, changes: &[Change]) -> anyhow::Result<()> {
    session.output.show(|| entry("changes", changes), || text(session, changes))
}

/// The same as text.
pub(crate) fn text(session: &Session, changes: &[Change]) -> String {
    let mut table = Table::plain();
    for change in changes {
        let note = change.note.as_ref().map(|n| format!("  ({n})")).unwrap_or_default();
        table.row([change.action.to_owned(), format!("{}{note}", change.path.display())]);
    }
    table.render(session.output)
}
