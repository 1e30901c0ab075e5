//! Following a live packet hop by hop, for `weft trace`.
//!
//! This runs in the command's process, not in the agent's: the agent has no privilege to make packets by itself, and what
//! marks them in the rules goes when the process does, however it ends.

mod probe;
mod story;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use weft_kernel::netlink::{self, Family, Socket};
use weft_kernel::netns::{self, Netns};
use weft_kernel::nft::trace::{Followed, Follower, Named, Outcome, Step};
use weft_kernel::nft::{self, TableName};
use weft_kernel::packet::PacketSocket;
use weft_kernel::rtnl::link;

pub use probe::Answer;
pub use story::{Hop, Names, tell};

use probe::Probe;

/// When something has become of the packet, what else happens is waited for so long.
const AFTERWARDS: Duration = Duration::from_millis(100);

/// A namespace with an interface in it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The namespace's file.
    pub netns: PathBuf,
    /// The interface.
    pub ifname: String,
}

/// A host whose rules are followed.
#[derive(Clone, Debug)]
pub struct Side {
    /// Its name.
    pub node: String,
    /// Its namespace's file.
    pub netns: PathBuf,
}

/// What is to be followed.
#[derive(Clone, Debug)]
pub struct Question {
    /// The host that the packet begins on, and others that it may come to and that can be looked into from here.
    pub hosts: Vec<Side>,
    /// The workload that sends it; without, the host does.
    pub from: Option<Place>,
    /// The workload that it is for, where that can be looked into.
    pub to: Option<Place>,
    /// Its address.
    pub source: IpAddr,
    /// The other's.
    pub destination: IpAddr,
    /// The protocol's number.
    pub protocol: u8,
    /// The port it is sent to.
    pub port: u16,
    /// How long an answer is waited for.
    pub patience: Duration,
}

/// What became of it.
#[derive(Debug)]
pub struct Seen {
    /// The port it was sent from.
    pub port: Option<u16>,
    /// What rules did, by host.
    pub steps: Vec<(String, Step)>,
    /// Names of interfaces, by host and number.
    pub links: BTreeMap<(String, u32), String>,
    /// What rules are called, by host.
    pub rules: BTreeMap<(String, TableName), BTreeMap<u64, Named>>,
    /// Whether it came to the workload that it was for; `None` where nobody could look.
    pub arrived: Option<bool>,
    /// What came back.
    pub answer: Option<Answer>,
}

/// A packet could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// A namespace cannot be entered.
    #[error("failed to look into {what}")]
    Namespace {
        /// Whose.
        what: String,
        /// Why.
        #[source]
        source: netns::Error,
    },
    /// A socket cannot be made or used.
    #[error("failed to {what}")]
    Socket {
        /// What was to be done.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The rules cannot be followed.
    #[error("failed to follow packets through the rules of {node}")]
    Rules {
        /// On which host.
        node: String,
        /// Why.
        #[source]
        source: nft::Error,
    },
    /// The kernel cannot be asked.
    #[error("failed to list interfaces or rules of {node}")]
    Ask {
        /// On which host.
        node: String,
        /// Why.
        #[source]
        source: netlink::Error,
    },
    /// No packet of this kind can be made.
    #[error("packets of protocol {0} are not made by weft; TCP, UDP and ICMP are")]
    Protocol(u8),
}

/// Sends a packet and follows it.
///
/// # Errors
/// [`TraceError`].
pub fn follow(question: &Question) -> Result<Seen, TraceError> {
    let hosts = question.hosts.iter().map(|side| Ok((side.node.clone(), open(&side.netns, &side.node)?)));
    let hosts: Vec<(String, Netns)> = hosts.collect::<Result<_, _>>()?;
    let sender = match (&question.from, hosts.first()) {
        (Some(place), _) => &open(&place.netns, "the sender")?,
        (None, Some((_, host))) => host,
        (None, None) => &Netns::current().map_err(|source| namespace("this host", source))?,
    };
    let probe = within(sender, "the sender", || Probe::open(question))??;
    let ear = question.to.as_ref().map(listen).transpose()?;
    let followed = Followed {
        source: question.source,
        destination: question.destination,
        protocol: question.protocol,
        ports: probe.port.map(|port| (port, question.port)),
    };
    let mut followers = Vec::new();
    for (node, netns) in &hosts {
        let begun = within(netns, node, || Follower::begin(&followed))?;
        followers.push((node, begun.map_err(|source| TraceError::Rules { node: node.clone(), source })?));
    }
    probe.send().map_err(|source| TraceError::Socket { what: "send the packet", source })?;
    let mut seen = Seen {
        port: probe.port,
        steps: Vec::new(),
        links: BTreeMap::new(),
        rules: BTreeMap::new(),
        arrived: ear.as_ref().map(|_| false),
        answer: None,
    };
    let mut until = Instant::now() + question.patience;
    while Instant::now() < until {
        for (node, follower) in &mut followers {
            let soon = Instant::now() + Duration::from_millis(5);
            let steps =
                follower.steps(soon).map_err(|source| TraceError::Ask { node: node.clone(), source })?;
            seen.steps.extend(steps.into_iter().map(|step| (node.clone(), step)));
        }
        if let Some(ear) = &ear
            && heard(ear, &followed)?
        {
            seen.arrived = Some(true);
        }
        let before = seen.answer.is_none();
        seen.answer = seen.answer.take().or_else(|| probe.answer());
        let dropped = seen.steps.iter().any(|(_, step)| step.verdict == Outcome::Drop);
        if dropped || (seen.answer.is_some() && before) {
            until = until.min(Instant::now() + AFTERWARDS);
        }
    }
    only_the_first(&mut seen.steps);
    for (node, netns) in &hosts {
        within(netns, node, || names(node, &mut seen))??;
    }
    Ok(seen)
}

/// Of several packets (TCP repeats what is not answered) the first on each host.
fn only_the_first(steps: &mut Vec<(String, Step)>) {
    let mut first: BTreeMap<String, u32> = BTreeMap::new();
    steps.retain(|(node, step)| *first.entry(node.clone()).or_insert(step.packet) == step.packet);
}

fn namespace(what: &str, source: netns::Error) -> TraceError {
    TraceError::Namespace { what: what.to_owned(), source }
}

fn open(path: &std::path::Path, what: &str) -> Result<Netns, TraceError> {
    Netns::open(path).map_err(|source| namespace(what, source))
}

fn within<T>(netns: &Netns, what: &str, work: impl FnOnce() -> T) -> Result<T, TraceError> {
    netns.run(work).map_err(|source| namespace(what, source))
}

/// Opens an ear at the receiver's interface.
fn listen(place: &Place) -> Result<PacketSocket, TraceError> {
    let netns = open(&place.netns, "the receiver")?;
    let opened = within(&netns, "the receiver", || {
        let links = links().map_err(io::Error::other)?;
        let index = links.into_iter().find(|(_, name)| *name == place.ifname).map(|(index, _)| index);
        PacketSocket::open(index.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?)
    })?;
    opened.map_err(|source| TraceError::Socket { what: "listen at the receiver's interface", source })
}

fn heard(ear: &PacketSocket, followed: &Followed) -> Result<bool, TraceError> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    // Addresses stand behind each other, and without options or extensions the ports behind those.
    let mut wanted = [octets(followed.source), octets(followed.destination)].concat();
    if let Some((from, to)) = followed.ports {
        wanted.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
    }
    let mut buffer = vec![0; 2048];
    let receive = |buffer: &mut [u8]| {
        let received = ear.receive(buffer, Duration::ZERO);
        received.map_err(|source| TraceError::Socket { what: "listen at the receiver's interface", source })
    };
    while let Some(length) = receive(&mut buffer)? {
        if buffer[..length.min(2048)].windows(wanted.len()).any(|window| window == wanted) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn links() -> Result<BTreeMap<u32, String>, netlink::Error> {
    let mut socket = Socket::open(Family::Route)?;
    socket.dump(&link::list(), |all: &mut BTreeMap<u32, String>, message| {
        all.extend(link::read(message).and_then(|link| Some((link.index, link.name?.to_string()))));
    })
}

/// What interfaces and rules are called that the packet met.
fn names(node: &str, seen: &mut Seen) -> Result<(), TraceError> {
    let ask = |source| TraceError::Ask { node: node.to_owned(), source };
    seen.links
        .extend(links().map_err(ask)?.into_iter().map(|(index, name)| ((node.to_owned(), index), name)));
    let mut socket = Socket::open(Family::Netfilter).map_err(ask)?;
    for (_, step) in seen.steps.iter().filter(|(at, _)| at == node) {
        let key = (node.to_owned(), step.table.clone());
        if let std::collections::btree_map::Entry::Vacant(entry) = seen.rules.entry(key) {
            let named = nft::trace::named(&mut socket, &step.table);
            entry.insert(named.map_err(|source| TraceError::Rules { node: node.to_owned(), source })?);
        }
    }
    Ok(())
}
