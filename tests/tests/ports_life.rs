//! Published ports over time: who may have one, what becomes of connections when a workload is replaced, and what
//! they survive (BAR.md R4 and R5; security rows 22 and 25; PAINS.md 4 and 7).

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use anyhow::{Context, Result, bail, ensure};
use weft_kernel::conntrack::{Filter, flows};
use weft_kernel::netlink::{Family, Socket};
use weft_kernel::netns::Netns;
use weft_lab::traffic::{UdpEcho, WebServer, connect, get, udp};
use weft_lab::{Host, Namespace};
use weft_model::api::{Error, ErrorKind, Reply, Request};
use weft_model::{Mac, Mode, NetworkName};
use weft_tests::scene::{Case, Families, SOON, Scene, Workload, anywhere};
use weft_tests::{matrix, programs, wait};

matrix!(
    udp_follows_a_replaced_workload,
    an_address_that_comes_back_is_found,
    nothing_is_left_of_a_detached_workloads_connections,
    a_flush_is_mended,
    a_dead_agent_and_a_lost_record,
);

const DUAL: Case = Case { mode: Mode::Routed, families: Families::Dual };

fn refusal(scene: &Scene, network: &NetworkName, ports: &[&str]) -> Result<Error> {
    let namespace = Namespace::new()?;
    let mut wish = namespace.wish(network, "eth0")?;
    wish.profile.ports = ports.iter().map(|p| p.parse()).collect::<Result<_, _>>()?;
    let error =
        Namespace::attach_as(&scene.host, wish).err().with_context(|| format!("{ports:?} was granted"))?;
    ensure!(namespace.links()?.link("eth0").is_err(), "an interface is left of {ports:?}");
    error.refusal().cloned().with_context(|| format!("no refusal of {ports:?}: {error}"))
}

#[test]
fn one_port_has_one_holder() -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, DUAL)?;
    let other = scene.network(2, Case { mode: Mode::Bridge, families: Families::V4 })?;
    let host = scene.host.ipv4();
    let single = format!("{host}:9000:90");
    let holder = scene.publish(&network, &["8080-8089:80-89", "5353:53/udp", &single])?;
    let name = holder.namespace.container().to_string();
    for ports in
        ["8085:80", "0.0.0.0:8080:80", "[::]:8089:80", "8000-9999:8000-9999", &format!("{host}:5353:53/udp")]
    {
        for network in [&network, &other] {
            if network == &other && ports.starts_with('[') {
                continue;
            }
            let error = refusal(&scene, network, &[ports])?;
            ensure!(error.kind == ErrorKind::Exists && error.message.contains(&name), "{ports}: {error:?}");
        }
    }
    // Another protocol, another address, another port: no conflict.
    let beside = ["8085:80/udp", "5353:53/sctp", "[::]:9000:90", "8090:80"];
    scene.publish(&network, &beside)?;
    // A runtime asks for the ports of a container once per network.
    let mut wish = holder.namespace.wish(&other, "net1")?;
    wish.profile.ports = vec!["5353:53/udp".parse()?, "9100:91".parse()?];
    Namespace::attach_as(&scene.host, wish)?;
    let status = scene.host.status()?;
    let second = status.workloads.iter().find(|w| w.id.ifname.as_str() == "net1").context("no net1")?;
    ensure!(second.ports == ["9100:91".parse()?], "{:?}", second.ports);
    // Once it is free it is anybody's.
    holder.namespace.detach(&scene.host, &network)?;
    scene.publish(&other, &["8085:80"])?;
    Ok(())
}

#[test]
fn what_cannot_be_published_is_refused_by_name() -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, Case { mode: Mode::Routed, families: Families::V4 })?;
    let host = scene.host.netns();
    let listener = host.run(|| TcpListener::bind("0.0.0.0:7000"))??;
    let own = scene.host.ipv4();
    let _single = host.run(|| TcpListener::bind((own, 7001)))??;
    let _six = host.run(|| UdpSocket::bind("[::]:7002"))??;
    let this = format!("process {}", std::process::id());
    for (ports, kind, why) in [
        ("7000:80", ErrorKind::Exists, this.as_str()),
        ("6990-7010:80-100", ErrorKind::Exists, "0.0.0.0:7000/tcp"),
        ("7001:80", ErrorKind::Exists, "7001/tcp"),
        ("7002:80/udp", ErrorKind::Exists, "[::]:7002/udp"),
        ("192.0.2.77:80:80", ErrorKind::Invalid, "192.0.2.77, which is no address of this host"),
        ("198.51.100.1:80:80", ErrorKind::Invalid, "no address of this host"),
        ("[::]:80:80", ErrorKind::Invalid, "IPv6, which network 'net1' does not have"),
        ("[2001:db8:1::b]:80:80", ErrorKind::Invalid, "IPv6, which network"),
        ("127.0.0.1:80:80", ErrorKind::Kernel, "publish_on_loopback is off"),
    ] {
        let error = refusal(&scene, &network, &[ports])?;
        let said = error.message.contains(why) && error.hint.is_some();
        ensure!(error.kind == kind && said, "{ports}: {error:?}");
    }
    let error = refusal(&scene, &network, &["80:80", "79-81:79-81"])?;
    ensure!(error.kind == ErrorKind::Invalid && error.message.contains("want one port"), "{error:?}");
    ensure!(scene.host.status()?.networks[0].workloads == 0, "a record is left");
    // What listens elsewhere is in nobody's way, and neither is who has hung up.
    scene.publish(&network, &["192.0.2.11:7003:80", "7001:80/udp", "7002:80"])?;
    drop(listener);
    scene.publish(&network, &["7000:80"])?;
    Ok(())
}

/// A client that never pauses, by one socket.
struct Client {
    socket: UdpSocket,
}

impl Client {
    fn new(netns: &Netns, to: SocketAddr) -> Result<Client> {
        let socket = udp(netns, anywhere(0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(std::time::Duration::from_millis(20)))?;
        Ok(Client { socket })
    }

    /// Sends on until `echo` has seen something.
    fn reaches(&self, echo: &UdpEcho, what: &str) -> Result<()> {
        let before = echo.peers().len();
        wait::until(what, SOON, || {
            let _ = self.socket.send(b"x");
            let _ = self.socket.recv(&mut [0; 9]);
            ensure!(echo.peers().len() > before, "nothing has come");
            Ok(())
        })
    }
}

fn udp_follows_a_replaced_workload(case: Case) -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, case)?;
    let clients = scene.host.addresses().into_iter().filter(|a| case.families.has(a.addr()));
    let clients = clients.map(|a| Client::new(scene.underlay.netns(), SocketAddr::new(a.addr(), 5353)));
    let clients = clients.collect::<Result<Vec<_>>>()?;
    // Their connections with the host itself begin before anything is published.
    for client in &clients {
        let _ = client.socket.send(b"x");
        let _ = client.socket.recv(&mut [0; 9]);
    }
    let mut former: Option<Workload> = None;
    for round in ["the first", "the second", "the third"] {
        if let Some(former) = former.take() {
            former.namespace.detach(&scene.host, &network)?;
            for client in &clients {
                let _ = client.socket.send(b"nobody is there");
            }
        }
        let workload = scene.publish(&network, &["5353:53/udp"])?;
        let echo = UdpEcho::start(workload.namespace.netns(), anywhere(53))?;
        for client in &clients {
            client.reaches(&echo, round)?;
        }
        former = Some(workload);
    }
    Ok(())
}

/// The very address comes back with another workload: the first packet finds it, from a neighbour on its segment as well.
/// The host finds it under another Ethernet address, too, and does not believe for seconds that it is still the former one.
fn an_address_that_comes_back_is_found(case: Case) -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, case)?;
    let neighbour = scene.workload(&network)?;
    let mut former: Option<(Workload, Vec<IpAddr>)> = None;
    let another = Mac::from_seed(7);
    for (round, mac) in
        [("the first", None), ("the second", None), ("one of another Ethernet address", Some(another))]
    {
        let namespace = Namespace::new()?;
        let mut wish = namespace.wish(&network, "eth0")?;
        wish.mac = mac;
        wish.profile.ports = vec!["8080:80".parse()?, "5353:53/udp".parse()?];
        if let Some((former, addresses)) = former.take() {
            former.namespace.detach(&scene.host, &network)?;
            wish.ips = addresses;
        }
        let attached = Namespace::attach_as(&scene.host, wish)?;
        let workload = Workload { namespace, attached };
        let echo = UdpEcho::start(workload.namespace.netns(), anywhere(53))?;
        let web = WebServer::start(workload.namespace.netns(), anywhere(80))?;
        let addresses: Vec<IpAddr> = workload.addresses().collect();
        for address in &addresses {
            let host = scene.host.address(*address);
            // One datagram and no other.
            let ask = |netns: &Netns, to: SocketAddr| -> Result<()> {
                let client = udp(netns, anywhere(0))?;
                client.connect(to)?;
                client.set_read_timeout(Some(SOON))?;
                client.send(b"x")?;
                client.recv(&mut [0; 9]).with_context(|| format!("UDP to {to}: {round}"))?;
                Ok(())
            };
            // Neighbours on the segment have asked by themselves who has the address, and are not told.
            if mac.is_none() || case.mode == Mode::Routed {
                ask(neighbour.namespace.netns(), SocketAddr::new(*address, 53))?;
            }
            for netns in [scene.underlay.netns(), scene.host.netns()] {
                ask(netns, SocketAddr::new(host, 5353))?;
                get(netns, SocketAddr::new(host, 8080), SOON)
                    .with_context(|| format!("TCP to {host}: {round}"))?;
            }
        }
        ensure!(echo.peers().len() >= 2 * addresses.len(), "{round}: {:?}", echo.peers());
        ensure!(web.peers().len() == 2 * addresses.len(), "{round}: {:?}", web.peers());
        former = Some((workload, addresses));
    }
    Ok(())
}

fn concerned(host: &Host, address: IpAddr) -> Result<usize> {
    let found = host
        .netns()
        .run(|| -> Result<_> { Ok(flows(&mut Socket::open(Family::Netfilter)?, &Filter::default())?) })??;
    Ok(found.iter().filter(|flow| flow.concerns(address)).count())
}

fn nothing_is_left_of_a_detached_workloads_connections(case: Case) -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, case)?;
    let workload = scene.publish(&network, &["8080:80", "5353:53/udp"])?;
    let own: Vec<IpAddr> = workload.addresses().collect();
    let _web = WebServer::start(workload.namespace.netns(), anywhere(80))?;
    let outside = WebServer::start(scene.underlay.netns(), anywhere(0))?;
    for address in &own {
        let to = SocketAddr::new(scene.host.address(*address), 8080);
        get(scene.underlay.netns(), to, SOON)?;
        let world: IpAddr =
            if address.is_ipv4() { weft_lab::OUTSIDE4.into() } else { weft_lab::OUTSIDE6.into() };
        get(workload.namespace.netns(), SocketAddr::new(world, outside.port()), SOON)?;
        ensure!(concerned(&scene.host, *address)? >= 2, "its connections are not tracked");
    }
    // Somebody else's stay.
    let other = scene.workload(&network)?;
    let world: IpAddr = if own[0].is_ipv4() { weft_lab::OUTSIDE4.into() } else { weft_lab::OUTSIDE6.into() };
    let _talk = connect(other.namespace.netns(), SocketAddr::new(world, outside.port()), SOON)?;
    let theirs = other.address(own[0])?;

    workload.namespace.detach(&scene.host, &network)?;
    // The next holder of the very address does not wait for the reaper.
    let next = Namespace::new()?;
    let mut wish = next.wish(&network, "eth0")?;
    wish.ips = own.clone();
    Namespace::attach_as(&scene.host, wish)?;
    for address in &own {
        ensure!(concerned(&scene.host, *address)? == 0, "connections of {address}'s former holder are left");
    }
    ensure!(concerned(&scene.host, theirs)? > 0, "somebody else's connection was ended");
    connect(next.netns(), SocketAddr::new(world, outside.port()), SOON)?;
    next.detach(&scene.host, &network)?;
    wait::until("the reaper", SOON, || {
        ensure!(concerned(&scene.host, own[0])? == 0, "connections are left");
        Ok(())
    })
}

fn nft(host: &Host, script: &str) -> Result<()> {
    let output = host.netns().command("nft").env("PATH", programs::PATH).arg(script).output()?;
    ensure!(output.status.success(), "nft {script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Row 22 and R4: whatever a firewall's reload does, ports lead to their workload again within a second; nor does a
/// client stay astray that called in between.
fn a_flush_is_mended(case: Case) -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, case)?;
    let workload = scene.publish(&network, &["8080:80", "5353:53/udp"])?;
    let _web = WebServer::start(workload.namespace.netns(), anywhere(80))?;
    let echo = UdpEcho::start(workload.namespace.netns(), anywhere(53))?;
    let outside = scene.underlay.netns();
    for address in workload.addresses() {
        let host = scene.host.address(address);
        let client = Client::new(outside, SocketAddr::new(host, 5353))?;
        let map = if address.is_ipv4() { "ports4" } else { "ports6" };
        for script in [
            "flush ruleset".to_owned(),
            "delete table inet weft".to_owned(),
            format!("flush map inet weft {map}"),
            format!("delete element inet weft {map} {{ udp . 5353 }}"),
            "flush chain inet weft published".to_owned(),
        ] {
            nft(&scene.host, &script)?;
            let _ = client.socket.send(b"x");
            wait::until(&script, SOON, || {
                get(outside, SocketAddr::new(host, 8080), SOON).map(|_| ()).context("no page")
            })?;
            client.reaches(&echo, &script)?;
        }
    }
    Ok(())
}

fn outstanding(host: &Host) -> Result<Vec<String>> {
    match host.request(&Request::Diff)? {
        Reply::Diff(commands) => Ok(commands),
        other => bail!("{other:?}"),
    }
}

fn a_dead_agent_and_a_lost_record(case: Case) -> Result<()> {
    let mut scene = Scene::new()?;
    let network = scene.network(1, case)?;
    let address = if case.families == Families::V6 { scene.host.ipv6() } else { scene.host.ipv4() };
    let shown = if address.is_ipv4() { address.to_string() } else { format!("[{address}]") };
    let ports = ["8080:80".to_owned(), format!("{shown}:5353:53/udp")];
    let workload = scene.publish(&network, &ports.each_ref().map(String::as_str))?;
    let _web = WebServer::start(workload.namespace.netns(), anywhere(80))?;
    let at = SocketAddr::new(address, 8080);
    let mut lasting = connect(scene.underlay.netns(), at, SOON)?;
    let held = |scene: &Scene| -> Result<Vec<String>> {
        let status = scene.host.status()?;
        Ok(status.workloads.iter().flat_map(|w| w.ports.iter().map(ToString::to_string)).collect())
    };
    let wanted = held(&scene)?;
    ensure!(wanted.len() == 2, "{wanted:?}");
    for lost in [false, true] {
        scene.host.kill()?;
        get(scene.underlay.netns(), at, SOON).context("without an agent")?;
        if lost {
            std::fs::remove_dir_all(scene.host.run_dir())?;
        }
        scene.host.start_agent()?;
        ensure!(outstanding(&scene.host)?.is_empty(), "{:?}", outstanding(&scene.host)?);
        let now = held(&scene)?;
        ensure!(now.iter().all(|p| wanted.contains(p)) && now.len() == 2, "{now:?} instead of {wanted:?}");
        get(scene.underlay.netns(), at, SOON).context("with a new agent")?;
    }
    // The connection from before goes on.
    lasting.set_read_timeout(Some(SOON))?;
    lasting.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    lasting.read_to_string(&mut page)?;
    ensure!(page.contains("200 OK"), "{page}");
    workload.namespace.detach(&scene.host, &network)?;
    ensure!(connect(scene.underlay.netns(), at, SOON).is_err(), "the port answers after the detach");
    Ok(())
}
