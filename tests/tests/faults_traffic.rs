//! Invariants 4 and 5: traffic flows while agents are killed, stopped and started; without an agent what was
//! permitted stays so and what was shut stays shut.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weft_kernel::netns::Netns;
use weft_lab::traffic::Tap;
use weft_lab::traffic::frame::{packet, tcp};
use weft_model::api::Attached;
use weft_model::{Mac, Mode};
use weft_tests::Host;
use weft_tests::host::{Net, REPAIR};
use weft_tests::wait;

const ROUTED: Net<'static> = ("net", Mode::Routed, &["10.77.0.0/24", "fd77::/64"]);
const BRIDGE: Net<'static> = ("net", Mode::Bridge, &["10.78.0.0/24", "fd78::/64"]);
const PORT: u16 = 7777;
/// A hundred packets a second (BAR.md R2).
const EVERY: Duration = Duration::from_millis(10);
/// A packet on one machine that has not come back by then has been lost.
const LATE: Duration = Duration::from_secs(2);

/// Runs a thread in a container until the test ends it.
fn inside(
    host: &Host,
    container: &str,
    end: &Arc<AtomicBool>,
    work: impl FnOnce(&AtomicBool) -> Result<()> + Send + 'static,
) -> Result<JoinHandle<Result<()>>> {
    let (netns, end): (Netns, _) = (host.netns(container)?, Arc::clone(end));
    Ok(spawn(move || netns.run(|| work(&end))?))
}

fn bound(address: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket)
}

/// Answers every packet with itself, and counts them.
fn udp_echo(address: IpAddr, heard: Arc<AtomicU64>) -> impl FnOnce(&AtomicBool) -> Result<()> {
    move |end| {
        let socket = bound(SocketAddr::new(address, PORT))?;
        let mut buffer = [0; 64];
        while !end.load(Ordering::Relaxed) {
            if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                heard.fetch_add(1, Ordering::Relaxed);
                socket.send_to(&buffer[..length], from)?;
            }
        }
        Ok(())
    }
}

/// Sends numbered packets and fails if one of them does not come back.
fn udp_stream(to: IpAddr, sent: Arc<AtomicU64>) -> impl FnOnce(&AtomicBool) -> Result<()> {
    move |end| {
        let any = if to.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        let socket = bound(SocketAddr::new(any, 0))?;
        socket.connect(SocketAddr::new(to, PORT))?;
        socket.set_nonblocking(true)?;
        let (mut number, mut back) = (0_u64, 0_u64);
        let mut buffer = [0; 64];
        let mut read = |back: &mut u64| {
            while socket.recv(&mut buffer).is_ok() {
                *back += 1;
            }
        };
        while !end.load(Ordering::Relaxed) {
            socket.send(&number.to_be_bytes()).with_context(|| format!("packet {number}"))?;
            number += 1;
            sent.store(number, Ordering::Relaxed);
            sleep(EVERY);
            read(&mut back);
        }
        let deadline = Instant::now() + LATE;
        while back < number && Instant::now() < deadline {
            sleep(EVERY);
            read(&mut back);
        }
        ensure!(back == number, "{} of {number} packets to {to} were lost", number - back);
        Ok(())
    }
}

fn tcp_echo(address: IpAddr) -> impl FnOnce(&AtomicBool) -> Result<()> {
    move |_| {
        let listener = TcpListener::bind(SocketAddr::new(address, PORT))?;
        let (mut stream, _) = listener.accept()?;
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                length => stream.write_all(&buffer[..length])?,
            }
        }
    }
}

/// One connection, a kilobyte every ten milliseconds, each awaited.
fn tcp_stream(to: IpAddr) -> impl FnOnce(&AtomicBool) -> Result<()> {
    move |end| {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(to, PORT), Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut number = 0_u8;
        while !end.load(Ordering::Relaxed) {
            stream.write_all(&[number; 1024])?;
            let mut back = [0; 1024];
            stream.read_exact(&mut back)?;
            ensure!(back == [number; 1024], "the stream gave back something else");
            number = number.wrapping_add(1);
            sleep(EVERY);
        }
        Ok(())
    }
}

/// Packets with an address that is nobody's: they must never arrive, whatever happens to the agent.
fn forger(from: IpAddr, to: IpAddr, sent: Arc<AtomicU64>) -> impl FnOnce(&AtomicBool) -> Result<()> {
    move |end| {
        let socket = bound(SocketAddr::new(from, 0))?;
        while !end.load(Ordering::Relaxed) {
            if socket.send_to(b"forged", SocketAddr::new(to, PORT + 1)).is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
            sleep(EVERY);
        }
        Ok(())
    }
}

fn address(attached: &Attached, v4: bool) -> Result<IpAddr> {
    let mut all = attached.addresses.iter().map(|a| a.address.addr());
    all.find(|a| a.is_ipv4() == v4).context("no address of that family")
}

fn restarts_lose_nothing(network: &Net<'_>, forged: &str) -> Result<String> {
    let (host, mut agent) = Host::with_networks(&[*network])?;
    host.namespaces(&["a".to_owned(), "b".to_owned(), "liar".to_owned(), "late".to_owned()])?;
    host.attach("net", "a")?;
    let b = host.attach("net", "b")?;
    host.attach("net", "liar")?;
    host.sh(&format!("ip -n liar addr add {forged}/32 dev eth0"))?;
    let end = Arc::new(AtomicBool::new(false));
    let counters: [Arc<AtomicU64>; 5] = Default::default();
    let [heard, sent4, sent6, lies, believed] = counters.clone();
    let (b4, b6) = (address(&b, true)?, address(&b, false)?);
    let deaf = move |end: &AtomicBool| {
        let socket = bound(SocketAddr::new(b4, PORT + 1))?;
        while !end.load(Ordering::Relaxed) {
            if socket.recv_from(&mut [0; 64]).is_ok() {
                believed.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    };
    let servers = [
        inside(&host, "b", &end, udp_echo(b4, heard.clone()))?,
        inside(&host, "b", &end, udp_echo(b6, heard))?,
        inside(&host, "b", &end, tcp_echo(b4))?,
        inside(&host, "b", &end, deaf)?,
    ];
    sleep(Duration::from_millis(300)); // the servers listen; a client that came too early would fail, not pass
    let streams_end = Arc::new(AtomicBool::new(false));
    let streams = [
        inside(&host, "a", &streams_end, udp_stream(b4, sent4))?,
        inside(&host, "a", &streams_end, udp_stream(b6, sent6))?,
        inside(&host, "a", &streams_end, tcp_stream(b4))?,
        inside(&host, "liar", &streams_end, forger(forged.parse()?, b4, lies))?,
    ];
    let full = std::env::var_os("WEFT_FULL").is_some_and(|v| v == "1");
    for round in 0..if full { 100 } else { 8 } {
        sleep(Duration::from_millis(150));
        if round % 2 == 0 {
            agent.kill();
        } else {
            agent.terminate()?;
        }
        sleep(Duration::from_millis(150));
        agent = host.start(&[])?;
    }
    agent.kill();
    // Invariant 5: without an agent, new flows of known workloads work as well.
    host.ping("a", b4)?;
    host.ping("b", b6)?;
    streams_end.store(true, Ordering::Relaxed);
    for stream in streams {
        stream.join().expect("streams do not panic")?;
    }
    let believed_before = counters[4].load(Ordering::Relaxed);
    // The forgeries are real: without the guard they arrive.
    host.sh("nft flush ruleset")?;
    let control = Arc::new(AtomicBool::new(false));
    let again = inside(&host, "liar", &control, forger(forged.parse()?, b4, Arc::default()))?;
    wait::until("a forgery without a guard", REPAIR, || {
        ensure!(counters[4].load(Ordering::Relaxed) > believed_before, "none arrived");
        Ok(())
    })?;
    control.store(true, Ordering::Relaxed);
    again.join().expect("forgers do not panic")?;
    end.store(true, Ordering::Relaxed);
    for server in servers {
        server.join().expect("servers do not panic")?;
    }
    let [heard, sent4, sent6, lies, _] = counters.map(|c| c.load(Ordering::Relaxed));
    let believed = believed_before;
    let figures = format!("{sent4} + {sent6} packets, {heard} heard, {lies} forged, {believed} believed");
    ensure!(sent4 > 100 && sent6 > 100 && lies > 100, "too little traffic to prove anything");
    ensure!(believed == 0, "{believed} of {lies} forged packets arrived");
    // And a workload that goes without an agent is gone: its addresses answer to nobody.
    host.sh("ip netns del b")?;
    wait::until("the end of a namespace", REPAIR, || {
        ensure!(host.ping("a", b4).is_err(), "a workload that is gone still answers");
        Ok(())
    })?;
    let _agent = host.start(&[])?;
    host.attach("net", "late")?;
    Ok(figures)
}

#[test]
fn restarts_lose_nothing_routed() -> Result<()> {
    println!("routed: {}", restarts_lose_nothing(&ROUTED, "10.77.0.200")?);
    Ok(())
}

#[test]
fn restarts_lose_nothing_bridged() -> Result<()> {
    println!("bridge: {}", restarts_lose_nothing(&BRIDGE, "10.78.0.200")?);
    Ok(())
}

/// How often a port was knocked at inside.
fn knocks(host: &Host, within: &str) -> Result<u64> {
    let list = format!("{within} nft list table inet knocks | sed -n 's/.*packets \\([0-9]*\\).*/\\1/p'");
    Ok(host.sh(&list)?.trim().parse()?)
}

/// BAR.md R3, security row 11: while the agent dies and is started again a hundred times, a flood of
/// connections that nobody may make finds no moment in which one gets through.
#[test]
fn a_flood_of_denied_connections_finds_no_gap() -> Result<()> {
    const DEATHS: usize = 100;
    const SYN: u8 = 2;
    let networks =
        [("one", Mode::Routed, &["10.77.0.0/24"][..]), ("two", Mode::Bridge, &["10.78.0.0/24"][..])];
    let (host, mut agent) = Host::with_networks(&networks)?;
    let names = ["liar1", "friend1", "liar2", "friend2"];
    host.namespaces(&names.map(str::to_owned))?;
    let attach = |network: &str, name: &str| host.attach(network, name);
    let (liar1, friend1) = (attach("one", "liar1")?, attach("one", "friend1")?);
    let (liar2, friend2) = (attach("two", "liar2")?, attach("two", "friend2")?);
    let knock = |hook: &str| {
        format!(
            "nft 'table inet knocks {{ chain c {{ type filter hook {hook} priority 10; tcp dport {PORT} counter; }}; }}'"
        )
    };
    host.sh(&format!(
        "{0}\nip netns exec friend1 {1}\nip netns exec friend2 {1}",
        knock("input"),
        knock("prerouting")
    ))?;
    let own = |attached: &Attached| address(attached, true);
    let (gateway1, gateway2) = (liar1.host_mac, liar2.bridge.as_ref().context("no bridge")?.1);
    // From, to, and the Ethernet address that they are sent to.
    let denied: [(&Attached, IpAddr, IpAddr, Mac); 6] = [
        (&liar1, own(&liar1)?, own(&friend2)?, gateway1), // another network
        (&liar1, own(&liar1)?, "10.78.0.1".parse()?, gateway1), // its gateway
        (&liar1, "10.77.0.200".parse()?, own(&friend1)?, gateway1), // a lie in its own network
        (&liar2, own(&liar2)?, own(&friend1)?, gateway2),
        (&liar2, own(&liar2)?, "10.77.0.1".parse()?, gateway2),
        (&liar2, "10.78.0.200".parse()?, own(&friend2)?, friend2.mac),
    ];
    let end = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let mut floods = Vec::new();
    for (liar, name) in [(&liar1, "liar1"), (&liar2, "liar2")] {
        let own_lies = || denied.iter().filter(|d| d.0.mac == liar.mac);
        let frames: Vec<Vec<u8>> = (1024..2048)
            .flat_map(|port| own_lies().map(move |(_, from, to, mac)| (port, *from, *to, *mac)))
            .map(|(port, from, to, mac)| packet(liar.mac, mac, &tcp((from, port), (to, PORT), SYN, 1, 0)))
            .collect();
        let (tap, end, sent) = (Tap::open(&host.netns(name)?, "eth0")?, end.clone(), sent.clone());
        floods.push(spawn(move || {
            for burst in frames.chunks(12).cycle() {
                let count = burst.iter().filter(|frame| tap.send(frame).is_ok()).count();
                sent.fetch_add(count as u64, Ordering::Relaxed);
                if end.load(Ordering::Relaxed) {
                    return;
                }
                sleep(Duration::from_millis(2));
            }
        }));
    }
    let all = || -> Result<[u64; 3]> {
        Ok([
            knocks(&host, "")?,
            knocks(&host, "ip netns exec friend1")?,
            knocks(&host, "ip netns exec friend2")?,
        ])
    };
    for _ in 0..DEATHS {
        agent.kill();
        agent = host.start(&[])?;
    }
    let (flood, through) = (sent.load(Ordering::Relaxed), all()?);
    agent.kill();
    // The flood is real: without the rules all of it arrives.
    host.sh("nft delete table inet weft; nft delete table bridge weft")?;
    wait::until("the control: a flood without rules", REPAIR, || {
        let now = all()?;
        ensure!(now.iter().all(|knocked| *knocked > 0), "{now:?}");
        Ok(())
    })?;
    end.store(true, Ordering::Relaxed);
    floods.into_iter().for_each(|f| f.join().expect("floods do not panic"));
    println!("{flood} denied connections in {DEATHS} deaths, {through:?} got through");
    ensure!(flood > 10_000, "only {flood} were tried");
    ensure!(through == [0, 0, 0], "{through:?} of {flood} got through");
    Ok(())
}

/// A wire with weft's group that no agent knows: it was begun by an agent that is dead. It is shut.
#[test]
fn an_unknown_wire_is_shut_without_an_agent() -> Result<()> {
    for (network, gateway, at) in [(ROUTED, "10.77.0.1", "10.77.0.150"), (BRIDGE, "10.78.0.1", "10.78.0.150")]
    {
        let (host, agent) = Host::with_networks(&[network])?;
        host.namespaces(&["known".to_owned(), "unknown".to_owned()])?;
        host.attach("net", "known")?;
        agent.kill();
        let join = match network.1 {
            Mode::Routed => format!("ip route add {at} dev weftstray"),
            Mode::Bridge => "ip link set weftstray master weft-net".to_owned(),
        };
        host.sh(&format!(
            "ip link add weftstray group 2003107841 type veth peer name eth0 netns unknown\n\
             ip link set weftstray up; ip -n unknown link set eth0 up; ip -n unknown addr add {at}/32 dev eth0\n\
             ip -n unknown route add default dev eth0; {join}"
        ))?;
        ensure!(host.ping("unknown", gateway.parse()?).is_err(), "an unknown wire is open");
        host.ping("known", gateway.parse()?)?;
        // With a guard's elements it would be open: it is the guard that keeps it shut.
        let key = format!("weftstray . $(ip netns exec unknown cat /sys/class/net/eth0/address) . {at}");
        let tables = if network.1 == Mode::Routed { "inet arp" } else { "bridge" };
        host.sh(&format!("for t in {tables}; do nft add element $t weft guard4 \"{{ {key} }}\"; done"))?;
        let to = gateway.parse()?;
        wait::until("the control: with a guard's elements", REPAIR, || host.ping("unknown", to))?;
        // The next agent takes it away.
        let _agent = host.start(&[])?;
        wait::until("the stray wire to go", REPAIR, || {
            ensure!(!host.sandbox().links()?.contains("weftstray"));
            Ok(())
        })?;
    }
    Ok(())
}
