//! `weft attach`, and `weft network connect`, which is the same with its words in another order.

use std::net::IpAddr;

use weft_model::api::{Attach, Reply, Request};
use weft_model::policy::WorkloadPort;
use weft_model::{
    AttachmentId, Bandwidth, ContainerId, IfName, LabelKey, LabelValue, Mac, NamespaceName, NetworkName,
    PortMapping, PortName, Profile,
};

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
    #[command(flatten)]
    profile: ProfileArgs,
    /// Only print the commands that would do it; nothing is changed
    #[arg(long)]
    explain: bool,
}

/// What a workload is to selectors, and what its wire does for it.
#[derive(Debug, clap::Args)]
pub(crate) struct ProfileArgs {
    /// Its namespace, as policies know it [default: default]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<NamespaceName>,
    /// A label; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = weft_model::label::pair)]
    label: Vec<(LabelKey, LabelValue)>,
    /// A port that policies may name, such as web=8080/TCP; may be repeated
    #[arg(long, value_name = "NAME=PORT[/PROTOCOL]", value_parser = weft_model::policy::named_port)]
    port_name: Vec<(PortName, WorkloadPort)>,
    /// Publish ports of the host: [HOSTIP:]HOST[-HOST]:CONTAINER[-CONTAINER][/tcp|udp|sctp]; may be repeated
    #[arg(short, long, value_name = "PORTS")]
    publish: Vec<PortMapping>,
    /// The most that may flow, in bits per second: `100M` both ways, `100M/50M` to and from the workload, `-` for no limit; `100M:1M` names a burst in bits
    #[arg(long, value_name = "LIMIT")]
    bandwidth: Option<Bandwidth>,
}

impl From<ProfileArgs> for Profile {
    fn from(args: ProfileArgs) -> Profile {
        Profile {
            namespace: args.namespace,
            labels: args.label.into_iter().collect(),
            named_ports: args.port_name.into_iter().collect(),
            ports: args.publish,
            bandwidth: args.bandwidth.unwrap_or_default(),
        }
    }
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
        profile: wish.profile.into(),
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
