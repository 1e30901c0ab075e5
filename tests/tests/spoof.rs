//! Workloads that lie about who they are (BAR.md, security rows 1, 7 and 8): each lie is first shown to
//! work on the CNI project's bridge plugin, then to fail on weft in both modes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use weft_lab::Links;
use weft_lab::traffic::frame::{
    ALL_NODES, ALL_NODES_MAC, BROADCAST, Frame, ICMP, ICMPV6, arp, icmp, icmp_message, ip, packet, udp,
};
use weft_lab::traffic::{Capture, ping};
use weft_model::{Mac, Mode};
use weft_tests::ground::{Attack, Ground, Party, stopped};
use weft_tests::scene::{SOON, anywhere};

const LIE: &[u8] = b"a lie";
const FOREIGN: &[&str] = &["source address is not the workload's"];
const FOREIGN_ARP: &[&str] =
    &["ARP for an address that is not the workload's", "source address is not the workload's"];
const ROUTER: &[&str] = &["router advertisement or redirect from a workload"];
const DHCP: &[&str] = &["DHCP answer from a workload"];
/// The prefix that a rogue router advertises.
const ROGUE: [u8; 8] = [0x20, 0x01, 0x0d, 0xb8, 0xba, 0xdd, 0, 0];

/// A datagram to the victim with this Ethernet and IP source.
fn datagram(ground: &Ground, mac: Mac, from: IpAddr) -> Attack {
    let to = if from.is_ipv4() { ground.victim.v4.into() } else { ground.victim.v6.into() };
    let lie = packet(mac, ground.next_hop(&ground.victim), &udp((from, 1000), (to, 9), LIE));
    let seen = Box::new(|f: &Frame| f.contains(LIE));
    Attack { frames: vec![lie], seen, reasons: FOREIGN }
}

#[test]
fn anothers_ipv4_address() -> Result<()> {
    stopped(|ground| datagram(ground, ground.attacker.mac, ground.third.v4.into()))
}

#[test]
fn an_outsiders_ipv4_address() -> Result<()> {
    stopped(|ground| datagram(ground, ground.attacker.mac, Ipv4Addr::new(198, 51, 100, 1).into()))
}

#[test]
fn the_gateways_ipv4_address() -> Result<()> {
    stopped(|ground| datagram(ground, ground.attacker.mac, ground.gateway4.into()))
}

#[test]
fn anothers_ipv6_address() -> Result<()> {
    stopped(|ground| datagram(ground, ground.attacker.mac, ground.third.v6.into()))
}

#[test]
fn an_outsiders_ipv6_address() -> Result<()> {
    let outside = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);
    stopped(|ground| datagram(ground, ground.attacker.mac, outside.into()))
}

#[test]
fn anothers_ethernet_address() -> Result<()> {
    stopped(|ground| datagram(ground, ground.third.mac, ground.attacker.v4.into()))?;
    stopped(|ground| datagram(ground, ground.third.mac, ground.attacker.v6.into()))
}

#[test]
fn anothers_ethernet_and_ip_address() -> Result<()> {
    stopped(|ground| datagram(ground, ground.third.mac, ground.third.v4.into()))?;
    stopped(|ground| datagram(ground, ground.third.mac, ground.third.v6.into()))
}

/// Addresses of the host itself are no better to lie with.
#[test]
fn spoofed_packets_do_not_reach_the_host_either() -> Result<()> {
    for mode in [Mode::Routed, Mode::Bridge] {
        let ground = Ground::weft(mode)?;
        let scene = ground.scene().context("no agent here")?;
        let sink = weft_lab::traffic::udp(ground.host(), anywhere(0))?;
        let port = sink.local_addr()?.port();
        let mut lies = Vec::new();
        for (from, to) in [
            (IpAddr::V4(ground.third.v4), scene.host.ipv4()),
            (IpAddr::V4(Ipv4Addr::LOCALHOST), scene.host.ipv4()),
            (IpAddr::V6(ground.third.v6), scene.host.ipv6()),
            (IpAddr::V6(Ipv6Addr::LOCALHOST), scene.host.ipv6()),
        ] {
            lies.push(packet(ground.attacker.mac, ground.gateway_mac, &udp((from, 1000), (to, port), LIE)));
        }
        // ::1 as a source is refused by the kernel itself, before any rule (net/ipv6/ip6_input.c).
        scene.refuses(FOREIGN[0], 30, || ground.send(&lies))?;
        // An honest one arrives, and first.
        let honest = weft_lab::traffic::udp(ground.attacker.namespace.netns(), anywhere(0))?;
        honest.send_to(b"honest", SocketAddr::new(scene.host.ipv4(), port))?;
        sink.set_read_timeout(Some(SOON))?;
        let mut buffer = [0; 64];
        let (length, peer) = sink.recv_from(&mut buffer)?;
        ensure!(&buffer[..length] == b"honest", "the host got a lie from {peer} in mode {}", mode.as_str());
    }
    Ok(())
}

/// "`address` is at the attacker's": asked and answered, to everybody and to the victim alone.
fn arp_lies(ground: &Ground, address: Ipv4Addr) -> Attack {
    let (me, victim) = (ground.attacker.mac, (ground.victim.mac, ground.victim.v4));
    let claim = (me, address);
    let frames = vec![
        arp((me, BROADCAST), 1, claim, (Mac([0; 6]), address)), // gratuitous request
        arp((me, BROADCAST), 2, claim, (BROADCAST, address)),   // gratuitous answer
        arp((me, ground.next_hop(&ground.victim)), 2, claim, victim),
        arp((me, ground.gateway_mac), 2, claim, (ground.gateway_mac, ground.gateway4)),
    ];
    let seen = move |f: &Frame| f.is_arp() && f.source == Some(address.into()) && f.from == me;
    Attack { frames, seen: Box::new(seen), reasons: FOREIGN_ARP }
}

/// Sends an attack until the victim believes it; the kernel ignores a change within a second of the last.
fn believed(ground: &Ground, attack: &Attack, of: IpAddr) -> Result<bool> {
    let begin = Instant::now();
    while begin.elapsed() < SOON {
        ground.send(&attack.frames)?;
        let held = ground.victim.namespace.links()?.neighbour("eth0", of)?;
        if held == Some(ground.attacker.mac) {
            return Ok(true);
        }
        std::thread::sleep(SOON / 50);
    }
    Ok(false)
}

/// What the victim and the host hold for neighbours must not change under attack.
fn neighbours_stay(make: impl Fn(&Ground) -> Attack, of: impl Fn(&Ground) -> IpAddr) -> Result<()> {
    let reference = Ground::reference()?;
    ping(reference.victim.namespace.netns(), of(&reference), 56, SOON)?;
    ensure!(believed(&reference, &make(&reference), of(&reference))?, "nobody believes it even unguarded");
    for mode in [Mode::Routed, Mode::Bridge] {
        let ground = Ground::weft(mode)?;
        ground.all_is_well()?;
        let victim =
            || Ok::<_, anyhow::Error>(ground.victim.namespace.links()?.neighbour("eth0", of(&ground))?);
        let host = || -> Result<_> {
            let held = |a: IpAddr| Links::of(ground.host())?.neighbour(&ground.device, a);
            Ok((held(ground.third.v4.into())?, held(ground.third.v6.into())?))
        };
        let before = (victim()?, host()?);
        ground.send(&make(&ground).frames)?;
        ground.all_is_well()?;
        let after = (victim()?, host()?);
        ensure!(before == after, "{before:?} became {after:?} in mode {}", mode.as_str());
        let attacker = Some(ground.attacker.mac);
        ensure!(after.0 != attacker && after.1.0 != attacker && after.1.1 != attacker, "{after:?}");
    }
    Ok(())
}

#[test]
fn arp_for_the_gateway() -> Result<()> {
    stopped(|ground| arp_lies(ground, ground.gateway4))?;
    neighbours_stay(|ground| arp_lies(ground, ground.gateway4), |ground| ground.gateway4.into())
}

#[test]
fn arp_for_another_workload() -> Result<()> {
    stopped(|ground| arp_lies(ground, ground.third.v4))?;
    neighbours_stay(|ground| arp_lies(ground, ground.third.v4), |ground| ground.third.v4.into())
}

/// The frame's and the message's sender differ: the guard must look at both. A routed wire has no
/// segment on which the frame's sender could matter, so that one is merely not passed on there.
#[test]
fn arp_with_two_senders() -> Result<()> {
    let lie = |ground: &Ground, frame: Mac, message: Mac, reasons| {
        let (to, victim) = (ground.next_hop(&ground.victim), (ground.victim.mac, ground.victim.v4));
        let frames = vec![arp((frame, to), 2, (message, ground.attacker.v4), victim)];
        let own = IpAddr::V4(ground.attacker.v4);
        let seen = Box::new(move |f: &Frame| {
            f.is_arp()
                && f.source == Some(own)
                && f.from == frame
                && f.payload.get(8..14) == Some(&message.0[..])
        });
        Attack { frames, seen, reasons }
    };
    stopped(|ground| lie(ground, ground.attacker.mac, ground.third.mac, FOREIGN_ARP))?;
    stopped(|ground| lie(ground, ground.third.mac, ground.attacker.mac, &[]))
}

/// "`target` is at the attacker's" (RFC 4861, section 4.4), override bit set, from this address.
fn advertisement(ground: &Ground, from: Ipv6Addr, target: Ipv6Addr) -> Vec<Vec<u8>> {
    let me = ground.attacker.mac;
    let body = [&[0x20, 0, 0, 0][..], &target.octets(), &[2, 1], &me.0].concat();
    let message = |to: Ipv6Addr| icmp(from.into(), to.into(), 136, 0, &body);
    vec![
        packet(me, ALL_NODES_MAC, &message(ALL_NODES)),
        packet(me, ground.next_hop(&ground.victim), &message(ground.victim.v6)),
    ]
}

fn advertisements(ground: &Ground, target: Ipv6Addr) -> Attack {
    let attacker = &ground.attacker;
    // From an address that it may use, and from one that it may not.
    let frames = [attacker.v6, attacker.link_local(), target].map(|from| advertisement(ground, from, target));
    let mark = target.octets();
    let me = attacker.mac;
    // In routed mode frames for the victim are forwarded with a lower hop limit, which makes them void.
    let seen = move |f: &Frame| f.is_icmpv6(136) && f.from == me && f.contains(&mark);
    Attack { frames: frames.concat(), seen: Box::new(seen), reasons: &[] }
}

#[test]
fn neighbour_advertisement_for_the_gateway() -> Result<()> {
    let attack = |ground: &Ground| advertisements(ground, ground.gateway6);
    neighbours_stay(attack, |ground| ground.gateway6.into())
}

#[test]
fn neighbour_advertisement_for_another_workload() -> Result<()> {
    let attack = |ground: &Ground| advertisements(ground, ground.third.v6);
    neighbours_stay(attack, |ground| ground.third.v6.into())
}

#[test]
fn neighbour_advertisements_are_seen_by_nobody() -> Result<()> {
    let reference = Ground::reference()?;
    ensure!(reference.delivered(&advertisements(&reference, reference.third.v6))? > 0);
    let ground = Ground::weft(Mode::Bridge)?;
    let scene = ground.scene().context("no agent here")?;
    let reason = "neighbour advertisement for an address that is not the workload's";
    let seen = scene.refuses(reason, 20, || ground.delivered(&advertisements(&ground, ground.third.v6)))?;
    ensure!(seen == 0, "{seen} advertisements got through");
    let ground = Ground::weft(Mode::Routed)?;
    let seen = ground.delivered(&advertisements(&ground, ground.third.v6))?;
    ensure!(seen == 0, "{seen} advertisements got through");
    Ok(())
}

/// A router advertisement (RFC 4861, section 4.2) that offers itself as a router and a prefix.
fn router_message(from: &Party) -> Vec<u8> {
    let prefix = [&[3, 4, 64, 0xc0][..], &[0, 0, 0xff, 0xff], &[0, 0, 0xff, 0xff], &[0; 4], &ROGUE, &[0; 8]];
    let body = [&[64, 0, 7, 8][..], &[0; 8], &[1, 1], &from.mac.0, &prefix.concat()].concat();
    icmp_message(from.link_local().into(), ALL_NODES.into(), 134, 0, &body)
}

fn router_advertisement(ground: &Ground) -> Attack {
    let from = &ground.attacker;
    let message = router_message(from);
    let plain = ip(from.link_local().into(), ALL_NODES.into(), ICMPV6, &message);
    // Behind headers that a careless guard does not look behind: hop-by-hop and destination options.
    let hidden = [0, 60].map(|header| {
        let options = [&[ICMPV6, 0, 1, 4, 0, 0, 0, 0][..], &message].concat();
        ip(from.link_local().into(), ALL_NODES.into(), header, &options)
    });
    let [hop_by_hop, destination] = hidden;
    let frames = [plain, hop_by_hop, destination].map(|p| packet(from.mac, ALL_NODES_MAC, &p));
    Attack { frames: frames.into(), seen: Box::new(|f| f.contains(&ROGUE)), reasons: ROUTER }
}

/// Whether a namespace has taken an address or a route from the rogue router.
fn misled(links: &mut Links, ifname: &str) -> Result<bool> {
    let rogue = |a: IpAddr| matches!(a, IpAddr::V6(a) if a.octets()[..8] == ROGUE);
    let address = links.addresses(ifname)?.iter().any(|a| rogue(a.addr()));
    let route = |r: &weft_kernel::rtnl::route::Described| {
        rogue(r.destination.addr()) || (r.protocol == 9 && r.destination.prefix_len() == 0) // RTPROT_RA
    };
    Ok(address || links.routes()?.iter().any(route))
}

#[test]
fn router_advertisements() -> Result<()> {
    stopped(router_advertisement)?;
    let reference = Ground::reference()?;
    let begin = Instant::now();
    while !misled(&mut reference.victim.namespace.links()?, "eth0")? {
        ensure!(begin.elapsed() < SOON, "nobody follows it even unguarded");
        reference.send(&router_advertisement(&reference).frames)?;
        std::thread::sleep(SOON / 50);
    }
    for mode in [Mode::Routed, Mode::Bridge] {
        let ground = Ground::weft(mode)?;
        ground.send(&router_advertisement(&ground).frames)?;
        ground.all_is_well()?;
        for party in [&ground.victim, &ground.third] {
            ensure!(!misled(&mut party.namespace.links()?, "eth0")?, "a workload follows the rogue router");
        }
        let mut host = Links::of(ground.host())?;
        ensure!(!misled(&mut host, &ground.device)?, "the host follows the rogue router");
    }
    Ok(())
}

/// "To reach `OUTSIDE`, use me" in the gateway's name (RFC 792).
fn redirect4(ground: &Ground) -> Attack {
    let outside = Ipv4Addr::new(198, 51, 100, 77);
    // What the victim is made to believe it had sent; Linux looks at echo answers in it without a socket.
    let inner = icmp(ground.victim.v4.into(), outside.into(), 0, 0, &[0; 4]);
    let body = [&ground.attacker.v4.octets()[..], &inner].concat();
    let lie = icmp(ground.gateway4.into(), ground.victim.v4.into(), 5, 1, &body);
    let frames = vec![packet(ground.attacker.mac, ground.next_hop(&ground.victim), &lie)];
    let seen = Box::new(|f: &Frame| f.protocol == Some(ICMP) && f.payload.first() == Some(&5));
    Attack { frames, seen, reasons: ROUTER }
}

/// Whether what the victim sends outside comes to the attacker.
fn diverted(ground: &Ground) -> Result<bool> {
    let capture = Capture::open(ground.attacker.namespace.netns(), "eth0")?;
    let victim = weft_lab::traffic::udp(ground.victim.namespace.netns(), anywhere(0))?;
    victim.send_to(b"secret", SocketAddr::from(([198, 51, 100, 77], 9)))?;
    victim.send_to(b"not secret", SocketAddr::from((ground.attacker.v4, 9)))?;
    let frames = capture.until(SOON, |f| f.contains(b"not secret"))?;
    let (me, outside) = (ground.attacker.mac, IpAddr::from([198, 51, 100, 77]));
    Ok(frames.iter().any(|f| f.to == me && f.destination == Some(outside)))
}

#[test]
fn redirects_of_ipv4() -> Result<()> {
    stopped(redirect4)?;
    let reference = Ground::reference()?;
    ping(reference.victim.namespace.netns(), reference.gateway4.into(), 56, SOON)?;
    ping(reference.victim.namespace.netns(), reference.attacker.v4.into(), 56, SOON)?;
    ensure!(!diverted(&reference)?);
    reference.send(&redirect4(&reference).frames)?;
    ensure!(diverted(&reference)?, "nobody follows it even unguarded");
    for mode in [Mode::Routed, Mode::Bridge] {
        let ground = Ground::weft(mode)?;
        ground.send(&redirect4(&ground).frames)?;
        ensure!(!diverted(&ground)?, "the victim was diverted in mode {}", mode.as_str());
    }
    Ok(())
}

/// The same for IPv6 (RFC 4861, section 4.5), from the attacker's own address and in the gateway's name.
#[test]
fn redirects_of_ipv6() -> Result<()> {
    stopped(|ground| {
        let outside = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x77).octets();
        let body = [&[0; 4][..], &ground.attacker.link_local().octets(), &outside].concat();
        let lie = |from: Ipv6Addr| {
            let redirect = icmp(from.into(), ground.victim.v6.into(), 137, 0, &body);
            packet(ground.attacker.mac, ground.next_hop(&ground.victim), &redirect)
        };
        let frames = vec![lie(ground.attacker.v6), lie(ground.attacker.link_local()), lie(ground.gateway6)];
        Attack { frames, seen: Box::new(|f| f.is_icmpv6(137)), reasons: ROUTER }
    })
}

#[test]
fn dhcp_answers() -> Result<()> {
    stopped(|ground| {
        let everybody = IpAddr::V4(Ipv4Addr::BROADCAST);
        let lie = udp((ground.attacker.v4.into(), 67), (everybody, 68), LIE);
        let frames = vec![packet(ground.attacker.mac, BROADCAST, &lie)];
        Attack { frames, seen: Box::new(|f| f.contains(LIE)), reasons: DHCP }
    })?;
    stopped(|ground| {
        let to = |to: Ipv6Addr| udp((ground.attacker.v6.into(), 547), (to.into(), 546), LIE);
        let frames = vec![
            packet(ground.attacker.mac, ground.next_hop(&ground.victim), &to(ground.victim.v6)),
            packet(ground.attacker.mac, ALL_NODES_MAC, &to(ALL_NODES)),
        ];
        Attack { frames, seen: Box::new(|f| f.contains(LIE)), reasons: DHCP }
    })
}
