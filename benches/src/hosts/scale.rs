//! Plan and diff for 5,000 hosts, and 1,000 of them in a real kernel.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use weft_dataplane::{Wanted, render, render_peers, steps, sync};
use weft_kernel::netns::Netns;
use weft_kernel::{Kernel, Linux, State};
use weft_model::world::{Remote, RemoteName};
use weft_model::{
    AttachmentId, Encapsulation, Here, Mac, Mode, Netns as Place, Network, NetworkId, Node, NodeName, Owner,
    Phase, Vni, Workload, World,
};
use weft_plan::peer::Claims;

const NODES: u32 = 5_000;
const EACH: u32 = 30;
const IN_KERNEL: u32 = 1_000;
const CHANGES: u32 = 200;

fn name(number: u32) -> Result<NodeName> {
    Ok(format!("node{number:05}").parse()?)
}

fn net(text: &str) -> Result<IpNet> {
    Ok(text.parse()?)
}

/// Every second host is on our segment, the others behind a router.
fn node(number: u32) -> Result<Node> {
    let [_, _, high, low] = number.to_be_bytes();
    let second = if number.is_multiple_of(2) { 50 } else { 60 };
    let network = "pods".parse()?;
    Ok(Node {
        addresses: vec![
            net(&format!("172.{second}.{high}.{low}/16"))?,
            net(&format!("fd50:{second}::{number:x}/64"))?,
        ],
        mtu: 1500,
        blocks: [(
            network,
            vec![
                IpNet::new(Ipv4Addr::from((10 << 24) + (number << 8)).into(), 24)?,
                net(&format!("fd77:0:0:{number:x}::/64"))?,
            ],
        )]
        .into(),
        mac: Mac([2, 0x77, 0x76, 0, high, low]),
        incarnation: 1,
        zone: None,
    })
}

fn workload(node: u32, number: u32) -> Result<Workload> {
    Ok(Workload {
        id: AttachmentId {
            network: "pods".parse()?,
            container: format!("c{node:05}-{number:03}").parse()?,
            ifname: "eth0".parse()?,
        },
        owner: Owner::default(),
        phase: Phase::Ready,
        netns: Place { path: format!("/run/netns/c{number}").into(), inode: 0 },
        host_end: format!("weft{number:010x}").parse()?,
        mac: Mac::from_seed(u64::from(number) + 1),
        mtu: 1450,
        addresses: vec![IpNet::new(Ipv4Addr::from((10 << 24) + (node << 8) + 2 + number).into(), 8)?],
        default_route: true,
        pod: None,
        profile: weft_model::Profile::default(),
    })
}

fn world(nodes: u32) -> Result<World> {
    let network = Network {
        name: "pods".parse()?,
        id: NetworkId(1),
        mode: Mode::Routed,
        ipv4: Some("10.0.0.0/8".parse()?),
        ipv6: Some("fd77::/32".parse()?),
        mtu: None,
        masquerade: true,
        vni: Some(Vni::try_from(1)?),
        encapsulation: Encapsulation::Auto,
    };
    Ok(World {
        nodes: (1..=nodes).map(|n| Ok((name(n)?, node(n)?))).collect::<Result<_>>()?,
        networks: [(network.name.clone(), network)].into(),
        ..World::default()
    })
}

fn here() -> Result<Here> {
    Ok(Here { uplink: Some("eth0".parse()?), ..Here::new(name(2)?) })
}

fn memory(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(field)).unwrap_or_default();
    let kib: f64 = line.trim_matches([':', ' ', '\t']).trim_end_matches(" kB").trim().parse().unwrap_or(0.0);
    kib / 1024.0
}

fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let value = what();
    (value, begin.elapsed())
}

/// As [`timed`], in processor time: what a busy machine's other work takes is left out.
fn computed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    let begin = now();
    let value = what();
    (value, now().saturating_sub(begin))
}

/// Rows as they are measured, and the promises that were not kept.
#[derive(Default)]
pub(crate) struct Table {
    missed: Vec<String>,
}

impl Table {
    /// One figure; with a promise, the most that it may be.
    pub(crate) fn row(&mut self, what: &str, measured: f64, unit: &str, most: Option<f64>) {
        let digits = usize::from(measured < 10.0) * 3;
        let shown = format!("{measured:.digits$} {unit}");
        let (kept, goal) = match most {
            None => ("", String::new()),
            Some(most) => (if measured <= most { "✓" } else { "✗" }, format!("≤ {most} {unit}")),
        };
        println!("| {kept} | {what} | {shown} | {goal} |");
        if most.is_some_and(|most| measured > most) {
            self.missed.push(format!("{what}: {shown}, {goal} was promised"));
        }
    }
}

pub(crate) fn run(program: &Path) -> Result<()> {
    let mut table = Table::default();
    println!("\n| | what | measured | goal |\n|---|---|---:|---:|");
    plans(&mut table)?;
    kernel(&mut table)?;
    crate::churn::reach(program, &mut table)?;
    crate::churn::churn(program, &mut table)?;
    ensure!(table.missed.is_empty(), "promises that were not kept: {:#?}", table.missed);
    Ok(())
}

fn plans(table: &mut Table) -> Result<()> {
    let mut world = world(NODES)?;
    world.workloads = (0..EACH).map(|n| workload(2, n).map(|w| (w.id.clone(), w))).collect::<Result<_>>()?;
    let labels = Arc::new(weft_model::label::Labels::default());
    for number in (1..=NODES).filter(|n| *n != 2) {
        for at in 0..EACH {
            let of = workload(number, at)?;
            let remote = Remote {
                namespace: "default".parse()?,
                labels: Arc::clone(&labels),
                ports: weft_model::policy::NamedPorts::default(),
                addresses: of.addresses.iter().map(IpNet::addr).collect(),
            };
            world.remote.insert(RemoteName { node: name(number)?, id: of.id }, remote);
        }
    }
    let here = here()?;
    let (mut plan, planning) = computed(|| weft_plan::plan(&world, &here));
    ensure!(plan.peers.len() == NODES as usize - 1, "{} peers", plan.peers.len());
    let (wanted, rendering) = computed(|| render(&plan));
    let (all, diffing) = computed(|| steps(&wanted, &State::default()));
    table.row("plan of 5,000 hosts", ms(planning), "ms", None);
    table.row(&format!("its rendering, and {} steps", all.len()), ms(rendering + diffing), "ms", None);
    let all_of_it = ms(planning + rendering + diffing);
    table.row("plan, rendering and steps at the start (processor time)", all_of_it, "ms", Some(2_000.0));
    drop((wanted, all));

    let own = world.nodes[&here.name].clone();
    let (mut claims, counting) = computed(|| Claims::of(plan.peers.values()));
    table.row("counting who claims what", ms(counting), "ms", None);
    let mut times = Vec::new();
    for change in 0..CHANGES {
        let number = 100 + change * 7;
        let (name, mut new) = (name(number)?, node(number)?);
        new.addresses[0] = net(&format!("172.61.{}.{}/16", change / 200, change % 200 + 1))?;
        let changed = BTreeSet::from([name.clone()]);
        let (made, time) = computed(|| {
            let was = render_peers(&plan, &changed);
            let mut clash = plan.peers.get(&name).is_some_and(|peer| claims.remove(peer));
            weft_plan::replan_peer(&mut plan, &here, &own, &name, Some(&new));
            clash |= plan.peers.get(&name).is_some_and(|peer| claims.add(peer));
            (steps(&render_peers(&plan, &changed), &was.state), clash)
        });
        ensure!(!made.0.is_empty() && !made.1, "a change of {name} changes nothing");
        times.push(time);
    }
    times.sort_unstable();
    for (of, at) in [("p50", times.len() / 2), ("p99", times.len() * 99 / 100)] {
        let what = format!("one host changes: plan and steps, {of} (processor time)");
        table.row(&what, ms(times[at]), "ms", Some(1.0));
    }
    // 150 MB are 143 MiB.
    table.row("resident with 150,000 workloads in the world", memory("VmRSS"), "MiB", Some(143.0));
    table.row("the most while all was planned and rendered", memory("VmHWM"), "MiB", None);
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A namespace as the host, with an uplink that leads nowhere.
fn kernel(table: &mut Table) -> Result<()> {
    let netns = Netns::anonymous()?;
    let script = "ip link add eth0 type veth peer name far; ip link set eth0 up; ip link set far up; ip link set lo up\n\
                  ip addr add 172.50.0.2/16 dev eth0; ip addr add fd50:50::2/64 dev eth0 nodad";
    let made = netns.command("sh").args(["-ec", script]).status()?;
    ensure!(made.success(), "no uplink");
    let here = here()?;
    netns
        .run(|| {
            let mut kernel = Linux::open()?;
            let alone = weft_plan::plan(&world(2)?, &here);
            let report = sync(&mut kernel, &render(&alone))?;
            ensure!(report.refused.is_empty(), "{:?}", report.refused);
            let all = weft_plan::plan(&world(IN_KERNEL + 2)?, &here);
            let names: BTreeSet<NodeName> =
                all.peers.keys().filter(|n| !alone.peers.contains_key(*n)).cloned().collect();
            let none = Wanted { state: render_peers(&alone, &BTreeSet::new()).state, ..Wanted::default() };
            let (answers, time) = timed(|| {
                let changes = steps(&render_peers(&all, &names), &none.state);
                kernel.apply(&changes)
            });
            let refused = answers.iter().filter_map(|a| a.as_ref().err()).next();
            ensure!(refused.is_none(), "{refused:?}");
            let what = format!("{} hosts into a real kernel ({} changes)", names.len(), answers.len());
            table.row(&what, ms(time), "ms", Some(1_000.0));
            let (again, time) = timed(|| sync(&mut kernel, &render(&all)));
            ensure!(again?.made.is_empty(), "the kernel does not hold what was put into it");
            table.row("the same kernel read and compared, nothing to do", ms(time), "ms", None);
            let one = BTreeSet::from([name(500)?]);
            let (answers, time) = timed(|| {
                let mut without = all.clone();
                without.peers.remove(&name(500).expect("a name"));
                let changes = steps(&render_peers(&without, &one), &render_peers(&all, &one).state);
                kernel.apply(&changes)
            });
            ensure!(answers.iter().all(Result::is_ok), "{answers:?}");
            table.row("one of them taken out of it", ms(time), "ms", None);
            Ok(())
        })?
        .context("in a namespace")
}
