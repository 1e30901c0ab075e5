//! Policy for whatever is in a packet: all 256 protocols, extension headers, fragments, echo numbers used twice (BAR.md, security row 14).

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use weft_lab::Namespace;
use weft_lab::traffic::frame::{self, Frame, checksum, icmp, ip, tcp, udp};
use weft_lab::traffic::{Capture, Tap};
use weft_model::api::{Apply, Reply, Request};
use weft_model::{Mode, NetworkName, Object, Profile};
use weft_tests::scene::{Case, Families, SOON, Scene, Workload, anywhere};

/// Headers of IPv6 that come before a protocol's, or end the packet (RFC 8200, section 4): not protocols by themselves.
const HEADERS: [u8; 6] = [0, 43, 44, 51, 59, 60];
const LAST: &[u8] = b"nothing comes behind this";

/// A workload with what it takes to send anything.
struct Sender {
    workload: Workload,
    tap: Tap,
}

struct Ground {
    scene: Scene,
    locked: Workload,
    ear: Capture,
    friend: Sender,
    enemy: Sender,
}

fn labelled(scene: &Scene, network: &NetworkName, app: &str) -> Result<Workload> {
    let namespace = Namespace::new()?;
    let mut wish = namespace.wish(network, "eth0")?;
    wish.profile = Profile { labels: [("app".parse()?, app.parse()?)].into(), ..Profile::default() };
    let attached = Namespace::attach_as(&scene.host, wish)?;
    Ok(Workload { namespace, attached })
}

impl Ground {
    /// `ports` is what the friend may send to.
    fn new(mode: Mode, ports: &str) -> Result<Ground> {
        let scene = Scene::new()?;
        let network = scene.network(1, Case { mode, families: Families::Dual })?;
        let json = format!(
            r#"{{"kind":"NetworkPolicy","apiVersion":"networking.k8s.io/v1","metadata":{{"name":"lock"}},
                "spec":{{"podSelector":{{"matchLabels":{{"app":"locked"}}}},"policyTypes":["Ingress"],
                "ingress":[{{"from":[{{"podSelector":{{"matchLabels":{{"app":"friend"}}}}}}]{ports}}}]}}}}"#
        );
        let object: Object = serde_json::from_str(&json)?;
        match scene.host.request(&Request::Apply(Apply { objects: vec![object], dry_run: false }))? {
            Reply::Applied(_) => {}
            other => bail!("{other:?}"),
        }
        let locked = labelled(&scene, &network, "locked")?;
        let ear = Capture::open(locked.namespace.netns(), "eth0")?;
        let sender = |app: &str| -> Result<Sender> {
            let workload = labelled(&scene, &network, app)?;
            let tap = Tap::open(workload.namespace.netns(), "eth0")?;
            Ok(Sender { workload, tap })
        };
        let (friend, enemy) = (sender("friend")?, sender("enemy")?);
        Ok(Ground { locked, ear, friend, enemy, scene })
    }

    /// Sends an IP packet to the locked one's wire.
    fn send(&self, from: &Sender, packet: &[u8]) -> Result<()> {
        let attached = &from.workload.attached;
        let to = attached.bridge.as_ref().map_or(attached.host_mac, |_| self.locked.attached.mac);
        Ok(from.tap.send(&frame::packet(attached.mac, to, packet))?)
    }

    fn ends(&self, from: &Sender, v4: bool) -> Result<(IpAddr, IpAddr)> {
        let of = |w: &Workload| w.addresses().find(|a| a.is_ipv4() == v4).context("it has both families");
        Ok((of(&from.workload)?, of(&self.locked)?))
    }

    /// What has come, up to a packet of the host's own, which always does.
    fn come(&self) -> Result<Vec<Frame>> {
        let socket = weft_lab::traffic::udp(self.scene.host.netns(), anywhere(0))?;
        let to = self.locked.addresses().find(IpAddr::is_ipv4).context("it has IPv4")?;
        // Behind what is still on its way through the sender's queue.
        std::thread::yield_now();
        socket.send_to(LAST, SocketAddr::new(to, 9))?;
        Ok(self.ear.until(SOON, |frame| frame.contains(LAST))?)
    }

    /// Fails if a packet with this mark has come, or has not.
    fn expect(&self, mark: &[u8], comes: bool, what: &str) -> Result<()> {
        let come = if comes {
            self.ear.until(SOON, |frame| frame.contains(mark)).is_ok()
        } else {
            self.come()?.iter().any(|frame| frame.contains(mark))
        };
        ensure!(come == comes, "{what}: {}", if come { "it got through" } else { "it was dropped" });
        Ok(())
    }
}

/// A packet of a protocol that bears a mark, as honest as it can be without knowing the protocol.
fn of_protocol(protocol: u8, from: IpAddr, to: IpAddr, mark: &[u8]) -> Vec<u8> {
    match protocol {
        1 => icmp(from, to, 8, 0, &[&[0, 7, 0, 1], mark].concat()),
        58 => icmp(from, to, 128, 0, &[&[0, 7, 0, 1], mark].concat()),
        6 => [tcp((from, 4000), (to, 80), 2, u32::from_be_bytes([mark[0], mark[1], mark[2], mark[3]]), 0)]
            .concat(),
        17 => udp((from, 4000), (to, 80), mark),
        // Ports 4000 and 80 where there are some; nothing that looks like another header.
        _ => ip(from, to, protocol, &[&[0x0f, 0xa0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0], mark].concat()),
    }
}

fn all_protocols(mode: Mode) -> Result<()> {
    let ground = Ground::new(mode, "")?;
    for v4 in [true, false] {
        let (mut marks, mut come) = (Vec::new(), Vec::new());
        for protocol in 0..=255_u8 {
            let mark = |who: u8| [0xa5, who, protocol, 0x5a];
            for (who, sender) in [(1, &ground.enemy), (2, &ground.friend)] {
                let (from, to) = ground.ends(sender, v4)?;
                ground.send(sender, &of_protocol(protocol, from, to, &mark(who)))?;
            }
            marks.push((protocol, mark(1), mark(2)));
            if protocol % 64 == 63 {
                come.extend(ground.ear.drain()?); // its queue does not hold all of them
            }
        }
        come.extend(ground.come()?);
        // The friend's go by another wire's queue than the host's own: those that are still under way are waited for.
        let begin = std::time::Instant::now();
        let missing = |come: &[Frame]| -> Vec<u8> {
            let needed = marks.iter().filter(|(protocol, ..)| v4 || !HEADERS.contains(protocol));
            needed.filter(|(_, _, mark)| !come.iter().any(|f| f.contains(mark))).map(|(p, ..)| *p).collect()
        };
        while !missing(&come).is_empty() && begin.elapsed() < SOON {
            come.extend(ground.ear.drain()?);
        }
        let leaked: Vec<u8> = marks
            .iter()
            .filter(|(_, mark, _)| come.iter().any(|f| f.contains(mark)))
            .map(|(p, ..)| *p)
            .collect();
        ensure!(leaked.is_empty(), "IPv4 {v4}: protocols {leaked:?} of the enemy's got through");
        let missing = missing(&come);
        ensure!(missing.is_empty(), "IPv4 {v4}: protocols {missing:?} of the friend's were dropped");
    }
    Ok(())
}

#[test]
fn all_256_protocols_routed() -> Result<()> {
    all_protocols(Mode::Routed)
}

#[test]
fn all_256_protocols_on_a_bridge() -> Result<()> {
    all_protocols(Mode::Bridge)
}

/// Cuts an IPv4 packet into fragments at multiples of eight bytes behind its header.
fn fragments(packet: &[u8], cuts: &[usize], id: u16) -> Vec<Vec<u8>> {
    let (header, payload) = packet.split_at(20);
    let ends: Vec<usize> = cuts.iter().copied().chain([payload.len()]).collect();
    let mut begin = 0;
    let mut all = Vec::new();
    for end in ends {
        let more = u16::from(end < payload.len()) << 13;
        let offset = u16::try_from(begin / 8).unwrap_or(0) | more;
        let mut fragment = header.to_vec();
        let length = u16::try_from(20 + end - begin).unwrap_or(0);
        fragment[2..4].copy_from_slice(&length.to_be_bytes());
        fragment[4..6].copy_from_slice(&id.to_be_bytes());
        fragment[6..8].copy_from_slice(&offset.to_be_bytes());
        fragment[10..12].fill(0);
        let sum = checksum(&[&fragment]).to_be_bytes();
        fragment[10..12].copy_from_slice(&sum);
        fragment.extend(&payload[begin..end]);
        all.push(fragment);
        begin = end;
    }
    all
}

/// A fragment of IPv6 (RFC 8200, section 4.5).
fn fragment6(
    from: IpAddr,
    to: IpAddr,
    next: u8,
    offset: u16,
    more: bool,
    id: u32,
    payload: &[u8],
) -> Vec<u8> {
    let place = (offset & !7) | u16::from(more);
    let header = [&[next, 0][..], &place.to_be_bytes(), &id.to_be_bytes()].concat();
    ip(from, to, 44, &[&header[..], payload].concat())
}

#[test]
fn fragments_are_judged_as_what_they_are_of() -> Result<()> {
    let ground = Ground::new(Mode::Routed, r#","ports":[{"protocol":"UDP","port":80}]"#)?;
    let filler = [b'f'; 64];
    let mut id = 7;
    for (sender, port, comes) in
        [(&ground.friend, 80, true), (&ground.friend, 81, false), (&ground.enemy, 80, false)]
    {
        let (from, to) = ground.ends(sender, true)?;
        // The first has ports and nothing else; the first has not even those whole; the other way round.
        for (cuts, backwards) in [(&[8][..], false), (&[8, 16, 24], false), (&[40], true)] {
            id += 1;
            let mark = [&b"frag"[..], &[b'0' + u8::try_from(id)?]].concat();
            // The mark lies between two cuts: what goes on is cut as it came.
            let packet = udp((from, 4000), (to, port), &[&mark[..], &filler].concat());
            let mut parts = fragments(&packet, cuts, id);
            if backwards {
                parts.reverse();
            }
            parts.iter().try_for_each(|part| ground.send(sender, part))?;
            ground.expect(&mark, comes, &format!("fragments at {cuts:?} to port {port}"))?;
        }
        let (from, to) = ground.ends(sender, false)?;
        let mark = [&b"sixth"[..], &port.to_string().into_bytes(), &[u8::from(comes)]].concat();
        let whole = udp((from, 4000), (to, port), &[&filler[..], &mark].concat());
        let payload = &whole[40..];
        for (begin, end) in [(0, 8), (8, payload.len())] {
            let more = end < payload.len();
            ground.send(
                sender,
                &fragment6(from, to, 17, u16::try_from(begin)?, more, id.into(), &payload[begin..end]),
            )?;
        }
        ground.expect(&mark, comes, &format!("IPv6 fragments to port {port}"))?;
    }
    // A second fragment alone, and one that would write another port over the first one's.
    let (from, to) = ground.ends(&ground.friend, true)?;
    let alone = fragments(&udp((from, 4000), (to, 81), b"........late-part"), &[8], 99).swap_remove(1);
    ground.send(&ground.friend, &alone)?;
    ground.expect(b"late-part", false, "a fragment without its beginning")?;
    let good = fragments(&udp((from, 4000), (to, 80), &[&filler[..], b"overlaid"].concat()), &[16], 100);
    let bad = fragments(&udp((from, 4000), (to, 81), &[&filler[..], b"overlaid"].concat()), &[16], 100);
    for part in [&good[0], &bad[0], &bad[1]] {
        ground.send(&ground.friend, part)?;
    }
    let come = ground.come()?;
    let to_81 = come.iter().any(|frame| frame.contains(b"overlaid") && frame.contains(&[0x0f, 0xa0, 0, 81]));
    ensure!(!to_81, "a fragment over another one got another port through");
    Ok(())
}

#[test]
fn extension_headers_hide_nothing() -> Result<()> {
    let ground = Ground::new(Mode::Routed, r#","ports":[{"protocol":"UDP","port":80}]"#)?;
    let pad = |next: u8| vec![next, 0, 1, 4, 0, 0, 0, 0]; // PadN (RFC 8200, section 4.2)
    let mut number = 0;
    for (sender, port, allowed) in
        [(&ground.friend, 80, true), (&ground.friend, 81, false), (&ground.enemy, 80, false)]
    {
        let (from, to) = ground.ends(sender, false)?;
        for (name, headers) in [
            ("options for the destination", vec![60]),
            ("options for each hop", vec![0]),
            ("both", vec![0, 60]),
            ("a lone fragment", vec![44]),
            ("options behind a fragment's header", vec![44, 60]),
            ("seven times options", vec![60; 7]),
        ] {
            number += 1;
            let mark = format!("extension-{number}!");
            let datagram = udp((from, 4000), (to, port), mark.as_bytes());
            let mut packet = datagram[40..].to_vec();
            let mut next = 17;
            for header in headers.iter().rev() {
                packet = match header {
                    44 => [&[next, 0, 0, 0, 0, 0, 0, number][..], &packet].concat(),
                    _ => [pad(next), packet].concat(),
                };
                next = *header;
            }
            ground.send(sender, &ip(from, to, next, &packet))?;
            ground.expect(mark.as_bytes(), allowed, &format!("{name}, to port {port}"))?;
        }
        // Routing headers are followed by nobody here, whoever sends them (RFC 5095).
        let routed = udp((from, 4000), (to, 81), b"by-route");
        ground.send(sender, &ip(from, to, 43, &[&[17, 0, 0, 0, 0, 0, 0, 0][..], &routed[40..]].concat()))?;
        ground.expect(b"by-route", false, "a routing header, to port 81")?;
    }
    Ok(())
}

#[test]
fn an_echo_number_is_nobody_elses_key() -> Result<()> {
    let ground = Ground::new(Mode::Routed, "")?;
    for v4 in [true, false] {
        let (request, reply) = if v4 { (8, 0) } else { (128, 129) };
        let (from, to) = ground.ends(&ground.friend, v4)?;
        let body = |text: &[u8]| [&[0, 7, 0, 1][..], text].concat();
        ground.send(&ground.friend, &icmp(from, to, request, 0, &body(b"friendly")))?;
        ground.expect(b"friendly", true, "the friend's echo request")?;
        let (from, to) = ground.ends(&ground.enemy, v4)?;
        for kind in [request, reply] {
            ground.send(&ground.enemy, &icmp(from, to, kind, 0, &body(b"hostile!")))?;
            ground.expect(
                b"hostile!",
                false,
                &format!("the enemy's message {kind} with the friend's number"),
            )?;
        }
        // An error about a connection that there is not opens nothing.
        let (kind, code) = if v4 { (3, 4) } else { (2, 0) };
        let about = udp((to, 80), (from, 4000), b"quoted!!");
        ground.send(&ground.enemy, &icmp(from, to, kind, code, &[&[0, 0, 5, 0][..], &about].concat()))?;
        ground.expect(b"quoted!!", false, "an error about nothing")?;
    }
    Ok(())
}
