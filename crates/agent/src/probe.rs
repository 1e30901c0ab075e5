//! Asking other hosts whether they hear us: the way itself, packets of the largest size, and checksums.
//!
//! Every round some hosts are sent datagrams by the way that workloads' packets take, from this host's own
//! address in the network to the other's; agents answer those of hosts that they know, with no more than they
//! got, and with the time. Nothing is decided by it but one thing: where datagrams with a checksum get lost and those without
//! one do not, the tunnel's offload is at fault and is switched off (PAINS.md 6).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use weft_model::api::PeerFault;
use weft_model::{IfName, NodeName};

use crate::agent::Agent;

/// The port on which agents ask and answer: UDP, on the hosts' own addresses in networks.
const PORT: u16 = 7765;
const ROUND: Duration = Duration::from_secs(2);
/// So many hosts are asked in a round, however many there are.
const SHARE: usize = 100;
/// So many times in a row there must be no answer before that means something.
const PATIENCE: u32 = 3;
const MAGIC: [u8; 4] = *b"weft";

/// A host to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) node: NodeName,
    /// This host's own address in the network.
    pub(crate) own: IpAddr,
    /// The other's.
    pub(crate) to: IpAddr,
    /// Largest packet on the way, in bytes.
    pub(crate) mtu: u32,
    /// The tunnel that the way leads through, if it does.
    pub(crate) tunnel: Option<IfName>,
}

/// What is known of a host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// When it answered last.
    pub(crate) at: Option<Instant>,
    /// What is wrong with the way to it.
    pub(crate) problem: Option<String>,
    /// The same for programs.
    pub(crate) fault: Option<PeerFault>,
    /// How far its clock is ahead of this host's, in milliseconds.
    pub(crate) clock: Option<i64>,
    /// Rounds in a row without an answer, by kind of question.
    missed: [u32; 3],
}

/// Kinds of questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A small datagram.
    Small = 0,
    /// One of the largest size, which must not be cut up.
    Large = 1,
    /// A small one without a checksum.
    Bare = 2,
}

/// Sockets of one own address.
struct Sockets {
    /// Asks, and answers others.
    checked: UdpSocket,
    /// Asks without checksums; IPv4 only, for IPv6 demands them (RFC 8200, section 8.1).
    bare: Option<UdpSocket>,
}

/// Works until the agent's end.
pub(crate) fn run(agent: &Arc<Agent>) {
    let (mut sockets, mut samples) = (BTreeMap::new(), BTreeMap::new());
    let mut turn = 0;
    loop {
        let targets = agent.engine().probe_targets();
        bind(&targets, &mut sockets);
        samples.retain(|node, _| targets.iter().any(|t| t.node == *node));
        let share: Vec<&Target> = targets.iter().cycle().skip(turn).take(targets.len().min(SHARE)).collect();
        turn = if targets.is_empty() { 0 } else { (turn + SHARE) % targets.len() };
        for target in &share {
            if let Some(own) = sockets.get(&target.own) {
                ask(own, target);
            }
        }
        let answers = listen(&sockets, &targets);
        for target in share {
            let sample: &mut Sample = samples.entry(target.node.clone()).or_default();
            let answers = answers.get(&target.to).copied().unwrap_or_default();
            sample.clock = answers.clock.or(sample.clock);
            judge(sample, target, answers.kinds);
        }
        agent.engine().note_probes(samples.clone());
    }
}

/// Sockets for every own address that is in use; an address that is not there yet is tried again.
fn bind(targets: &[Target], sockets: &mut BTreeMap<IpAddr, Sockets>) {
    sockets.retain(|own, _| targets.iter().any(|t| t.own == *own));
    for target in targets {
        if sockets.contains_key(&target.own) {
            continue;
        }
        match open(target.own) {
            Ok(own) => {
                sockets.insert(target.own, own);
            }
            Err(error) => tracing::debug!(%error, address = %target.own, "failed to listen for other hosts"),
        }
    }
}

fn open(own: IpAddr) -> io::Result<Sockets> {
    let checked = UdpSocket::bind(SocketAddr::new(own, PORT))?;
    checked.set_nonblocking(true)?;
    // Packets of the largest size are not to be cut up, and what the kernel has learnt of the way is not asked.
    if own.is_ipv4() {
        sockopt::set_ip_mtu_discover(&checked, sockopt::Ipv4PathMtuDiscovery::PROBE)?;
    } else {
        sockopt::set_ipv6_mtu_discover(&checked, sockopt::Ipv6PathMtuDiscovery::PROBE)?;
    }
    let bare = own.is_ipv4().then(|| {
        let bare = UdpSocket::bind(SocketAddr::new(own, 0))?;
        bare.set_nonblocking(true)?;
        weft_kernel::offload::without_checksum(&bare)?;
        Ok::<_, io::Error>(bare)
    });
    Ok(Sockets { checked, bare: bare.transpose()? })
}

fn ask(own: &Sockets, target: &Target) {
    let to = SocketAddr::new(target.to, PORT);
    let headers = if target.to.is_ipv4() { 28 } else { 48 };
    let full = usize::try_from(target.mtu).unwrap_or(0).saturating_sub(headers).max(8);
    // A question that cannot be sent is one that gets no answer.
    let _ = own.checked.send_to(&question(Kind::Small, 16), to);
    let _ = own.checked.send_to(&question(Kind::Large, full), to);
    if let Some(bare) = &own.bare {
        let _ = bare.send_to(&question(Kind::Bare, 8), to);
    }
}

fn question(kind: Kind, length: usize) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &[b'?', kind as u8, 0, 0]].concat();
    bytes.resize(length, 0);
    bytes
}

/// What a datagram says: whether it asks, and the kind of question.
fn read(bytes: &[u8]) -> Option<(bool, Kind)> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let kind = match rest.get(1)? {
        0 => Kind::Small,
        1 => Kind::Large,
        2 => Kind::Bare,
        _ => return None,
    };
    match rest.first()? {
        b'?' => Some((true, kind)),
        b'!' => Some((false, kind)),
        _ => None,
    }
}

/// What a host has answered in a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Answers {
    kinds: [bool; 3],
    clock: Option<i64>,
}

/// An answer to a question of that length; the time fills what the question has room for.
fn answer(kind: Kind, asked: usize, now: i64) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &[b'!', kind as u8, 0, 0], &now.to_be_bytes()].concat();
    bytes.truncate(asked);
    bytes
}

/// The time in an answer.
fn time(bytes: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.get(8..16)?.try_into().ok()?))
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Answers others and gathers answers until the round is over. Strangers get none.
fn listen(sockets: &BTreeMap<IpAddr, Sockets>, known: &[Target]) -> BTreeMap<IpAddr, Answers> {
    let end = Instant::now() + ROUND;
    let mut answers: BTreeMap<IpAddr, Answers> = BTreeMap::new();
    let all: Vec<&UdpSocket> =
        sockets.values().flat_map(|s| [Some(&s.checked), s.bare.as_ref()]).flatten().collect();
    let mut buffer = vec![0; 65_536];
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        let mut fds: Vec<PollFd<'_>> =
            all.iter().map(|s| PollFd::from_borrowed_fd(s.as_fd(), PollFlags::IN)).collect();
        let timeout = Timespec::try_from(left).ok();
        if poll(&mut fds, timeout.as_ref()).is_err() {
            continue; // interrupted
        }
        for socket in &all {
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if !known.iter().any(|t| t.to == from.ip()) {
                    continue;
                }
                match read(&buffer[..length]) {
                    Some((true, kind)) => {
                        let _ = socket.send_to(&answer(kind, length, now()), from);
                    }
                    Some((false, kind)) => {
                        let told = answers.entry(from.ip()).or_default();
                        told.kinds[kind as usize] = true;
                        told.clock = time(&buffer[..length]).map(|t| t.saturating_sub(now())).or(told.clock);
                    }
                    None => {}
                }
            }
        }
    }
    answers
}

/// Draws the conclusions of a round.
fn judge(sample: &mut Sample, target: &Target, answered: [bool; 3]) {
    if answered.contains(&true) {
        sample.at = Some(Instant::now());
    }
    for (missed, answered) in sample.missed.iter_mut().zip(answered) {
        *missed = if answered { 0 } else { missed.saturating_add(1) };
    }
    let [small, large, bare] = sample.missed.map(|missed| missed >= PATIENCE);
    let by = if target.tunnel.is_some() {
        "in VXLAN (is UDP port 4789 open between the two?)"
    } else {
        "directly"
    };
    let found = match (&target.tunnel, small, large, bare) {
        (Some(tunnel), true, _, false) if target.to.is_ipv4() => {
            Some((PeerFault::Checksums, repair_offload(sample, tunnel)))
        }
        (_, true, ..) => Some((PeerFault::Silent, format!("it does not answer {by}"))),
        (_, false, true, _) => Some((
            PeerFault::Size,
            format!(
                "packets of {} bytes get lost on the way there: the underlay carries less than its MTU says; \
                 `weft explain host {}` shows the arithmetic",
                target.mtu, target.node
            ),
        )),
        (_, false, false, _) => None,
    };
    (sample.fault, sample.problem) = found.unzip();
}

fn repair_offload(sample: &Sample, tunnel: &IfName) -> String {
    // Once: what is off already cannot be the cause.
    if sample.missed[Kind::Small as usize] == PATIENCE {
        match weft_kernel::offload::switch_off(tunnel) {
            Ok(()) => {
                tracing::warn!(device = %tunnel, "packets with checksums got lost in a tunnel: switched its checksum offload off");
                return format!(
                    "packets with checksums got lost: the checksum offload of {tunnel} was switched off"
                );
            }
            Err(error) => {
                tracing::warn!(%error, device = %tunnel, "failed to switch a tunnel's checksum offload off");
            }
        }
    }
    format!(
        "packets with checksums get lost in {tunnel}, also without its checksum offload: try `ethtool -K UPLINK tx off` on both hosts"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(tunnel: bool) -> Target {
        Target {
            node: "other".parse().unwrap(),
            own: "10.0.1.1".parse().unwrap(),
            to: "10.0.2.1".parse().unwrap(),
            mtu: 1450,
            tunnel: tunnel.then(|| "none-such".parse().unwrap()),
        }
    }

    fn after(tunnel: bool, rounds: &[[bool; 3]]) -> Option<String> {
        let mut sample = Sample::default();
        rounds.iter().for_each(|answered| judge(&mut sample, &target(tunnel), *answered));
        sample.problem
    }

    #[test]
    fn conclusions_take_three_rounds() {
        let (all, none) = ([true; 3], [false; 3]);
        assert_eq!(after(true, &[all; 5]), None);
        assert_eq!(after(true, &[all, none, none]), None);
        assert!(after(true, &[none; 3]).unwrap().contains("4789"));
        assert!(after(false, &[none; 3]).unwrap().ends_with("directly"));
        assert_eq!(after(false, &[none, none, none, all]), None);
        assert!(after(true, &[[true, false, true]; 3]).unwrap().contains("1450 bytes"));
        assert!(after(true, &[[false, false, true]; 3]).unwrap().contains("checksum"));
    }

    #[test]
    fn questions_are_read_back_and_nothing_else_is() {
        for kind in [Kind::Small, Kind::Large, Kind::Bare] {
            assert_eq!(read(&question(kind, 100)), Some((true, kind)));
        }
        let told = answer(Kind::Small, 16, 1_700_000_000_123);
        assert_eq!((read(&told), time(&told)), (Some((false, Kind::Small)), Some(1_700_000_000_123)));
        let short = answer(Kind::Bare, 8, 1);
        assert_eq!(
            (read(&short), time(&short)),
            (Some((false, Kind::Bare)), None),
            "no more than was asked with"
        );
        for rubbish in [&b""[..], b"weft", b"weft?", b"weft?\x09", b"weftx\x00", b"heft?\x00"] {
            assert_eq!(read(rubbish), None);
        }
    }
}
