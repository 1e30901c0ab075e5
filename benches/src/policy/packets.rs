//! What a packet pays: the same two containers under weft's rules and under a rule per peer, with more and more policies.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result, ensure};
use weft_benches::pair::{connects, measure_at};
use weft_dataplane::{render, sync};
use weft_kernel::Linux;
use weft_kernel::netns::Netns;
use weft_model::policy::{IpBlock, NetworkPolicySpec, Peer};
use weft_model::{Object, Selector, World};

use crate::report::{Report, median};
use crate::world::{self, here, let_in, port};

const ROUNDS: usize = 9;
const CONNECTS: usize = 2_000;
const PEERS: usize = 1_000;
const LOCAL: usize = 100;
/// The policy that lets the client in, and thereby who the two are: workload 1 is app 0 of namespace 1.
const POLICY: usize = 1;
const SERVER: usize = POLICY;

fn client() -> usize {
    let_in(POLICY)[0] * world::NAMESPACES + SERVER % world::NAMESPACES
}

/// Who is compared.
struct Course {
    name: String,
    /// What its connections cost is compared with, by name.
    base: &'static str,
    client: Netns,
    server: Netns,
    _host: Netns,
    connect: Vec<f64>,
    round_trip: Vec<f64>,
    stream: Vec<f64>,
}

/// The rules of a course.
enum Rules {
    /// weft's, of a world.
    Weft(Box<World>),
    /// A rule for each policy's peers in one chain.
    Iptables(usize),
    Nft(usize),
}

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let weft =
        |count: usize| Ok::<_, anyhow::Error>(Rules::Weft(Box::new(world::world(PEERS, LOCAL, count)?)));
    let mut courses = vec![Course::new("weft, without policies", "", weft(0)?)?];
    for count in [1, 100, 1_000, 10_000] {
        courses.push(Course::new(&format!("weft, {count}"), "weft, 1", weft(count)?)?);
    }
    for count in [1, 100, 1_000, 10_000] {
        courses.push(Course::new(&format!("iptables, {count}"), "iptables, 1", Rules::Iptables(count))?);
        courses.push(Course::new(&format!("nft, {count}"), "nft, 1", Rules::Nft(count))?);
    }
    for count in [10, 10_000] {
        let sources = Rules::Weft(Box::new(sources(count)?));
        courses.push(Course::new(&format!("weft, {count} sources"), "weft, 10 sources", sources)?);
        let blocks = Rules::Weft(Box::new(blocks(count)?));
        courses.push(Course::new(&format!("weft, {count} blocks"), "weft, 10 blocks", blocks)?);
    }
    let at = SocketAddr::new(world::ipv4(SERVER)?, port(POLICY)?);
    for _ in 0..ROUNDS {
        for course in &mut courses {
            let Course { name, client, server, .. } = course;
            let connect = connects(client, server, at, CONNECTS).with_context(|| name.clone())?;
            let figures = measure_at(client, server, at).with_context(|| name.clone())?;
            course.connect.push(connect);
            course.round_trip.push(figures.round_trip);
            course.stream.push(figures.stream);
        }
    }
    table(report, &courses);
    gates(report, &courses)
}

fn table(report: &mut Report, courses: &[Course]) {
    report.line(&format!(
        "\n### Packets\n\n{PEERS} workloads, of which {LOCAL} are here; the same two of them speak to each other under the rules of so many \
         policies. iptables and nft have a rule per peer of each policy that concerns a workload here, in one chain, the rule of the two in \
         the middle. {ROUNDS} alternating rounds of {CONNECTS} connections, 4,000 round trips and a stream; medians, both ends on one CPU. \
         × is the median of the rounds' ratios to the same with one policy (of the sources and blocks: to ten of them).\n"
    ));
    report.line("| rules of | connect µs | × | round trip µs | × | one stream Gbit/s | × |");
    report.line("|---|--:|--:|--:|--:|--:|--:|");
    for course in courses {
        let base = courses.iter().find(|c| c.name == course.base);
        let of = |of: fn(&Course) -> &Vec<f64>| {
            base.map_or(String::new(), |b| format!("{:.2}", ratio(of(course), of(b))))
        };
        report.line(&format!(
            "| {} | {:.1} | {} | {:.1} | {} | {:.1} | {} |",
            course.name,
            median(&course.connect),
            of(|c| &c.connect),
            median(&course.round_trip),
            of(|c| &c.round_trip),
            median(&course.stream),
            of(|c| &c.stream),
        ));
    }
}

/// Round by round: whatever else the machine did then met both.
pub(crate) fn ratio(own: &[f64], other: &[f64]) -> f64 {
    median(&own.iter().zip(other).map(|(own, other)| own / other).collect::<Vec<_>>())
}

fn gates(report: &mut Report, courses: &[Course]) -> Result<()> {
    let find = |name: &str| courses.iter().find(|c| c.name == name).with_context(|| name.to_owned());
    let (none, one, most) = (find("weft, without policies")?, find("weft, 1")?, find("weft, 10000")?);
    let (ten, many) = (find("weft, 10 sources")?, find("weft, 10000 sources")?);
    let mut gate = |promise: &str, figure: f64, bound: f64| report.at_most(promise, figure, bound, " ×");
    gate("connect with 10,000 policies ≤ 1.05 × with 1", ratio(&most.connect, &one.connect), 1.05);
    gate("a stream's time with 10,000 policies ≤ 1.05 × with 1", ratio(&one.stream, &most.stream), 1.05);
    let quiet = ratio(&most.round_trip, &none.round_trip);
    gate("established: round trip with 10,000 policies ≤ 1.02 × without any", quiet, 1.02);
    gate("established: a stream's time ≤ 1.02 × without any", ratio(&none.stream, &most.stream), 1.02);
    gate("connect with 10,000 sources ≤ 1.05 × with 10", ratio(&many.connect, &ten.connect), 1.05);
    Ok(())
}

/// So many workloads that one selector lets in, the client among them.
fn sources(count: usize) -> Result<World> {
    let mut world = world::world(LOCAL, LOCAL, 1)?;
    let (all, namespace) = (world::labels(let_in(POLICY)[0])?, SERVER % world::NAMESPACES);
    let labels = std::sync::Arc::new(all);
    for number in (0..count).map(|n| (n + LOCAL) * world::NAMESPACES + namespace) {
        let (name, mut remote) = world::remote(number)?;
        remote.labels = std::sync::Arc::clone(&labels);
        world.remote.insert(name, remote);
    }
    Ok(world)
}

/// So many blocks of addresses let in, the client's among them.
fn blocks(count: usize) -> Result<World> {
    let mut world = world::world(LOCAL, LOCAL, 1)?;
    let Object::NetworkPolicy(mut policy) = world::policy(POLICY, 0)? else { return Ok(world) };
    let NetworkPolicySpec { ingress, pod_selector, .. } = &mut policy.spec;
    *pod_selector =
        Selector { match_labels: world::labels(SERVER / world::NAMESPACES)?, ..Selector::default() };
    let mut cidrs = vec![format!("{}/32", world::ipv4(client())?)];
    cidrs.extend((1..count).map(|n| format!("172.{}.{}.{}/32", 16 + n / 16384, n / 64 % 256, n % 64 * 4)));
    ingress[0].from = cidrs
        .iter()
        .map(|cidr| {
            Ok(Peer {
                ip_block: Some(IpBlock { cidr: cidr.parse()?, except: Vec::new() }),
                ..Peer::default()
            })
        })
        .collect::<Result<_>>()?;
    world.declared.insert(Object::NetworkPolicy(policy));
    Ok(world)
}

impl Course {
    fn new(name: &str, base: &'static str, rules: Rules) -> Result<Course> {
        let [host, client, server] = [Netns::anonymous()?, Netns::anonymous()?, Netns::anonymous()?];
        let made = match rules {
            Rules::Weft(world) => weft(&host, [&client, &server], &world),
            Rules::Iptables(count) => {
                wires(&host, [&client, &server])?;
                script(&host, "iptables-restore", &iptables(count)?)
            }
            Rules::Nft(count) => {
                wires(&host, [&client, &server])?;
                script(&host, "nft -f -", &nft(count)?)
            }
        };
        made.with_context(|| name.to_owned())?;
        let (connect, round_trip, stream) = Default::default();
        Ok(Course { name: name.to_owned(), base, client, server, _host: host, connect, round_trip, stream })
    }
}

/// weft's rules and wires, as its agent makes them.
fn weft(host: &Netns, [one, two]: [&Netns; 2], world: &World) -> Result<()> {
    // Only these two have namespaces; policy sees all that are here.
    let mut wired = world.clone();
    wired.workloads.clear();
    for (number, netns) in [(client(), one), (SERVER, two)] {
        let mut workload = world.workloads.get(&world::id(number)?).context("it is not here")?.clone();
        workload.netns = weft_model::Netns {
            path: format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd()).into(),
            inode: netns.inode(),
        };
        wired.workloads.insert(workload.id.clone(), workload);
    }
    let mut plan = weft_plan::lay_out(&wired, &here()?);
    plan.policy = weft_plan::policy::compile::compile(world, &here()?.name);
    host.run(|| -> Result<()> {
        let report = sync(&mut Linux::open()?, &render(&plan))?;
        ensure!(report.refused.is_empty(), "{:?}", report.refused);
        Ok(())
    })?
}

/// The same wires by hand.
fn wires(host: &Netns, ends: [&Netns; 2]) -> Result<()> {
    for (at, (netns, number)) in ends.into_iter().zip([client(), SERVER]).enumerate() {
        let address = world::ipv4(number)?;
        crate::course::wire(host, &format!("c{at}"), netns)?;
        script(
            netns,
            "sh -e",
            &format!(
                "ip addr add {address}/32 dev eth0\n\
                 ip neigh add 169.254.1.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent\n\
                 ip route add default via 169.254.1.1 dev eth0 onlink"
            ),
        )?;
        script(
            host,
            "sh -e",
            &format!(
                "sysctl -qw net.ipv4.ip_forward=1\n\
                 ip neigh add {address} lladdr 02:00:00:00:00:02 dev c{at} nud permanent\n\
                 ip route add {address} dev c{at}"
            ),
        )?;
    }
    Ok(())
}

/// Who may speak to whom at which port: a line for each peer of each policy that concerns a workload here. The line of the
/// two that are measured stands in the middle.
fn lines(count: usize) -> Result<Vec<(IpAddr, IpAddr, u16)>> {
    let mut all = Vec::new();
    for number in 1..=count {
        let own = number % (world::NAMESPACES * world::APPS);
        if own >= LOCAL {
            continue;
        }
        for app in let_in(number) {
            let peer = world::ipv4(app * world::NAMESPACES + own % world::NAMESPACES)?;
            all.push((peer, world::ipv4(own)?, port(number)?));
        }
    }
    let measured = (world::ipv4(client())?, world::ipv4(SERVER)?, port(POLICY)?);
    all.retain(|line| *line != measured);
    all.insert(all.len() / 2, measured);
    Ok(all)
}

fn iptables(count: usize) -> Result<String> {
    let mut text = "*filter\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n:FORWARD DROP\n\
                    -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n"
        .to_owned();
    for (peer, own, port) in lines(count)? {
        text += &format!("-A FORWARD -s {peer} -d {own} -p tcp --dport {port} -j ACCEPT\n");
    }
    Ok(text + "COMMIT\n")
}

fn nft(count: usize) -> Result<String> {
    let mut text = "table inet t {\nchain f {\ntype filter hook forward priority 0; policy drop;\n\
                    ct state established,related accept\n"
        .to_owned();
    for (peer, own, port) in lines(count)? {
        text += &format!("ip saddr {peer} ip daddr {own} tcp dport {port} accept\n");
    }
    Ok(text + "}\n}\n")
}

pub(crate) fn script(netns: &Netns, program: &str, input: &str) -> Result<()> {
    use std::io::Write as _;
    let mut words = program.split(' ');
    let mut child = netns
        .command(words.next().unwrap_or("sh"))
        .args(words)
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .with_context(|| program.to_owned())?;
    child.stdin.take().context("no input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
