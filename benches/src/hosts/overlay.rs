//! The same two containers over paths made by hand and by weft, side by side in one run: alternating rounds,
//! medians, each path beside its hand-made equivalent.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use weft_kernel::netlink::Messages;
use weft_kernel::netns::Netns;
use weft_kernel::rtnl::link;
use weft_lab::{Cluster, Host, Links, Namespace, Underlay, shared_network};
use weft_model::{Encapsulation, Mac, Mode};

use weft_benches::pair::{Figures, measure};

const ROUNDS: usize = 7;
const MTU: u32 = 1500;

/// A path: two namespaces, and what must live on for it to exist.
struct Course {
    name: &'static str,
    /// The course that it is compared with.
    equal: &'static str,
    from: Netns,
    to: Netns,
    address: IpAddr,
    _kept: Box<dyn std::any::Any>,
    figures: Vec<Figures>,
}

pub(crate) fn run(program: &Path) -> Result<()> {
    let mut courses = vec![
        direct()?,
        by_hand("two hosts routed by hand", false, false)?,
        by_hand("the same, tracked and masqueraded", false, true)?,
        weft("weft direct", "the same, tracked and masqueraded", program, Encapsulation::Auto)?,
        by_hand("routed and VXLAN by hand", true, false)?,
        by_hand("VXLAN by hand, tracked and masqueraded", true, true)?,
        weft("weft vxlan", "VXLAN by hand, tracked and masqueraded", program, Encapsulation::Vxlan)?,
    ];
    for _ in 0..ROUNDS {
        for course in &mut courses {
            let figures = measure(&course.from, &course.to, course.address);
            course.figures.push(figures.with_context(|| course.name)?);
        }
    }
    let median = |course: &Course, of: fn(&Figures) -> f64| {
        let mut all: Vec<f64> = course.figures.iter().map(of).collect();
        all.sort_unstable_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let rtt = |c: &Course| median(c, |f| f.round_trip);
    let stream = |c: &Course| median(c, |f| f.stream);
    let veth = rtt(&courses[0]);
    println!("\n| path | TCP_RR p50 µs | × veth | × equal | one stream Gbit/s | × equal |");
    println!("|---|---:|---:|---:|---:|---:|");
    for course in &courses {
        let equal = courses.iter().find(|c| c.name == course.equal);
        // Round by round: whatever else the machine did then met both.
        let ratio = |of: fn(&Figures) -> f64| {
            equal.map_or_else(String::new, |equal| {
                let pairs = course.figures.iter().zip(&equal.figures);
                let mut all: Vec<f64> = pairs.map(|(own, other)| of(own) / of(other)).collect();
                all.sort_unstable_by(f64::total_cmp);
                format!("{:.2}", all[all.len() / 2])
            })
        };
        println!(
            "| {} | {:.1} | {:.2} | {} | {:.1} | {} |",
            course.name,
            rtt(course),
            rtt(course) / veth,
            ratio(|f| f.round_trip),
            stream(course),
            ratio(|f| f.stream)
        );
    }
    println!(
        "\n{ROUNDS} alternating rounds, medians, both ends on one CPU. `× equal` is the median of the rounds' ratios to the hand-made path of the"
    );
    println!(
        "same kind whose containers reach the outside, too: connections are tracked and masqueraded, as weft's are."
    );
    println!("weft also refuses forged sources, strangers' tunnels and other networks; nobody does by hand.");
    Ok(())
}

fn sh(netns: &Netns, script: &str) -> Result<()> {
    let output = netns.command("sh").args(["-ec", script]).output()?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A wire from one namespace into another.
fn wire(outer: &Netns, host: &str, inner: &Netns, mtu: u32) -> Result<()> {
    let mut messages = Messages::default();
    let pair = link::Pair {
        host: &host.parse()?,
        host_mac: Mac([2, 0, 0, 0, 0, 1]),
        master: None,
        inner: &"eth0".parse()?,
        inner_mac: Mac([2, 0, 0, 0, 0, 2]),
        group: 0,
        mtu,
    };
    link::create_pair(&mut messages, &pair, inner.as_fd());
    Links::of(outer)?.send("make a wire", &messages)?;
    sh(outer, &format!("ip link set {host} up; ip link set lo up"))?;
    sh(inner, "ip link set eth0 up; ip link set lo up")
}

fn direct() -> Result<Course> {
    let (from, to) = (Netns::anonymous()?, Netns::anonymous()?);
    wire(&from, "v0", &to, MTU)?;
    sh(&from, "ip addr add 10.9.0.1/24 dev v0")?;
    sh(&to, "ip addr add 10.9.0.2/24 dev eth0")?;
    Ok(Course {
        name: "a wire between two namespaces",
        equal: "",
        from,
        to,
        address: "10.9.0.2".parse()?,
        _kept: Box::new(()),
        figures: Vec::new(),
    })
}

/// What a person would type: routes, addresses of a container alone, and for the overlay one VXLAN device a host.
fn by_hand(name: &'static str, vxlan: bool, tracked: bool) -> Result<Course> {
    let underlay = Underlay::new(MTU)?;
    let hosts = [Host::new(&underlay, "none".as_ref())?, Host::new(&underlay, "none".as_ref())?];
    let containers = [Netns::anonymous()?, Netns::anonymous()?];
    let mtu = if vxlan { MTU - 50 } else { MTU };
    for at in 0..2 {
        let (own, other) = (at + 1, 2 - at);
        let (host, far) = (&hosts[at], &hosts[1 - at]);
        wire(host.netns(), "c0", &containers[at], mtu)?;
        sh(
            &containers[at],
            &format!(
                "ip addr add 10.9.{own}.2/32 dev eth0\n\
                 ip neigh add 169.254.1.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent\n\
                 ip route add default via 169.254.1.1 dev eth0 onlink"
            ),
        )?;
        let way = if vxlan {
            format!(
                "ip link add vx address 02:00:00:00:01:0{own} mtu {mtu} type vxlan id 7 local {} dstport 4789 nolearning\n\
                 ip link set vx up\n\
                 bridge fdb add 02:00:00:00:01:0{other} dev vx dst {} self permanent\n\
                 ip neigh add 10.9.{other}.1 lladdr 02:00:00:00:01:0{other} dev vx nud permanent\n\
                 ip route add 10.9.{other}.0/24 via 10.9.{other}.1 dev vx onlink",
                host.ipv4(),
                far.ipv4()
            )
        } else {
            format!("ip route add 10.9.{other}.0/24 via {}", far.ipv4())
        };
        let track = if tracked {
            "echo 'table inet t {
                chain f { type filter hook forward priority 0; ct state established,related accept; }
                chain n { type nat hook postrouting priority 100; oifname eth0 ip daddr != 10.9.0.0/16 masquerade; }
            }' | nft -f -"
        } else {
            "true"
        };
        sh(
            host.netns(),
            &format!(
                "sysctl -qw net.ipv4.ip_forward=1\n\
                 ip neigh add 10.9.{own}.2 lladdr 02:00:00:00:00:02 dev c0 nud permanent\n\
                 ip route add 10.9.{own}.2 dev c0\n{way}\n{track}"
            ),
        )?;
    }
    let [from, to] = containers;
    let address = "10.9.2.2".parse()?;
    Ok(Course { name, equal: "", from, to, address, _kept: Box::new((underlay, hosts)), figures: Vec::new() })
}

fn weft(
    name: &'static str,
    equal: &'static str,
    program: &Path,
    encapsulation: Encapsulation,
) -> Result<Course> {
    let mut cluster = Cluster::new(program, MTU, vec![shared_network(1, Mode::Routed, encapsulation)?])?;
    cluster.join(&[0, 0])?;
    let attach = |host: usize| -> Result<(Namespace, Option<IpAddr>)> {
        let namespace = Namespace::new()?;
        let attached = namespace.attach(&cluster.hosts[host], &cluster.network(1)?)?;
        Ok((namespace, attached.addresses.first().map(|a| a.address.addr())))
    };
    let (one, (two, address)) = (attach(0)?.0, attach(1)?);
    let again = |n: &Namespace| n.run(Netns::current).context("a namespace")?.context("a namespace");
    Ok(Course {
        name,
        equal,
        from: again(&one)?,
        to: again(&two)?,
        address: address.context("no address")?,
        _kept: Box::new((cluster, one, two)),
        figures: Vec::new(),
    })
}
