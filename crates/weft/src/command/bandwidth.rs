//! `weft bandwidth`: limits of workloads that run.

use weft_model::api::{Reply, Request, WorkloadStatus};
use weft_model::{AttachmentId, Bandwidth, ContainerId, IfName, NetworkName};

use crate::cli::Session;
use crate::client::unexpected;
use crate::output::entry;
use crate::render;
use crate::target::{Target, container};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the workloads that are limited
    Ls,
    /// Limit what flows to a workload and from it; connections stay
    Set {
        #[command(flatten)]
        of: Of,
        /// The most that may flow, in bits per second: `100M` both ways, `100M/50M` to and from the workload, `-` for no limit; `100M:1M` names a burst in bits
        #[arg(long, value_name = "LIMIT")]
        limit: Bandwidth,
    },
    /// Take a workload's limits away
    Clear {
        #[command(flatten)]
        of: Of,
    },
}

/// Which interface is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Of {
    #[command(flatten)]
    target: Target,
    /// Its network
    #[arg(long, value_name = "NAME", default_value = "default")]
    network: NetworkName,
    /// What the interface is called inside
    #[arg(long, value_name = "NAME", default_value = "eth0")]
    ifname: IfName,
    /// What the container is called [default: as for attach]
    #[arg(long, value_name = "CONTAINER_ID")]
    name: Option<ContainerId>,
    /// Only print the commands that would do it; nothing is changed
    #[arg(long)]
    explain: bool,
}

pub(crate) fn run(session: &Session, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Ls => list(session),
        Command::Set { of, limit } => set(session, of, limit),
        Command::Clear { of } => set(session, of, Bandwidth::default()),
    }
}

fn list(session: &Session) -> anyhow::Result<()> {
    let status = match session.ask(&Request::Status)? {
        Reply::Status(status) => *status,
        reply => return Err(unexpected(&reply)),
    };
    let limited: Vec<&WorkloadStatus> =
        status.workloads.iter().filter(|w| !w.bandwidth.is_unlimited()).collect();
    session.output.show(
        || entry("workloads", &limited),
        || match limited.as_slice() {
            [] => "no workload is limited: `weft bandwidth set` limits one\n".to_owned(),
            all => render::limits(session.output, all.iter().copied()),
        },
    )
}

fn set(session: &Session, of: Of, bandwidth: Bandwidth) -> anyhow::Result<()> {
    // A name may be enough: the namespace itself is not entered.
    let netns = of.target.path()?;
    let container = of.name.unwrap_or_else(|| container(&netns));
    let id = AttachmentId { network: of.network, container, ifname: of.ifname };
    let request = Request::SetBandwidth { id: id.clone(), bandwidth, explain: of.explain };
    let said = if bandwidth.is_unlimited() {
        format!("{id} is not limited")
    } else {
        format!("{id} is limited to {bandwidth}")
    };
    match session.ask(&request)? {
        Reply::Done { commands } if of.explain => {
            render::script(session, &format!("bring about that {said}"), &commands)
        }
        Reply::Done { .. } => session.output.show(
            || {
                let mut document = entry("id", &id)?;
                document.extend(entry("bandwidth", bandwidth)?);
                Ok(document)
            },
            || format!("{said}\n"),
        ),
        reply => Err(unexpected(&reply)),
    }
}
