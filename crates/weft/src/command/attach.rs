//! `weft attach`, and `weft network connect`, which is the same with its words in another order.

use std::net::IpAddr;

use weft_model::api::{Attach, Reply, Request};
use weft_model::{AttachmentId, Bandwidth, ContainerId, IfName, Mac, NetworkName, Profile};

use crate::cli::Session;
use crate::client::unexpected;
use crate::output::entry;
use crate::render;
use crate::target::{Target, container};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The network to join
    #[arg(long, value_name = "NAME", default_value = "default")]
    network: NetworkName,
    /// What the interface is called inside
    #[arg(long, value_name = "NAME", default_value = "eth0")]
    ifname: IfName,
    #[command(flatten)]
    wish: Wish,
}

/// What can be wished for, whichever command it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Wish {
    #[command(flatten)]
    target: Target,
    /// What the container is called [default: made from the namespace's name, or `pid-` and the process id]
    #[arg(long, value_name = "CONTAINER_ID")]
    name: Option<ContainerId>,
    /// What the host's end of the wire is called [default: a fresh name]
    #[arg(long, value_name = "NAME")]
    peer_name: Option<IfName>,
    /// An address to have; once per family
    #[arg(long, value_name = "ADDR")]
    ip: Vec<IpAddr>,
    /// The Ethernet address to have
    #[arg(long, value_name = "MAC")]
    mac: Option<Mac>,
    /// The most that may flow, in bits per second: `100M` both ways, `100M/50M` to and from the workload, `-` for no limit; `100M:1M` names a burst in bits
    #[arg(long, value_name = "LIMIT")]
    bandwidth: Option<Bandwidth>,
    /// Only print the commands that would do it; nothing is changed
    #[arg(long)]
    explain: bool,
}

pub(crate) fn run(session: &Session, args: Args) -> anyhow::Result<()> {
    attach(session, args.network, args.ifname, args.wish)
}

/// Asks for the interface and shows it.
pub(crate) fn attach(
    session: &Session,
    network: NetworkName,
    ifname: IfName,
    wish: Wish,
) -> anyhow::Result<()> {
    let netns = wish.target.existing()?;
    let id = AttachmentId { network, container: wish.name.unwrap_or_else(|| container(&netns)), ifname };
    let request = Request::Attach(Box::new(Attach {
        id: id.clone(),
        owner: weft_model::Owner::default(),
        netns: netns.clone(),
        ips: wish.ip,
        ranges: Vec::new(),
        assigned: Vec::new(),
        mac: wish.mac,
        host_ifname: wish.peer_name,
        pod: None,
        profile: Profile { bandwidth: wish.bandwidth.unwrap_or_default(), ..Profile::default() },
        explain: wish.explain,
    }));
    match session.ask(&request)? {
        Reply::Attached(attached) if wish.explain => render::script(
            session,
            &format!("join {} to network {}", netns.display(), id.network),
            &attached.commands,
        ),
        Reply::Done { commands } if wish.explain => {
            render::script(session, &format!("join {} to network {}", netns.display(), id.network), &commands)
        }
        Reply::Attached(attached) => session.output.show(
            || {
                let mut document = entry("attached", &attached)?;
                document.extend(entry("id", &id)?);
                document.extend(entry("netns", &netns)?);
                Ok(document)
            },
            || render::attached(session.output, &id, &netns, &attached),
        ),
        reply => Err(unexpected(&reply)),
    }
}
