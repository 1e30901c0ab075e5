//! What must not be open: loopback, foreign addresses, files, the socket, and a workload's own address
//! on the uplink (BAR.md, security rows 1, 2, 3, 17, 18, 24 and 29).

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;
use weft_kernel::netns::Netns;
use weft_kernel::state::Sysctl;
use weft_kernel::sysctl;
use weft_lab::traffic::frame::{ICMPV6, TCP, icmp, packet, tcp, udp};
use weft_lab::traffic::{Capture, Tap, WebServer, connect, udp as udp_socket};
use weft_lab::{Host, Namespace, OUTSIDE4, OUTSIDE6, ROUTER4, Underlay};
use weft_model::api::{Attach, ErrorKind};
use weft_model::{Mac, Mode};
use weft_tests::matrix;
use weft_tests::scene::{Case, Families, MTU, SOON, Scene, Workload, anywhere, program};

const LIE: &[u8] = b"a lie";

matrix!(foreign_addresses_are_refused, interfaces_believe_nobody, no_workload_address_on_the_uplink);

fn setting(netns: &Netns, family: &'static str, link: &str, key: &'static str) -> Result<Option<String>> {
    let key = Sysctl::of_link(family, &link.parse()?, key);
    Ok(netns.run(|| sysctl::read(&key))??)
}

/// Row 3. The kernel itself refuses such packets as long as nobody sets `route_localnet`; weft must not
/// set it, and must refuse them also where somebody else has.
#[test]
fn loopback_from_a_neighbour() -> Result<()> {
    let underlay = Underlay::new(MTU)?;
    let mut host = Host::new(&underlay, program()?)?;
    let sink = udp_socket(host.netns(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let port = sink.local_addr()?.port();
    sink.set_read_timeout(Some(SOON))?;
    let open = Sysctl::global("net/ipv4/conf/all/route_localnet");
    host.netns().run(|| sysctl::Writer::default().write(&open, "1"))??;
    let tap = Tap::open(underlay.netns(), underlay.link())?;
    let own = underlay_mac(&underlay)?;
    let frame = |to: IpAddr, from: IpAddr| packet(own, host.mac(), &udp((from, 1000), (to, port), LIE));
    let lie = frame(Ipv4Addr::LOCALHOST.into(), ROUTER4.into());
    tap.send(&lie)?;
    sink.recv(&mut [0; 64]).context("the attack does not even work where nothing stops it")?;

    let lie6 = frame(Ipv6Addr::LOCALHOST.into(), weft_lab::ROUTER6.into());
    host.start_agent()?;
    let reason = "loopback address from outside";
    for state in ["1", "0"] {
        host.netns().run(|| sysctl::Writer::default().write(&open, state))??;
        let before = host.refused(reason)?;
        tap.send(&lie)?;
        tap.send(&lie6)?; // the kernel's own affair: it refuses ::1 before any rule
        let counted = host.refused(reason)? - before;
        ensure!(counted == 1, "counted {counted} with route_localnet = {state}");
        let honest = udp_socket(host.netns(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        honest.send_to(b"honest", SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let mut buffer = [0; 64];
        let length = sink.recv(&mut buffer)?;
        ensure!(&buffer[..length] == b"honest", "the lie arrived with route_localnet = {state}");
    }
    let fresh = Scene::new()?;
    fresh.workload(&fresh.network(1, Case { mode: Mode::Routed, families: Families::Dual })?)?;
    let now = fresh.host.netns().run(|| sysctl::read(&open))??;
    ensure!(now.as_deref() == Some("0"), "weft set route_localnet to {now:?}");
    Ok(())
}

fn underlay_mac(underlay: &Underlay) -> Result<Mac> {
    let link = weft_lab::Links::of(underlay.netns())?.link(underlay.link())?;
    link.mac.context("the segment has no Ethernet address")
}

/// A refusal of this kind, and nothing left of the attempt.
fn refused(scene: &Scene, namespace: &Namespace, wish: Attach, kinds: &[ErrorKind]) -> Result<()> {
    let asked = format!("{:?}{:?}", wish.ips, wish.assigned);
    let before = scene.host.status()?.networks[0].pools.clone();
    match Namespace::attach_as(&scene.host, wish) {
        Ok(attached) => bail!("{asked} was granted: {:?}", attached.addresses),
        Err(error) => {
            let refusal = error.refusal().with_context(|| format!("no refusal of {asked}: {error}"))?;
            ensure!(kinds.contains(&refusal.kind), "{asked} was refused as {refusal:?}");
        }
    }
    ensure!(namespace.links()?.link("eth0").is_err(), "an interface is left of {asked}");
    ensure!(scene.host.status()?.networks[0].pools == before, "an address is left of {asked}");
    Ok(())
}

/// Row 17.
fn foreign_addresses_are_refused(case: Case) -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, case)?;
    let other = scene.workload(&network)?;
    let namespace = Namespace::new()?;
    let never = [
        "10.101.1.0",
        "10.101.1.1",
        "10.101.1.255",
        "10.101.2.7",
        "192.0.2.11",
        "192.0.2.1",
        "127.0.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "169.254.169.254",
        "169.254.1.1",
        "198.51.100.1",
        "fd10:101:1::",
        "fd10:101:1::1",
        "fd10:101:2::7",
        "2001:db8:1::b",
        "2001:db8:1::1",
        "::1",
        "::",
        "ff02::1",
        "fe80::1",
        "fd00:ec2::254",
        "::ffff:10.101.1.9",
    ];
    for address in never {
        let mut wish = namespace.wish(&network, "eth0")?;
        wish.ips = vec![address.parse()?];
        refused(&scene, &namespace, wish, &[ErrorKind::Invalid])?;
    }
    for address in other.addresses() {
        let mut wish = namespace.wish(&network, "eth0")?;
        wish.ips = vec![address];
        refused(&scene, &namespace, wish, &[ErrorKind::Exists])?;
    }
    // And one that may be asked for.
    let mut wish = namespace.wish(&network, "eth0")?;
    let fine = if case.families == Families::V6 { "fd10:101:1::77" } else { "10.101.1.77" };
    wish.ips = vec![fine.parse()?];
    let attached = Namespace::attach_as(&scene.host, wish)?;
    ensure!(attached.addresses.iter().any(|a| a.address.addr().to_string() == fine), "{attached:?}");
    Ok(())
}

/// Row 17 again: another IPAM is believed, but not when it gives away what is not its to give.
#[test]
fn another_ipam_cannot_give_what_is_the_hosts() -> Result<()> {
    for mode in [Mode::Routed, Mode::Bridge] {
        let scene = Scene::new()?;
        let network = scene.network(1, Case { mode, families: Families::Dual })?;
        let other = scene.workload(&network)?;
        let namespace = Namespace::new()?;
        let never = [
            "10.101.1.1/24",
            "192.0.2.11/24",
            "127.0.0.1/8",
            "224.0.0.1/4",
            "0.0.0.0/0",
            "fd10:101:1::1/64",
            "2001:db8:1::b/64",
            "::1/128",
            "ff02::1/8",
            "fe80::1/64",
            "169.254.1.1/16",
        ];
        for address in never {
            let mut wish = namespace.wish(&network, "eth0")?;
            wish.assigned = vec![address.parse()?];
            refused(&scene, &namespace, wish, &[ErrorKind::Invalid, ErrorKind::Exists])?;
        }
        for address in other.addresses() {
            let mut wish = namespace.wish(&network, "eth0")?;
            wish.assigned = vec![IpNet::from(address)];
            refused(&scene, &namespace, wish, &[ErrorKind::Exists])?;
        }
    }
    Ok(())
}

/// An address that another IPAM has given is not given again from the network's own pool.
#[test]
fn another_ipams_address_is_not_given_twice() -> Result<()> {
    let mut scene = Scene::new()?;
    let network = scene.network(1, Case { mode: Mode::Routed, families: Families::V4 })?;
    let given = Namespace::new()?;
    let mut wish = given.wish(&network, "eth0")?;
    wish.assigned = vec!["10.101.1.3/24".parse()?];
    Namespace::attach_as(&scene.host, wish)?;
    for round in 0..2 {
        let more = [Namespace::new()?, Namespace::new()?, Namespace::new()?];
        for namespace in more {
            let workload = Workload::attach(namespace, &scene.host, &network)?;
            let own: Vec<IpAddr> = workload.addresses().collect();
            ensure!(own != ["10.101.1.3".parse::<IpAddr>()?], "given twice in round {round}");
        }
        let namespace = Namespace::new()?;
        let mut wish = namespace.wish(&network, "eth0")?;
        wish.ips = vec!["10.101.1.3".parse()?];
        let error = Namespace::attach_as(&scene.host, wish).err().context("given twice on demand")?;
        ensure!(error.refusal().is_some_and(|r| r.kind == ErrorKind::Exists), "{error}");
        scene.host.restart()?;
    }
    // Once detached it is anybody's.
    given.detach(&scene.host, &network)?;
    let namespace = Namespace::new()?;
    let mut wish = namespace.wish(&network, "eth0")?;
    wish.ips = vec!["10.101.1.3".parse()?];
    Namespace::attach_as(&scene.host, wish)?;
    Ok(())
}

/// Rows 1 and 24: every interface that weft makes, both ends.
fn interfaces_believe_nobody(case: Case) -> Result<()> {
    let scene = Scene::new()?;
    let workload = scene.workload(&scene.network(1, case)?)?;
    let device = scene.host.status()?.networks[0].device.to_string();
    let host_end = workload.attached.host_ifname.to_string();
    let inside = workload.namespace.netns();
    let has_ipv6 = case.families != Families::V4;
    let is_port = case.mode == Mode::Bridge;
    for (netns, link, speaks) in [
        (inside, "eth0", has_ipv6),
        (scene.host.netns(), host_end.as_str(), has_ipv6 && !is_port),
        (scene.host.netns(), device.as_str(), has_ipv6),
    ] {
        let v6 = |key| setting(netns, "ipv6", link, key);
        let mut links = weft_lab::Links::of(netns)?;
        let addresses: Vec<IpNet> =
            links.addresses(link)?.into_iter().filter(|a| a.addr().is_ipv6()).collect();
        if speaks {
            for key in ["accept_ra", "accept_redirects", "autoconf"] {
                ensure!(v6(key)?.as_deref() == Some("0"), "{link}: {key} is {:?}", v6(key)?);
            }
            ensure!(v6("disable_ipv6")?.as_deref() == Some("0"), "{link} does not speak IPv6");
        } else {
            ensure!(addresses.is_empty(), "{link} has {addresses:?}");
            ensure!(v6("disable_ipv6")?.as_deref() == Some("1"), "{link} speaks IPv6");
        }
        let derived = |a: &IpNet| matches!(a.addr(), IpAddr::V6(v6) if v6.is_unicast_link_local());
        if case.mode == Mode::Routed {
            ensure!(!addresses.iter().any(derived), "{link} has {addresses:?}");
        }
    }
    Ok(())
}

/// Row 29. Packets of no known connection are not translated, so they must not leave at all.
fn no_workload_address_on_the_uplink(case: Case) -> Result<()> {
    const HONEST: &[u8] = b"an honest datagram";
    let scene = Scene::new()?;
    let workload = scene.workload(&scene.network(1, case)?)?;
    let netns = workload.namespace.netns();
    let web = WebServer::start(scene.underlay.netns(), anywhere(0))?;
    let next_hop = workload.attached.bridge.as_ref().map_or(workload.attached.host_mac, |(_, mac)| *mac);
    let tap = Tap::open(netns, "eth0")?;
    for outside in [IpAddr::V4(OUTSIDE4), IpAddr::V6(OUTSIDE6)] {
        if !case.families.has(outside) {
            continue;
        }
        let own = workload.address(outside)?;
        let stream = connect(netns, SocketAddr::new(outside, web.port()), SOON)?;
        let (from, to) = ((own, stream.local_addr()?.port()), (outside, web.port()));
        let capture = Capture::open(scene.underlay.netns(), scene.underlay.link())?;
        let (rst, ack, syn, fin) = (4, 16, 2, 1);
        let mut packets = Vec::new();
        for far in [0x1000_0000, 0x8000_0000, 0xf000_0000_u32] {
            packets.push(tcp(from, to, rst, far, far));
            packets.push(tcp(from, to, rst | ack, far, far));
            packets.push(tcp(from, to, ack, far, far));
            packets.push(tcp(from, to, fin | ack, far, far));
            packets.push(tcp(from, to, syn | ack, far, far));
            // Of a connection that never was.
            packets.push(tcp((own, 1), to, rst, far, far));
            packets.push(tcp((own, 1), to, syn | ack, far, far));
            packets.push(tcp((own, 1), to, 0, far, far)); // no flag at all
        }
        // "You are not reachable" about a datagram that was never sent.
        let unreachable = if own.is_ipv4() { 3 } else { 1 };
        let quoted = [&[0; 4][..], &udp((outside, 53), (own, 53), LIE)].concat();
        packets.push(icmp(own, outside, unreachable, 3, &quoted));
        let frames: Vec<Vec<u8>> =
            packets.iter().map(|p| packet(workload.attached.mac, next_hop, p)).collect();
        let reason = "packet of no known connection would leave untranslated";
        scene.refuses(reason, 4, || Ok(frames.iter().try_for_each(|f| tap.send(f))?))?;
        let honest = udp_socket(netns, anywhere(0))?;
        honest.send_to(HONEST, SocketAddr::new(outside, 9))?;
        let seen = capture.until(SOON, |f| f.contains(HONEST))?;
        let bare: Vec<_> = seen.iter().filter(|f| f.source == Some(own)).collect();
        ensure!(bare.is_empty(), "the workload's own address left the host: {bare:?}");
        // The capture also sees what the outside answers, and the end of the other family's connection.
        let mut known = scene.host.addresses().map(|a| a.addr()).to_vec();
        known.extend([IpAddr::V4(OUTSIDE4), IpAddr::V6(OUTSIDE6)]);
        let known = |source: Option<IpAddr>| source.is_some_and(|s| known.contains(&s));
        ensure!(seen.iter().all(|f| f.protocol != Some(TCP) || known(f.source)), "{seen:?}");
        ensure!(!seen.iter().any(|f| f.protocol == Some(ICMPV6) && f.contains(LIE)), "{seen:?}");
    }
    Ok(())
}

/// Row 18: owner and mode of everything that the agent keeps.
#[test]
fn files_are_roots_alone() -> Result<()> {
    let mut scene = Scene::new()?;
    let network = scene.network(1, Case { mode: Mode::Routed, families: Families::Dual })?;
    let _workload = scene.workload(&network)?;
    scene.host.restart()?;
    let mut sockets = 0;
    for folder in [scene.host.state_dir(), scene.host.run_dir()] {
        audit(&folder, &mut sockets)?;
    }
    ensure!(sockets == 1, "{sockets} sockets");
    Ok(())
}

fn audit(path: &Path, sockets: &mut usize) -> Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let found = fs::symlink_metadata(path)?;
    let mode = found.permissions().mode() & 0o7777;
    ensure!(found.uid() == 0 && found.gid() == 0, "{} is not root's", path.display());
    let kind = found.file_type();
    let wanted = if kind.is_dir() { 0o700 } else { 0o600 };
    ensure!(mode == wanted, "{} has the mode {mode:o} instead of {wanted:o}", path.display());
    ensure!(!kind.is_symlink(), "{} is a link", path.display());
    *sockets += usize::from(kind.is_socket());
    if kind.is_dir() {
        for entry in fs::read_dir(path)? {
            audit(&entry?.path(), sockets)?;
        }
    }
    Ok(())
}

/// Row 18: a link where a folder or file of weft's is meant is refused by name, and its target not touched.
#[test]
fn links_in_the_place_of_files_are_refused() -> Result<()> {
    let underlay = Underlay::new(MTU)?;
    for place in ["state", "run", "run/journal", "run/agent.sock"] {
        let mut host = Host::new(&underlay, program()?)?;
        let target = host.folder().join("target");
        let path = host.folder().join(place);
        fs::create_dir(&target)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
        fs::create_dir_all(path.parent().context("no parent")?)?;
        symlink(&target, &path)?;
        let error = host.start_agent().err().with_context(|| format!("a link at {place} was followed"))?;
        let text = error.to_string();
        ensure!(text.contains(&path.display().to_string()), "{place} is not named: {text}");
        ensure!(fs::read_dir(&target)?.next().is_none(), "something was written through {place}");
        let mode = fs::metadata(&target)?.permissions().mode() & 0o777;
        ensure!(mode == 0o755, "the target of {place} now has the mode {mode:o}");
    }
    Ok(())
}

#[test]
fn links_in_the_place_of_records_are_not_followed() -> Result<()> {
    let underlay = Underlay::new(MTU)?;
    let mut host = Host::new(&underlay, program()?)?;
    host.start_agent()?;
    host.stop()?;
    let mut tried = 0;
    for folder in [host.state_dir(), host.run_dir()] {
        for entry in fs::read_dir(&folder)?.flatten().filter(|e| e.path().is_file()) {
            let (path, kept, target) =
                (entry.path(), host.folder().join("kept"), host.folder().join("victim"));
            fs::write(&target, "precious")?;
            fs::rename(&path, &kept)?;
            symlink(&target, &path)?;
            let started = host.start_agent();
            host.stop()?;
            ensure!(fs::read_to_string(&target)? == "precious", "{} was followed", path.display());
            if let Err(error) = started {
                let text = error.to_string();
                ensure!(
                    text.contains(&path.display().to_string()),
                    "{} is not named: {text}",
                    path.display()
                );
            }
            fs::remove_file(&path)?;
            fs::rename(&kept, &path)?;
            tried += 1;
        }
    }
    ensure!(tried > 0, "the agent keeps no files");
    Ok(())
}
