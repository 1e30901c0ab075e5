//! Who may send in a tunnel, and what (BAR.md, security row 9): known hosts, for their own workloads.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weft_kernel::netns::Netns;
use weft_lab::traffic::frame::{packet, udp};
use weft_lab::traffic::{Tap, ping, udp as udp_socket};
use weft_lab::{Cluster, Links, ROUTER4, ROUTER6, shared_network};
use weft_model::{Encapsulation, Mac, Mode};
use weft_tests::scene::{SOON, Workload, program};
use weft_tests::wait;

const MTU: u32 = 1500;
const VXLAN: u16 = 4789;
const PORT: u16 = 7000;
const STRANGER: &str = "encapsulated packet of a stranger";
/// What must not arrive has not arrived when something that was sent later has.
const NEVER: Duration = Duration::from_millis(200);

/// A VXLAN packet (RFC 7348): outer addresses, number, inner packet.
fn vxlan(outer: (IpAddr, IpAddr), vni: u32, to: Mac, inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![0x08, 0, 0, 0];
    payload.extend((vni << 8).to_be_bytes());
    payload.extend(packet(Mac([2, 0, 0, 0, 0, 9]), to, inner));
    udp((outer.0, 50_000), (outer.1, VXLAN), &payload)
}

struct Field {
    cluster: Cluster,
    victim: Workload,
    friend: Workload,
}

impl Field {
    /// The victim on the first host, which shares no segment with the second.
    fn new(ipv6_underlay: bool) -> Result<Field> {
        let networks = vec![
            shared_network(1, Mode::Routed, Encapsulation::Auto)?,
            shared_network(2, Mode::Routed, Encapsulation::Auto)?,
        ];
        let mut cluster = Cluster::new(program()?, MTU, networks)?;
        cluster.join(&[0, 1])?;
        if ipv6_underlay {
            for host in 0..2 {
                cluster.record(host)?.addresses.retain(|a| a.addr().is_ipv6());
            }
            cluster.publish()?;
            for host in &cluster.hosts {
                wait::until("tunnels over IPv6", wait::LONG, || {
                    Ok(host.links()?.link("weft6_101").map(drop)?)
                })?;
            }
        }
        let attach = |host: usize| {
            Workload::attach(weft_lab::Namespace::new()?, &cluster.hosts[host], &cluster.network(1)?)
        };
        let (victim, friend) = (attach(0)?, attach(1)?);
        Ok(Field { cluster, victim, friend })
    }

    /// Sends an outer packet to the victim's host from the router, which is a neighbour of it.
    fn throw(&self, outer: &[u8]) -> Result<()> {
        let underlay = &self.cluster.underlay;
        let own = Links::of(underlay.netns())?.link(underlay.link())?.mac.context("no address")?;
        Ok(Tap::open(underlay.netns(), underlay.link())?.send(&packet(
            own,
            self.cluster.hosts[0].mac(),
            outer,
        ))?)
    }

    /// Whether an inner packet with this source gets through to the victim in such a tunnel.
    fn arrives(&self, outer_source: IpAddr, vni: u32, inner_source: IpAddr) -> Result<bool> {
        let to = self.victim.address(inner_source)?;
        let any = if to.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        let sink = udp_socket(self.victim.namespace.netns(), SocketAddr::new(any, PORT))?;
        sink.set_read_timeout(Some(NEVER))?;
        let host = self.cluster.hosts[0].address(outer_source);
        let inner = udp((inner_source, 1000), (to, PORT), b"inner");
        // The Ethernet address of the first host's ends of tunnels.
        self.throw(&vxlan((outer_source, host), vni, Mac([0x02, 0x77, 0x76, 0, 0, 1]), &inner))?;
        Ok(sink.recv(&mut [0; 64]).is_ok())
    }
}

fn only_known_hosts(ipv6_underlay: bool) -> Result<()> {
    let field = Field::new(ipv6_underlay)?;
    let (stranger, like) = if ipv6_underlay {
        (IpAddr::V6(ROUTER6), IpAddr::V6(ROUTER6))
    } else {
        (IpAddr::V4(ROUTER4), IpAddr::V4(ROUTER4))
    };
    let known = field.cluster.hosts[1].address(like);
    for inner in field.friend.addresses() {
        // The control: the same packet from the right host gets through, so nothing but the guard stops the others.
        ensure!(field.arrives(known, 101, inner)?, "not even an honest packet from {inner} arrives");
        let before = field.cluster.hosts[0].refused(STRANGER)?;
        ensure!(!field.arrives(stranger, 101, inner)?, "a stranger's packet with the source {inner} arrived");
        // A known host, but the source lives elsewhere: on the victim's host, on no host, outside.
        let own = field.victim.address(inner)?;
        let nobody: IpAddr = if inner.is_ipv4() { "10.101.9.9".parse()? } else { "fd77:1:0:9::9".parse()? };
        let outside: IpAddr = if inner.is_ipv4() { "8.8.8.8".parse()? } else { "2001:4860::8".parse()? };
        for lie in [own, nobody, outside] {
            ensure!(!field.arrives(known, 101, lie)?, "a packet with the source {lie} arrived");
        }
        let refused = field.cluster.hosts[0].refused(STRANGER)? - before;
        ensure!(refused == 4, "{refused} of 4 were counted");
        // The right source in the tunnel of another network; and with a number that nobody has.
        let before = field.cluster.hosts[0].refused(STRANGER)?;
        ensure!(!field.arrives(known, 102, inner)?, "it arrived by the tunnel of another network");
        ensure!(!field.arrives(known, 4242, inner)?, "it arrived by a tunnel that does not exist");
        let refused = field.cluster.hosts[0].refused(STRANGER)? - before;
        ensure!(refused == 1, "{refused} instead of 1 was counted");
    }
    Ok(())
}

#[test]
fn only_known_hosts_over_ipv4() -> Result<()> {
    only_known_hosts(false)
}

#[test]
fn only_known_hosts_over_ipv6() -> Result<()> {
    only_known_hosts(true)
}

/// A workload that encapsulates would pass for its host, whose address replaces its own: it may not.
#[test]
fn workloads_do_not_encapsulate() -> Result<()> {
    let field = Field::new(false)?;
    let other = field.cluster.hosts[1].ipv4();
    let socket = udp_socket(field.victim.namespace.netns(), (Ipv4Addr::UNSPECIFIED, 0).into())?;
    let before = field.cluster.hosts[0].refused("overlay packet from a workload")?;
    for to in [other, field.cluster.hosts[0].ipv4(), IpAddr::V4(ROUTER4)] {
        socket.send_to(&[8, 0, 0, 0, 0, 0, 101, 0], (to, VXLAN))?;
    }
    let refused = field.cluster.hosts[0].refused("overlay packet from a workload")? - before;
    ensure!(refused == 3, "{refused} of 3 were refused");
    Ok(())
}

/// A neighbour on the segment sends as if it were a workload elsewhere, without any tunnel: into a connection that
/// stands, too, where connection tracking would let it pass.
#[test]
fn addresses_of_the_cluster_do_not_come_from_outside() -> Result<()> {
    let field = Field::new(false)?;
    let reason = "address of the cluster from outside of it";
    let (victim, friend) =
        (field.victim.address(IpAddr::V4(ROUTER4))?, field.friend.address(IpAddr::V4(ROUTER4))?);
    let socket = udp_socket(field.victim.namespace.netns(), (victim, PORT).into())?;
    socket.send_to(b"hello", (friend, PORT))?;
    socket.set_read_timeout(Some(NEVER))?;
    let before = field.cluster.hosts[0].refused(reason)?;
    field.throw(&udp((friend, PORT), (victim, PORT), b"forged"))?;
    ensure!(socket.recv(&mut [0; 64]).is_err(), "a forged answer arrived");
    let refused = field.cluster.hosts[0].refused(reason)? - before;
    ensure!(refused == 1, "{refused} instead of 1 was counted");
    ping(field.victim.namespace.netns(), friend, 56, SOON)?;
    Ok(())
}

/// Somebody else's overlay on the same port and with numbers of its own is none of weft's business.
#[test]
fn other_overlays_are_left_alone() -> Result<()> {
    let field = Field::new(false)?;
    let host = &field.cluster.hosts[0];
    let run = |netns: &Netns, line: &str| -> Result<()> {
        let output = netns.command("sh").arg("-ec").arg(line).output()?;
        ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    let end = |own: IpAddr, other: IpAddr, address: &str| {
        format!(
            "ip link add theirs type vxlan id 4242 local {own} remote {other} dstport 4789\n\
             ip addr add {address}/24 dev theirs; ip link set theirs up"
        )
    };
    run(host.netns(), &end(host.ipv4(), ROUTER4.into(), "172.20.0.1"))?;
    run(field.cluster.underlay.netns(), &end(ROUTER4.into(), host.ipv4(), "172.20.0.2"))?;
    ping(host.netns(), "172.20.0.2".parse()?, 56, SOON)?;
    Ok(())
}
