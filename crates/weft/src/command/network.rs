//! `weft network`: make, show, remove and join networks.

use anyhow::bail;
use ipnet::IpNet;
use weft_model::api::{NetworkSpec, NetworkStatus, Reply, Request, WorkloadStatus};
use weft_model::{Encapsulation, IfName, Mode, NetworkName};

use super::{attach, detach};
use crate::cli::Session;
use crate::client::unexpected;
use crate::failure::Failure;
use crate::output::entry;
use crate::render;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a network
    Create(Create),
    /// List the networks
    Ls,
    /// Show a network, its pools of addresses and its workloads
    Inspect {
        /// The network
        name: NetworkName,
    },
    /// Remove networks that have no workloads
    Rm {
        /// The networks
        #[arg(required = true, value_name = "NAME")]
        names: Vec<NetworkName>,
        /// Only print the commands that would do it; nothing is changed
        #[arg(long)]
        explain: bool,
    },
    /// Give a network namespace an interface on a further network
    Connect {
        /// The network to join
        network: NetworkName,
        /// What the interface is called inside
        #[arg(long, value_name = "NAME", default_value = "eth1")]
        ifname: IfName,
        #[command(flatten)]
        wish: attach::Wish,
    },
    /// Take that interface away
    Disconnect {
        /// The network to leave
        network: NetworkName,
        /// What the interface is called inside
        #[arg(long, value_name = "NAME", default_value = "eth1")]
        ifname: IfName,
        #[command(flatten)]
        leave: detach::Leave,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// What to call it
    name: NetworkName,
    /// Its addresses; once per family [default: a free range of each family]
    #[arg(long, value_name = "CIDR")]
    subnet: Vec<IpNet>,
    /// How workloads join it: by a route each (`routed`), or as ports of a bridge (`bridge`)
    #[arg(long, default_value = "routed", value_parser = mode)]
    mode: Mode,
    /// The largest packet in bytes [default: what the host's uplink carries]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(68..=65535))]
    mtu: Option<u32>,
    /// Let packets for the outside keep the workload's address
    #[arg(long)]
    no_masquerade: bool,
    /// How packets travel to other hosts of the cluster: as they are on one segment and in VXLAN elsewhere (`auto`),
    /// always in VXLAN (`vxlan`), or always as they are (`direct`)
    #[arg(long, default_value = "auto", value_parser = encapsulation)]
    encapsulation: Encapsulation,
    /// Only print the commands that would do it; nothing is changed
    #[arg(long)]
    explain: bool,
}

fn mode(word: &str) -> Result<Mode, String> {
    let known = [Mode::Routed, Mode::Bridge];
    known.into_iter().find(|m| m.as_str() == word).ok_or_else(|| "it is routed or bridge".to_owned())
}

fn encapsulation(word: &str) -> Result<Encapsulation, String> {
    let found = Encapsulation::ALL.into_iter().find(|e| e.as_str() == word);
    found.ok_or_else(|| "it is auto, vxlan or direct".to_owned())
}

pub(crate) fn run(session: &Session, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create(create) => self::create(session, create),
        Command::Ls => list(session),
        Command::Inspect { name } => inspect(session, &name),
        Command::Rm { names, explain } => remove(session, names, explain),
        Command::Connect { network, ifname, wish } => attach::attach(session, network, ifname, wish),
        Command::Disconnect { network, ifname, leave } => detach::detach(session, network, ifname, leave),
    }
}

fn create(session: &Session, create: Create) -> anyhow::Result<()> {
    let what = format!("make network {}", create.name);
    let request = Request::NetworkCreate(NetworkSpec {
        name: create.name,
        subnets: create.subnet,
        mode: create.mode,
        mtu: create.mtu,
        masquerade: !create.no_masquerade,
        encapsulation: create.encapsulation,
        explain: create.explain,
    });
    match session.ask(&request)? {
        Reply::Network(network) if create.explain => render::script(session, &what, &network.commands),
        Reply::Done { commands } if create.explain => render::script(session, &what, &commands),
        Reply::Network(network) => {
            session.output.show(|| entry("network", &network), || render::network(session.output, &network))
        }
        reply => Err(unexpected(&reply)),
    }
}

fn list(session: &Session) -> anyhow::Result<()> {
    match session.ask(&Request::NetworkList)? {
        Reply::Networks(networks) => session.output.show(
            || entry("networks", &networks),
            || {
                let text = render::networks(session.output, &networks);
                if text.is_empty() {
                    "no networks: make one with `weft network create`\n".to_owned()
                } else {
                    text
                }
            },
        ),
        reply => Err(unexpected(&reply)),
    }
}

fn inspect(session: &Session, name: &NetworkName) -> anyhow::Result<()> {
    let status = match session.ask(&Request::Status)? {
        Reply::Status(status) => *status,
        reply => return Err(unexpected(&reply)),
    };
    let Some(network) = status.networks.iter().find(|n| n.network.name == *name) else {
        let known: Vec<&str> =
            status.networks.iter().map(|n: &NetworkStatus| n.network.name.as_str()).collect();
        let hint = match known.as_slice() {
            [] => "there are none: make one with `weft network create`".to_owned(),
            names => format!("there are: {}", names.join(", ")),
        };
        bail!(Failure::new(format!("there is no network '{name}'")).hint(hint));
    };
    let workloads: Vec<&WorkloadStatus> = status.workloads.iter().filter(|w| w.id.network == *name).collect();
    session.output.show(
        || {
            let mut document = entry("network", network)?;
            document.extend(entry("workloads", &workloads)?);
            Ok(document)
        },
        || {
            let workloads = render::workloads(session.output, workloads.iter().copied());
            let gap = if workloads.is_empty() { "" } else { "\n" };
            format!("{}{gap}{workloads}", render::network(session.output, network))
        },
    )
}

/// Removes one after the other; one that fails does not keep the others.
fn remove(session: &Session, names: Vec<NetworkName>, explain: bool) -> anyhow::Result<()> {
    let (mut removed, mut script, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for name in names {
        let reply = session.ask(&Request::NetworkRemove { name: name.clone(), explain });
        match reply {
            Ok(Reply::Done { commands }) => {
                script.extend(commands);
                removed.push(name);
            }
            Ok(reply) => failed.push(unexpected(&reply)),
            Err(error) if crate::failure::code(&error) == crate::failure::AGENT_AWAY => return Err(error),
            Err(error) => failed.push(error),
        }
    }
    let words: Vec<&str> = removed.iter().map(NetworkName::as_str).collect();
    if explain && failed.is_empty() {
        return render::script(session, &format!("remove {}", words.join(", ")), &script);
    }
    let Some(last) = failed.pop() else {
        let text = || words.iter().map(|n| format!("removed {n}\n")).collect();
        return session.output.show(|| entry("removed", &removed), text);
    };
    if !session.output.json && !explain {
        crate::output::write(&words.iter().map(|n| format!("removed {n}\n")).collect::<String>())?;
    }
    for error in failed {
        crate::output::complain(&crate::failure::text(&error));
    }
    Err(last)
}
