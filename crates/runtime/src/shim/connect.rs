//! The network of a container: a namespace with a name, and an interface that the agent puts into it.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use weft_kernel::agent::{self, AgentError, Asked};
use weft_kernel::netlink::{Family, Messages, Socket};
use weft_kernel::netns::{self, Netns};
use weft_kernel::rtnl::link;
use weft_model::Owner;
use weft_model::api::{Attach, Reply, Request};

use crate::places::Places;
use crate::release::attachment;
use crate::report::Refusal;
use crate::spec::{Net, Spec};

/// An agent that takes longer is stuck: attaching takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOPBACK: u32 = 1;

/// Where its namespace will be; nobody else has one of that name.
pub(super) fn vacant(spec: &Spec) -> Result<PathBuf, Refusal> {
    let path = Places::netns(&spec.name);
    if path.exists() {
        let message = format!("there is a network namespace '{}' already", spec.name);
        let hint = "name the container otherwise, or remove it with `ip netns delete`";
        return Err(Refusal::new(message).hint(hint));
    }
    Ok(path)
}

/// The namespace in which the container will be; `None` is the host's. One of its own may have been `made` already.
pub(super) fn namespace(spec: &Spec, made: Option<Netns>) -> Result<Option<Netns>, Refusal> {
    let path = Places::netns(&spec.name);
    match &spec.net {
        Net::Host => Ok(None),
        Net::Container(other) => {
            let opened = Netns::open(&Places::netns(other));
            let refused = |_| {
                Refusal::new(format!(
                    "the network of '{other}' cannot be shared: it has no namespace of its own"
                ))
                .hint("`weft ps` shows the containers that run")
            };
            opened.map(Some).map_err(refused)
        }
        Net::Network(_) | Net::None => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(|e| Refusal::new(format!("{}: {e}", parent.display())))?;
            }
            let netns = match made {
                Some(netns) => netns.mount_at(&path).map(|()| netns),
                None => Netns::create_at(&path),
            };
            netns.map(Some).map_err(|e| refusal(&e))
        }
    }
}

/// Loopback works in a container without a network, too.
pub(super) fn raise_loopback(netns: &Netns) -> Result<(), Refusal> {
    let raise = || -> Result<(), Box<dyn std::error::Error>> {
        let mut messages = Messages::default();
        link::change(&mut messages, LOOPBACK, &link::Change { up: Some(true), ..link::Change::default() });
        for answer in Socket::open(Family::Route)?.transact(&messages)? {
            answer?;
        }
        Ok(())
    };
    let raised = netns.run(raise).map_err(|e| refusal(&e))?;
    raised.map_err(|e| Refusal::new(format!("failed to set the loopback up: {e}")))
}

/// Asks the agent for the interface; the answer can wait.
pub(super) fn ask(places: &Places, spec: &Spec) -> Result<Option<Asked>, Refusal> {
    let Some(wish) = wish(spec) else { return Ok(None) };
    let asked = agent::begin(&places.socket, &Request::Attach(Box::new(wish)), PATIENCE);
    asked.map(Some).map_err(|e| unheard(&e))
}

/// The commands that would make its network, a namespace of its own included; nothing is changed, but for a moment in
/// which there is a namespace of its name, because the agent looks at it.
pub(crate) fn explained(places: &Places, spec: &Spec) -> Result<Vec<String>, Refusal> {
    let name = &spec.name;
    let made = match &spec.net {
        Net::Host | Net::Container(_) => return Ok(Vec::new()),
        Net::None => return Ok(vec![format!("ip netns add {name}"), format!("ip -n {name} link set lo up")]),
        Net::Network(_) => {
            vacant(spec)?;
            namespace(spec, None)?
        }
    };
    let told: Result<Vec<String>, Refusal> = wish(spec).map_or(Ok(Vec::new()), |wish| {
        let request = Request::Attach(Box::new(Attach { explain: true, ..wish }));
        let asked = agent::begin(&places.socket, &request, PATIENCE).map_err(|e| unheard(&e))?;
        match asked.reply().map_err(|e| unheard(&e))? {
            Reply::Attached(attached) => Ok(attached.commands),
            Reply::Done { commands } => Ok(commands),
            other => refused(other),
        }
    });
    drop(made);
    let _ = Netns::remove_at(&Places::netns(name));
    Ok([vec![format!("ip netns add {name}")], told?].concat())
}

/// What the agent is asked for.
fn wish(spec: &Spec) -> Option<Attach> {
    Some(Attach {
        id: attachment(spec)?,
        owner: Owner("run".to_owned()),
        netns: Places::netns(&spec.name),
        ips: spec.ips.clone(),
        ranges: Vec::new(),
        assigned: Vec::new(),
        mac: None,
        host_ifname: None,
        pod: None,
        profile: spec.profile.clone(),
        explain: false,
    })
}

/// The addresses that it was given.
pub(super) fn answer(asked: Asked) -> Result<Vec<IpNet>, Refusal> {
    match asked.reply().map_err(|e| unheard(&e))? {
        Reply::Attached(attached) => Ok(attached.addresses.iter().map(|a| a.address).collect()),
        other => refused(other),
    }
}

/// An answer that is none.
fn refused<T>(reply: Reply) -> Result<T, Refusal> {
    match reply {
        Reply::Error(error) => {
            let refusal = Refusal::new(error.message);
            Err(match error.hint {
                Some(hint) => refusal.hint(hint),
                None => refusal,
            })
        }
        _ => Err(Refusal::new("the agent gave an answer that was not asked for")
            .hint("restart it: `systemctl restart weft`")),
    }
}

pub(super) fn plain(addresses: &[IpNet]) -> Vec<IpAddr> {
    addresses.iter().map(IpNet::addr).collect()
}

fn unheard(error: &AgentError) -> Refusal {
    let refusal = Refusal::new(format!("the container cannot be connected: {error}"));
    match error.details() {
        Some(details) => refusal.hint(format!("{details}; without a network: --network none")),
        None => refusal,
    }
}

fn refusal(error: &netns::Error) -> Refusal {
    let source = std::error::Error::source(error).map(|s| format!(": {s}")).unwrap_or_default();
    Refusal::new(format!("{error}{source}"))
}
