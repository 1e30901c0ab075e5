//! Ports that real runtimes publish: podman by `-p`, containerd's CRI by the host port of a pod, as a kubelet asks
//! for it. From outside, from the host, and from its loopback (docs/ports.md).

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use weft_kernel::netns::Netns;
use weft_lab::traffic::{UdpEcho, WebServer, connect, get, udp};
use weft_tests::containerd::{Containerd, Release, SOCKET};
use weft_tests::cri::message::PortMapping;
use weft_tests::cri::{Cri, pod_config};
use weft_tests::images::BUSYBOX;
use weft_tests::podman::{Podman, Runtime};
use weft_tests::scene::{SOON, anywhere};
use weft_tests::snapshot::Snapshot;
use weft_tests::weft::Mode;
use weft_tests::{Network, Sandbox, outside, wait};

/// The ports that each container publishes: 18080 leads to 80 of TCP, 15353 to 53 of UDP.
const WEB: u16 = 18080;
const ECHO: u16 = 15353;

/// Who starts containers with those ports.
trait Client {
    fn start(&self, name: &str) -> Result<()>;
    fn remove(&self, name: &str) -> Result<()>;
}

impl Client for Podman<'_> {
    fn start(&self, name: &str) -> Result<()> {
        let [web, echo] = [format!("--publish={WEB}:80"), format!("--publish={ECHO}:53/udp")];
        self.podman(&["run", "--detach", "--name", name, &web, &echo, BUSYBOX, "sleep", "1000"]).map(|_| ())
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.podman(&["rm", "--force", "--time", "0", name]).map(|_| ())
    }
}

/// What a kubelet does for a pod, and the numbers that the runtime gave its pods.
struct Kubelet {
    cri: Cri,
    pods: Mutex<HashMap<String, String>>,
}

impl Client for Kubelet {
    fn start(&self, name: &str) -> Result<()> {
        let port = |protocol, container_port, host_port: u16| PortMapping {
            protocol,
            container_port,
            host_port: host_port.into(),
            host_ip: String::new(),
        };
        let mut config = pod_config(name);
        config.port_mappings = vec![port(0, 80, WEB), port(1, 53, ECHO)];
        let id = self.cri.run_pod_sandbox(&config)?;
        self.pods.lock().expect("one thread").insert(name.to_owned(), id);
        Ok(())
    }

    /// A pod that could not be started has been taken away by the runtime itself.
    fn remove(&self, name: &str) -> Result<()> {
        let Some(id) = self.pods.lock().expect("one thread").remove(name) else { return Ok(()) };
        self.cri.stop_pod_sandbox(&id)?;
        self.cri.remove_pod_sandbox(&id)
    }
}

/// A host between a neighbour and the containers.
struct Stage {
    host: Sandbox,
    outside: Netns,
    network: Network,
}

impl Stage {
    fn new(mode: Mode) -> Result<Stage> {
        let host = Sandbox::new()?;
        let outside = outside::put(&host)?;
        // The agent's names for its programs at the loopback: in here, as are the control groups that it sees.
        host.sh("mount -t bpf bpf /sys/fs/bpf")?;
        host.copy_in(Path::new(env!("CARGO_BIN_EXE_sock")), "/run/sock")?;
        Ok(Stage { host, outside, network: Network::weft(mode)? })
    }

    /// The namespaces that runtimes have made.
    fn containers(&self) -> Result<BTreeSet<String>> {
        let names = self.host.sh("ls /run/netns")?;
        Ok(names.lines().filter(|n| *n != outside::NAME).map(str::to_owned).collect())
    }

    /// The namespace of the one container that runs.
    fn container(&self) -> Result<Netns> {
        let all = self.containers()?;
        ensure!(all.len() == 1, "not one container, but {all:?}");
        let name = all.first().context("no container")?;
        Ok(Netns::open(&self.host.path(format!("/run/netns/{name}")))?)
    }

    /// Everybody who may come reaches the container, and as whom.
    fn is_reached(&self) -> Result<()> {
        let inside = self.container()?;
        let web = WebServer::start(&inside, anywhere(80))?;
        let echo = UdpEcho::start(&inside, anywhere(53))?;
        let host = self.host.netns()?;
        for (at, neighbour) in outside::HOST.into_iter().zip(outside::NEIGHBOUR) {
            for (who, netns, own) in [("outside", &self.outside, neighbour), ("the host", &host, at)] {
                let seen = get(netns, SocketAddr::new(at, WEB), SOON);
                ensure!(seen.with_context(|| format!("{who} to {at}"))? == own, "{who} is not seen as {own}");
                let socket = udp(netns, anywhere(0))?;
                socket.connect(SocketAddr::new(at, ECHO))?;
                socket.set_read_timeout(Some(SOON))?;
                socket.send(b"x")?;
                socket.recv(&mut [0; 9]).with_context(|| format!("{who} to {at} with UDP"))?;
                ensure!(echo.peers().last() == Some(&own), "{who} is seen as {:?}", echo.peers().last());
            }
        }
        for to in ["127.0.0.1", "[::1]"] {
            self.host.run(&["/run/sock", "tcp", &format!("{to}:{WEB}")])?;
            self.host.run(&["/run/sock", "udp", &format!("{to}:{ECHO}")])?;
        }
        ensure!(web.peers().len() == 6, "{:?}", web.peers());
        Ok(())
    }

    fn is_refused(&self) -> Result<()> {
        for at in outside::HOST {
            let answer = connect(&self.outside, SocketAddr::new(at, WEB), SOON);
            let error = answer.err().with_context(|| format!("{at} still answers"))?;
            ensure!(error.kind() == std::io::ErrorKind::ConnectionRefused, "{at}: {error}");
        }
        let answer = self.host.run(&["/run/sock", "tcp", &format!("127.0.0.1:{WEB}")]);
        ensure!(answer.is_err(), "127.0.0.1 still answers");
        Ok(())
    }

    /// One container publishes ports, another one may not have them, and has them when the first is gone.
    fn publishes(&self, client: &dyn Client) -> Result<()> {
        let before = Snapshot::take(&self.host, &self.network)?;
        client.start("first")?;
        self.is_reached()?;
        let refused = client.start("second").err().context("two containers have one port")?;
        let told = format!("{refused:#}");
        // Of the two that it wants, one is named: podman passes them in either order.
        let named = ["has 18080:80/tcp", "has 15353:53/udp"].iter().any(|holder| told.contains(holder));
        ensure!(told.contains("cannot be published") && named, "{told}");
        client.remove("second")?;
        self.is_reached().context("after another one was refused")?;
        client.remove("first")?;
        self.is_refused()?;
        client.start("second")?;
        self.is_reached().context("of the next container")?;
        client.remove("second")?;
        self.is_refused()?;
        wait::until("a clean host", wait::LONG / 4, || {
            Snapshot::take(&self.host, &self.network)?.same_as(&before)
        })
    }

    /// With the daemons' words.
    fn explain(&self, result: Result<()>) -> Result<()> {
        result.with_context(|| self.host.logs())
    }
}

fn by_podman(mode: Mode) -> Result<()> {
    let stage = Stage::new(mode)?;
    let podman = Podman::start(&stage.host, &stage.network, Runtime::Crun)?;
    stage.explain(stage.publishes(&podman))
}

fn by_the_cri(mode: Mode, release: Release) -> Result<()> {
    let stage = Stage::new(mode)?;
    let _containerd = Containerd::start(&stage.host, &stage.network, release)?;
    let cri = Cri::connect(&stage.host, SOCKET)?;
    stage.explain(stage.publishes(&Kubelet { cri, pods: Mutex::default() }))
}

#[test]
fn podman_publishes_in_a_routed_network() -> Result<()> {
    by_podman(Mode::Routed)
}

#[test]
fn podman_publishes_in_a_bridge_network() -> Result<()> {
    by_podman(Mode::Bridge)
}

#[test]
fn the_cri_publishes_in_a_routed_network() -> Result<()> {
    by_the_cri(Mode::Routed, Release::installed()?)
}

#[test]
fn the_cri_publishes_in_a_bridge_network_of_containerd_2() -> Result<()> {
    by_the_cri(Mode::Bridge, Release::two()?)
}

/// Ranges, one address of the host's, and a container that stops and starts: podman tears the network down and
/// asks anew.
#[test]
fn podman_publishes_ranges_and_restarts() -> Result<()> {
    let stage = Stage::new(Mode::Routed)?;
    let podman = Podman::start(&stage.host, &stage.network, Runtime::Crun)?;
    let published = || -> Result<()> {
        let ports = ["--publish=17000-17003:80-83", "--publish=192.0.2.1:18080:80", "--publish=15353:53/udp"];
        podman.podman(
            &[&["run", "--detach", "--name=one"], &ports[..], &[BUSYBOX, "sleep", "1000"]].concat(),
        )?;
        for round in ["at first", "after a restart"] {
            let inside = stage.container()?;
            let servers = [80, 83].map(|port| WebServer::start(&inside, anywhere(port)));
            let [at4, at6] = outside::HOST;
            for (at, port) in [(at4, 17000), (at6, 17003), (at4, 18080)] {
                get(&stage.outside, SocketAddr::new(at, port), SOON)
                    .with_context(|| format!("{at} {port} {round}"))?;
            }
            let other: SocketAddr = SocketAddr::new(at6, 18080);
            ensure!(connect(&stage.outside, other, SOON).is_err(), "{other} answers {round}");
            for server in servers {
                ensure!(!server?.peers().is_empty(), "a server got nothing {round}");
            }
            drop(inside);
            podman.podman(&["restart", "--time", "0", "one"])?;
        }
        let shown = podman.podman(&["port", "one"])?;
        ensure!(shown.contains("17003") && shown.contains("192.0.2.1:18080"), "{shown}");
        podman.remove("one")
    };
    stage.explain(published())
}

/// What a runtime is told when a process of the host has the port.
#[test]
fn podman_is_told_who_holds_a_port() -> Result<()> {
    let stage = Stage::new(Mode::Routed)?;
    let podman = Podman::start(&stage.host, &stage.network, Runtime::Crun)?;
    let at: IpAddr = outside::HOST[0];
    let _holder = stage.host.netns()?.run(|| std::net::TcpListener::bind(SocketAddr::new(at, WEB)))??;
    let refused = podman.start("one").err().context("the port was granted")?;
    let told = format!("{refused:#}");
    ensure!(
        told.contains("18080:80/tcp cannot be published") && told.contains("listens at 192.0.2.1:18080"),
        "{told}"
    );
    podman.remove("one")
}
