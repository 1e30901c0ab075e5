//! `weft detach`, and `weft network disconnect`.

use weft_model::api::{Detach, Reply, Request};
use weft_model::{AttachmentId, ContainerId, IfName, NetworkName};

use crate::cli::Session;
use crate::client::unexpected;
use crate::output::entry;
use crate::render;
use crate::target::{Target, container};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The network to leave
    #[arg(long, value_name = "NAME", default_value = "default")]
    network: NetworkName,
    /// What the interface is called inside
    #[arg(long, value_name = "NAME", default_value = "eth0")]
    ifname: IfName,
    #[command(flatten)]
    leave: Leave,
}

/// What can be said, whichever command it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Leave {
    #[command(flatten)]
    target: Target,
    /// What the container is called [default: as for attach]
    #[arg(long, value_name = "CONTAINER_ID")]
    name: Option<ContainerId>,
    /// Only print the commands that would do it; nothing is changed
    #[arg(long)]
    explain: bool,
}

pub(crate) fn run(session: &Session, args: Args) -> anyhow::Result<()> {
    detach(session, args.network, args.ifname, args.leave)
}

/// Asks for the interface to be taken away.
pub(crate) fn detach(
    session: &Session,
    network: NetworkName,
    ifname: IfName,
    leave: Leave,
) -> anyhow::Result<()> {
    // The namespace may be gone: that must not keep its address from being freed.
    let netns = leave.target.path()?;
    let id = AttachmentId { network, container: leave.name.unwrap_or_else(|| container(&netns)), ifname };
    let request = Request::Detach(Detach {
        id: id.clone(),
        netns: Some(netns.clone()),
        expect: Vec::new(),
        explain: leave.explain,
    });
    match session.ask(&request)? {
        Reply::Done { commands } if leave.explain => {
            let what = format!("take {} out of network {}", netns.display(), id.network);
            render::script(session, &what, &commands)
        }
        Reply::Done { .. } => session.output.show(|| entry("detached", &id), || format!("detached {id}\n")),
        reply => Err(unexpected(&reply)),
    }
}
