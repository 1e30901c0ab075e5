//! An agent that knows its answers by heart.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};

use tempfile::TempDir;
use weft_model::api::{
    AssignedAddress, Attached, NetworkStatus, PoolStatus, Refused, Reply, Request, Status, WorkloadStatus,
};
use weft_model::{AttachmentId, Mac, Mode, Network, NetworkId, Phase};

use crate::scene::{Run, weft};

/// It listens on a socket of its own until the test ends.
pub(crate) struct Agent {
    /// Of the caller's, or one that goes with this value.
    folder: Result<TempDir, PathBuf>,
    requests: Receiver<Request>,
}

impl Agent {
    pub(crate) fn new(answer: impl Fn(&Request) -> Reply + Send + 'static) -> Agent {
        Agent::raw(move |request| serde_json::to_string(&answer(request)).unwrap() + "\n")
    }

    /// One that answers with any text.
    pub(crate) fn raw(answer: impl Fn(&Request) -> String + Send + 'static) -> Agent {
        Agent::listen(Ok(tempfile::tempdir().unwrap()), answer)
    }

    /// One that listens in a directory of the caller's.
    pub(crate) fn at(
        folder: impl Into<PathBuf>,
        answer: impl Fn(&Request) -> String + Send + 'static,
    ) -> Agent {
        Agent::listen(Err(folder.into()), answer)
    }

    fn listen(
        folder: Result<TempDir, PathBuf>,
        answer: impl Fn(&Request) -> String + Send + 'static,
    ) -> Agent {
        let listener = UnixListener::bind(socket(&folder)).unwrap();
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                let request: Request = serde_json::from_str(&line).unwrap();
                // The client may have gone already.
                let _ = stream.write_all(answer(&request).as_bytes());
                let _ = sender.send(request);
            }
        });
        Agent { folder, requests }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket(&self.folder)
    }

    pub(crate) fn weft(&self, words: &[&str]) -> Run {
        let socket = self.socket().display().to_string();
        let mut all = vec!["--socket", &socket];
        all.extend(words);
        weft(&all)
    }

    /// What it was asked next.
    #[track_caller]
    pub(crate) fn asked(&self) -> Request {
        self.requests.recv_timeout(std::time::Duration::from_secs(5)).unwrap()
    }
}

fn socket(folder: &Result<TempDir, PathBuf>) -> PathBuf {
    folder.as_ref().map_or_else(PathBuf::as_path, TempDir::path).join("agent.sock")
}

/// A usual answer to everything.
pub(crate) fn usual(request: &Request) -> Reply {
    let commands = |wanted: bool, text: &str| if wanted { vec![text.to_owned()] } else { Vec::new() };
    match request {
        Request::Attach(a) => Reply::Attached(Box::new(Attached {
            commands: commands(a.explain, "ip link add weft0 type veth"),
            ..attached()
        })),
        Request::SetBandwidth { explain, .. } => {
            Reply::Done { commands: commands(*explain, "tc qdisc del dev weft0 root") }
        }
        Request::Detach(d) => Reply::Done { commands: commands(d.explain, "ip link del weft0") },
        Request::NetworkCreate(spec) => Reply::Network(Box::new(NetworkStatus {
            commands: commands(spec.explain, "ip link add weft-app type dummy"),
            ..network(spec.name.as_str())
        })),
        Request::NetworkRemove { explain, .. } => {
            Reply::Done { commands: commands(*explain, "ip link del weft-app") }
        }
        Request::NetworkList => Reply::Networks(vec![network("default"), network("app")]),
        Request::Status => Reply::Status(Box::new(status())),
        Request::Diff => Reply::Diff(vec!["ip link set weft0 up".to_owned()]),
        Request::Inventory => Reply::Inventory(Vec::new()),
        Request::Plan => Reply::Plan("{\"networks\":{}}".to_owned()),
        _ => Reply::Done { commands: Vec::new() },
    }
}

pub(crate) fn attached() -> Attached {
    Attached {
        host_ifname: "weft0a1b2c".parse().unwrap(),
        host_mac: Mac::HOST_END,
        bridge: None,
        mac: "02:00:00:00:00:07".parse().unwrap(),
        mtu: 1500,
        addresses: vec![AssignedAddress {
            address: "10.89.0.2/24".parse().unwrap(),
            gateway: "169.254.1.1".parse().unwrap(),
        }],
        routes: Vec::new(),
        commands: Vec::new(),
    }
}

pub(crate) fn network(name: &str) -> NetworkStatus {
    NetworkStatus {
        network: Network {
            name: name.parse().unwrap(),
            id: NetworkId(1),
            mode: Mode::Routed,
            ipv4: Some("10.89.0.0/24".parse().unwrap()),
            ipv6: Some("fd00:89::/64".parse().unwrap()),
            mtu: None,
            masquerade: true,
            vni: None,
            encapsulation: weft_model::Encapsulation::Auto,
        },
        device: "weft-1".parse().unwrap(),
        effective_mtu: 1500,
        workloads: 1,
        pools: vec![
            PoolStatus { subnet: "10.89.0.0/24".parse().unwrap(), used: 1, resting: 2, usable: 253 },
            PoolStatus { subnet: "fd00:89::/64".parse().unwrap(), used: 1, resting: 0, usable: u64::MAX },
        ],
        commands: Vec::new(),
    }
}

pub(crate) fn status() -> Status {
    Status {
        api: 1,
        node: "knot".parse().unwrap(),
        version: "0.1.0".to_owned(),
        pid: 4242,
        uptime: 3_700,
        resident_kib: 10_035,
        dataplane: "nft".to_owned(),
        networks: vec![network("default")],
        workloads: vec![WorkloadStatus {
            id: AttachmentId {
                network: "default".parse().unwrap(),
                container: "netns-blue".parse().unwrap(),
                ifname: "eth0".parse().unwrap(),
            },
            host_ifname: "weft0a1b2c".parse().unwrap(),
            addresses: vec!["10.89.0.2/24".parse().unwrap()],
            mac: "02:00:00:00:00:07".parse().unwrap(),
            phase: Phase::Ready,
            netns: "/run/netns/blue".into(),
            pod: None,
            ports: Vec::new(),
            bandwidth: "100M/-".parse().unwrap(),
        }],
        peers: Vec::new(),
        refused: vec![Refused { reason: "spoofed source".to_owned(), packets: 12, bytes: 1008 }],
        health: Vec::new(),
        store: None,
    }
}

/// The usual answers from an agent that says that it is this very process.
pub(crate) fn honest(request: &Request) -> Reply {
    match request {
        Request::Status => Reply::Status(Box::new(Status { pid: std::process::id(), ..status() })),
        other => usual(other),
    }
}
