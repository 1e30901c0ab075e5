//! Services: the table of docs/services.md, cell by cell, with real sockets.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weft_kernel::netns::Netns;
use weft_lab::traffic::{connect, exchange, get, udp};
use weft_lab::{Namespace, OUTSIDE4, OUTSIDE6, ROUTER4, ROUTER6};
use weft_model::{Mode, NetworkName};
use weft_tests::matrix;
use weft_tests::scene::{Case, Families, SOON, Scene, anywhere};
use weft_tests::services::{Backend, address, apply, at, delete, labelled, service, text};

matrix!(
    by_its_address,
    a_backend_reaches_itself,
    by_a_port_of_the_host,
    nobody_there_is_said_at_once,
    policy_judges_the_backend,
);

const DUAL: &str = r#""ipFamilyPolicy":"RequireDualStack""#;
/// TCP 8080 to the port named `http`, UDP 5353 to 53, also by ports of the host.
const PORTS: &str = r#""ports":[{"name":"http","port":8080,"targetPort":"http","nodePort":30080},
    {"name":"dns","port":5353,"targetPort":53,"protocol":"UDP","nodePort":30053}]"#;

/// A network with backends behind a service `web`.
struct Served {
    scene: Scene,
    network: NetworkName,
    backends: Vec<Backend>,
}

impl Served {
    fn new(case: Case, backends: usize) -> Result<Served> {
        let scene = Scene::new()?;
        let network = scene.network(1, case)?;
        apply(
            &scene.host,
            &[&text("web", &format!(r#""type":"NodePort",{DUAL},"selector":{{"app":"web"}},{PORTS}"#))],
        )?;
        let backends =
            (0..backends).map(|_| Backend::new(&scene.host, &network, "web")).collect::<Result<_>>()?;
        Ok(Served { scene, network, backends })
    }

    /// The service's address of each family that the network has.
    fn addresses(&self) -> Result<Vec<IpAddr>> {
        let own = self.backends.first().context("it has a backend")?.workload.addresses();
        own.map(|like| address(&self.scene.host, "web", like)).collect()
    }

    /// As whom the backends see somebody, by TCP and UDP; each backend must have had visits of both in the end.
    fn seen_from(&self, netns: &Netns, to: IpAddr, ports: [u16; 2]) -> Result<IpAddr> {
        let before: Vec<_> = self.backends.iter().map(Backend::visits).collect();
        let mut seen = Vec::new();
        for _ in 0..24 {
            seen.push(get(netns, at(to, ports[0]), SOON).with_context(|| format!("TCP to {to}"))?);
            let socket = udp(netns, anywhere(0))?;
            // With a peer, so that an answer from anybody else would not be taken.
            socket.connect(at(to, ports[1]))?;
            socket.set_read_timeout(Some(SOON))?;
            socket.send(b"x")?;
            socket.recv(&mut [0; 9]).with_context(|| format!("UDP to {to}"))?;
        }
        for (backend, before) in self.backends.iter().zip(before) {
            let now = backend.visits();
            ensure!(now[0] > before[0] && now[1] > before[1], "a backend had no visit: {before:?} {now:?}");
            seen.extend(backend.echo.peers().last());
        }
        let first = seen[0];
        ensure!(seen.iter().all(|s| *s == first), "{seen:?}");
        Ok(first)
    }
}

fn by_its_address(case: Case) -> Result<()> {
    let served = Served::new(case, 2)?;
    let scene = &served.scene;
    let neighbour = scene.workload(&served.network)?;
    let other_mode = if case.mode == Mode::Routed { Mode::Bridge } else { Mode::Routed };
    let other = scene.workload(&scene.network(2, Case { mode: other_mode, ..case })?)?;
    for to in served.addresses()? {
        for client in [&neighbour, &other] {
            let seen = served.seen_from(client.namespace.netns(), to, [8080, 5353])?;
            ensure!(seen == client.address(to)?, "a workload comes as {seen}");
        }
        let seen = served.seen_from(scene.host.netns(), to, [8080, 5353])?;
        ensure!(seen == scene.host.address(to), "the host comes as {seen}");
    }
    Ok(())
}

fn a_backend_reaches_itself(case: Case) -> Result<()> {
    let served = Served::new(case, 1)?;
    let netns = served.backends[0].workload.namespace.netns();
    for to in served.addresses()? {
        let seen = served.seen_from(netns, to, [8080, 5353])?;
        ensure!(seen != served.backends[0].workload.address(to)?, "it would not take what comes from itself");
    }
    Ok(())
}

fn by_a_port_of_the_host(case: Case) -> Result<()> {
    let served = Served::new(case, 2)?;
    let scene = &served.scene;
    let neighbour = scene.workload(&served.network)?;
    for like in served.addresses()? {
        let host = scene.host.address(like);
        let router: IpAddr = if like.is_ipv4() { ROUTER4.into() } else { ROUTER6.into() };
        let seen = served.seen_from(scene.underlay.netns(), host, [30080, 30053])?;
        ensure!(seen == router, "the outside comes as {seen}");
        let seen = served.seen_from(neighbour.namespace.netns(), host, [30080, 30053])?;
        ensure!(seen == neighbour.address(like)?, "a workload comes as {seen}");
        let seen = served.seen_from(scene.host.netns(), host, [30080, 30053])?;
        ensure!(seen == host, "the host comes as {seen}");
        // Not at the loopback, and the service's own port is none of the host's.
        let loopback: IpAddr =
            if like.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        for (netns, to) in
            [(scene.host.netns(), at(loopback, 30080)), (scene.underlay.netns(), at(host, 8080))]
        {
            let error = connect(netns, to, SOON).err().with_context(|| format!("{to} answers"))?;
            ensure!(error.kind() == ErrorKind::ConnectionRefused, "{to}: {error}");
        }
    }
    Ok(())
}

/// BAR.md, security row 26.
fn nobody_there_is_said_at_once(case: Case) -> Result<()> {
    let served = Served::new(case, 1)?;
    let scene = &served.scene;
    let spec = format!(
        r#"{DUAL},"selector":{{"app":"nobody"}},{}"#,
        PORTS.replace(r#","nodePort":30080"#, "").replace(r#","nodePort":30053"#, "")
    );
    apply(&scene.host, &[&text("empty", &spec)])?;
    let client = scene.workload(&served.network)?;
    for full in served.addresses()? {
        let empty = address(&scene.host, "empty", full)?;
        for netns in [client.namespace.netns(), scene.host.netns()] {
            for to in [at(empty, 8080), at(empty, 1), at(full, 1)] {
                let error = connect(netns, to, SOON).err().with_context(|| format!("{to} answers"))?;
                ensure!(error.kind() == ErrorKind::ConnectionRefused, "{to}: {error}");
            }
            let socket = udp(netns, anywhere(0))?;
            socket.connect(at(empty, 5353))?;
            socket.set_read_timeout(Some(SOON))?;
            let said = socket.send(b"x").and_then(|_| socket.recv(&mut [0; 9]));
            let error = said.err().context("an answer from nobody")?;
            // The host's own datagram is refused where it is sent.
            let refused = [ErrorKind::ConnectionRefused, ErrorKind::PermissionDenied];
            ensure!(refused.contains(&error.kind()), "{to}: {error}", to = at(empty, 5353));
            // Of an address that no service has nobody says anything, and nothing leaves.
            let nobody = if full.is_ipv4() { "10.96.255.254" } else { "fd77:6566:7400:96::fffe" };
            scene.refuses("address of no service", 1, || {
                let error = connect(netns, at(nobody.parse()?, 80), Duration::from_millis(200)).err();
                let kind = error.context("it answers")?.kind();
                ensure!(matches!(kind, ErrorKind::TimedOut | ErrorKind::PermissionDenied), "{kind}");
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn policy_judges_the_backend(case: Case) -> Result<()> {
    let served = Served::new(case, 2)?;
    let scene = &served.scene;
    let policy = r#"{"kind":"NetworkPolicy","apiVersion":"networking.k8s.io/v1","metadata":{"name":"web"},
        "spec":{"podSelector":{"matchLabels":{"app":"web"}},"policyTypes":["Ingress"],
        "ingress":[{"from":[{"podSelector":{"matchLabels":{"app":"friend"}}}],"ports":[{"port":"http"}]}]}}"#;
    apply(&scene.host, &[policy])?;
    let friend = labelled(&scene.host, &served.network, Namespace::new()?, "friend")?;
    let enemy = labelled(&scene.host, &served.network, Namespace::new()?, "enemy")?;
    for to in served.addresses()? {
        for (to, port) in [(to, 8080), (scene.host.address(to), 30080)] {
            get(friend.namespace.netns(), at(to, port), SOON)?;
            let denied = connect(enemy.namespace.netns(), at(to, port), Duration::from_millis(300));
            ensure!(denied.is_err(), "the enemy gets in by {to}");
        }
        // The port that policy permits is the backend's, and UDP is not permitted.
        let socket = udp(friend.namespace.netns(), anywhere(0))?;
        ensure!(exchange(&socket, at(to, 5353), b"x", Duration::from_millis(300)).is_err());
    }
    Ok(())
}

const CASE: Case = Case { mode: Mode::Routed, families: Families::Dual };

/// Backends by address, outside of weft's networks, and never where they must not be (BAR.md, security row 6).
#[test]
fn backends_outside_by_slices() -> Result<()> {
    let served = Served::new(CASE, 1)?;
    let scene = &served.scene;
    let outside = weft_lab::traffic::WebServer::start(scene.underlay.netns(), anywhere(7070))?;
    let client = scene.workload(&served.network)?;
    apply(&scene.host, &[&text("out", &format!(r#"{DUAL},"ports":[{{"port":80}}]"#))])?;
    let slice = |name: &str, family: &str, address: &str| {
        format!(
            r#"{{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","addressType":"{family}",
            "metadata":{{"name":"{name}","labels":{{"kubernetes.io/service-name":"out"}}}},
            "endpoints":[{{"addresses":["{address}"]}}],"ports":[{{"port":7070}}]}}"#
        )
    };
    let outsides = [(OUTSIDE4.to_string(), "IPv4"), (OUTSIDE6.to_string(), "IPv6")];
    for (address, family) in &outsides {
        apply(&scene.host, &[&slice(&format!("out-{}", family.to_lowercase()), family, address)])?;
    }
    for like in client.addresses() {
        let to = at(address(&scene.host, "out", like)?, 80);
        let seen = get(client.namespace.netns(), to, SOON)?;
        ensure!(seen == scene.host.address(like), "what leaves bears the host's address, not {seen}");
        get(scene.host.netns(), to, SOON)?;
    }
    drop(outside);
    for bad in ["127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0"] {
        let error = apply(&scene.host, &[&slice("bad", "IPv4", bad)]).err().context(bad)?;
        let error = format!("{error:#}");
        ensure!(error.contains("endpoints[0].addresses[0]"), "{error}");
    }
    Ok(())
}

/// What clashes is refused by name, whoever comes first (BAR.md, security rows 4 and 5).
#[test]
fn what_clashes_is_refused_by_name() -> Result<()> {
    let mut scene =
        Scene::with_config(&[r#"external_ips = ["198.51.100.0/24", "10.101.0.0/16", "192.0.2.0/24"]"#])?;
    let network = scene.network(1, CASE)?;
    let _published = scene.publish(&network, &["30090:80"])?;
    let node_port = |name: &str, port: u16| {
        text(name, &format!(r#""type":"NodePort","ports":[{{"port":80,"nodePort":{port}}}]"#))
    };
    let external =
        |name: &str, ip: &str| text(name, &format!(r#""externalIPs":["{ip}"],"ports":[{{"port":80}}]"#));
    apply(&scene.host, &[&node_port("one", 30080), &external("outer", "198.51.100.7")])?;
    let host = scene.host.ipv4().to_string();
    for (text, words) in [
        (node_port("two", 30080), "30080/TCP is that of Service/default/one"),
        (node_port("two", 30090), "publishes 30090/TCP"),
        (node_port("two", 80), "80 is not in the range 30000-32767"),
        (external("two", "8.8.8.8"), "external_ips"),
        (external("two", "10.101.1.9"), "in network 'net1'"),
        (external("two", &host), "192.0.2."),
        (external("two", "198.51.100.7"), "198.51.100.7 port 80/TCP is that of Service/default/outer"),
    ] {
        let error = apply(&scene.host, &[&text]).err().context(words)?;
        let error = format!("{error:#}");
        ensure!(error.contains(words), "{error} instead of {words}");
    }
    let refused = scene.publish(&network, &["30080:80"]).err().context("a service's port was published")?;
    ensure!(format!("{refused:#}").contains("Service default/one"), "{refused:#}");
    // What was chosen stays, over restarts and other services.
    let chosen = service(&scene.host, "one")?;
    scene.host.restart()?;
    apply(&scene.host, &[&text("one", r#""type":"NodePort","ports":[{"port":80}]"#)])?;
    ensure!(service(&scene.host, "one")? == chosen);
    delete(&scene.host, weft_model::Kind::Service, "one")?;
    apply(&scene.host, &[&node_port("two", 30080)])?;
    Ok(())
}

/// An address of others that the configuration permits: for workloads and for those who are routed to this host.
#[test]
fn an_external_address() -> Result<()> {
    let scene = Scene::with_config(&[r#"external_ips = ["198.51.100.128/25"]"#])?;
    let network = scene.network(1, CASE)?;
    let backend = Backend::new(&scene.host, &network, "web")?;
    let spec = r#""selector":{"app":"web"},"externalIPs":["198.51.100.200"],"ports":[{"port":80}]"#;
    apply(&scene.host, &[&text("web", spec)])?;
    let client = scene.workload(&network)?;
    let to: SocketAddr = "198.51.100.200:80".parse()?;
    ensure!(get(client.namespace.netns(), to, SOON)? == client.address(to.ip())?);
    scene.underlay.set_route("198.51.100.200/32".parse()?, scene.host.ipv4())?;
    ensure!(get(scene.underlay.netns(), to, SOON)? == IpAddr::from(ROUTER4));
    ensure!(backend.visits()[0] == 2);
    Ok(())
}
