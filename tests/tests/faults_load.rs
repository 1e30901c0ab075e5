//! BAR.md R1, R7, R11, R12: many attaches and detaches, killed at random, in parallel, for long, and with
//! events that are lost.

#![allow(clippy::print_stdout, reason = "measured figures belong into the test's output")]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::Signal;
use weft_model::Mode;
use weft_tests::host::{Net, REPAIR, START};
use weft_tests::{Agent, Host, wait};

const ROUTED: Net<'static> = ("routed", Mode::Routed, &["10.80.0.0/16", "fd80::/64"]);
const BRIDGE: Net<'static> = ("bridge", Mode::Bridge, &["10.81.0.0/16", "fd81::/64"]);

fn full() -> bool {
    std::env::var_os("WEFT_FULL").is_some_and(|v| v == "1")
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("c{n}")).collect()
}

/// Where a caller stands when the agent dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Attached,
    Detached,
    /// The answer never came.
    Unknown,
}

/// Attaches and detaches one container until the agent is gone.
fn churn(host: &Host, network: &str, container: &str, mut now: Known, done: &AtomicUsize) -> Known {
    loop {
        let answer = match now {
            Known::Attached => host.detach(network, container),
            Known::Detached => host.attach(network, container).map(|_| ()),
            // As runtimes do after a failure.
            Known::Unknown => host.detach(network, container),
        };
        let refused = |e: &anyhow::Error| e.downcast_ref::<weft_model::api::Error>().is_some();
        now = match (now, answer) {
            (Known::Detached, Ok(())) => Known::Attached,
            (_, Ok(())) => Known::Detached,
            (before, Err(error)) if refused(&error) => panic!("{container} in state {before:?}: {error:#}"),
            _ => return Known::Unknown,
        };
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// A number that differs from call to call; which one is printed when it matters.
fn random(below: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(Instant::now()) % below
}

fn nothing_leaked(host: &Host, empty: &str) -> Result<()> {
    host.await_dump("nothing to be left", empty, REPAIR)?;
    let status = host.status()?;
    let used: u64 = status.networks.iter().flat_map(|n| &n.pools).map(|p| p.used).sum();
    ensure!(used == 0 && status.workloads.is_empty(), "{used} addresses, {} records", status.workloads.len());
    Ok(())
}

#[test]
fn killed_at_random_under_load_nothing_is_lost_or_leaked() -> Result<()> {
    let callers = [("routed", "c0"), ("routed", "c1"), ("bridge", "c2"), ("bridge", "c3")];
    let (host, mut agent) = Host::with_networks(&[ROUTED, BRIDGE])?;
    host.namespaces(&names(4))?;
    let empty = host.dump()?;
    let mut known = [Known::Detached; 4];
    let (done, rounds) = (AtomicUsize::new(0), 200);
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        // After a few operations, however long those take on this machine, and then at any point of the next.
        let some = done.load(Ordering::Relaxed) + usize::try_from(random(8))?;
        let after = Duration::from_micros(random(6_000));
        let mut victim: Option<Agent> = Some(agent);
        known = scope(|s| {
            let threads = [0, 1, 2, 3].map(|at: usize| {
                let ((network, container), before) = (callers[at], known[at]);
                let (host, done) = (&host, &done);
                s.spawn(move || churn(host, network, container, before, done))
            });
            let begin = Instant::now();
            while done.load(Ordering::Relaxed) < some && begin.elapsed() < Duration::from_secs(5) {
                sleep(Duration::from_millis(1));
            }
            sleep(after);
            if let Some(agent) = victim.take() {
                agent.kill();
            }
            threads.map(|t| t.join().map_err(|_| anyhow!("a caller was refused something")))
        })
        .into_iter()
        .collect::<Result<Vec<_>>>()?
        .try_into()
        .map_err(|_| anyhow!("four callers"))?;
        let start = Instant::now();
        agent = host.start(&[])?;
        slowest = slowest.max(start.elapsed());
        // Whoever was in force in the end either still is, or is fully undone.
        let there: BTreeSet<String> =
            host.status()?.workloads.iter().map(|w| w.id.container.to_string()).collect();
        for ((network, container), known) in callers.iter().zip(&mut known) {
            ensure!(*known == Known::Unknown || there.contains(*container) == (*known == Known::Attached));
            if there.contains(*container) {
                wait::until("an attachment to be whole", REPAIR, || {
                    let wrong = host.check(network, container)?;
                    ensure!(
                        wrong.is_empty(),
                        "round {round}, killed after {after:?}: {container}: {wrong:?}"
                    );
                    Ok(())
                })?;
                *known = Known::Attached;
            } else {
                *known = Known::Detached;
            }
        }
        if round % 10 == 9 {
            for (network, container) in callers {
                host.detach(network, container)?;
            }
            nothing_leaked(&host, &empty)
                .with_context(|| format!("round {round}, killed after {after:?}"))?;
            known = [Known::Detached; 4];
        }
    }
    let done = done.into_inner();
    println!("{rounds} kills, {done} operations, slowest start {} ms", slowest.as_millis());
    ensure!(done > rounds, "the agents were killed before they did anything");
    Ok(())
}

#[test]
fn a_thousand_attachments_are_recovered() -> Result<()> {
    const COUNT: usize = 1000;
    let (host, agent) = Host::with_networks(&[ROUTED, BRIDGE])?;
    let all = names(COUNT);
    host.namespaces(&all)?;
    let start = Instant::now();
    for (at, name) in all.iter().enumerate() {
        host.attach(if at % 10 == 0 { "bridge" } else { "routed" }, name)?;
    }
    println!("{COUNT} attached in {} ms", start.elapsed().as_millis());
    let before = host.dump()?;
    agent.kill();
    let start = Instant::now();
    let agent = host.start(&[])?;
    println!(
        "recovered {COUNT} in {} ms (bound {} ms, promise 2000)",
        start.elapsed().as_millis(),
        START.as_millis()
    );
    host.await_dump("nothing to have changed", &before, REPAIR)?;
    ensure!(host.status()?.workloads.len() == COUNT);

    // And where all is in ruins: rules flushed, every tenth wire deleted.
    agent.kill();
    host.sh("nft flush ruleset; for l in $(ls /sys/class/net | grep '^weft[0-9a-f]*$' | awk 'NR % 10 == 0'); do ip link del $l; done")?;
    let start = Instant::now();
    let agent = host.start(&[])?;
    host.await_dump("the ruins to be mended", &before, START)?;
    println!("mended ruins of {COUNT} in at most {} ms", start.elapsed().as_millis());
    let (resident, files) = agent.use_of()?;
    println!("resident {resident} KiB, {files} files with {COUNT} attachments");
    let flush = Instant::now();
    host.sh("nft flush ruleset")?;
    host.await_dump("the flush to be mended", &before, REPAIR)?;
    println!("a flush with {COUNT} attachments mended in at most {} ms", flush.elapsed().as_millis());
    Ok(())
}

#[test]
fn a_storm_of_eight_callers_gets_what_it_asks_for() -> Result<()> {
    let (host, _agent) = Host::with_networks(&[ROUTED, BRIDGE])?;
    let (callers, each) = (8, if full() { 100 } else { 25 });
    host.namespaces(&names(callers * each))?;
    let empty = host.dump()?;
    let start = Instant::now();
    let addresses: Vec<IpAddr> = scope(|s| {
        let threads: Vec<_> = (0..callers)
            .map(|caller| {
                let host = &host;
                s.spawn(move || -> Result<Vec<IpAddr>> {
                    let mut addresses = Vec::new();
                    for n in 0..each {
                        let network = if n % 2 == 0 { "routed" } else { "bridge" };
                        let attached = host.attach(network, &format!("c{}", caller * each + n))?;
                        addresses.extend(attached.addresses.iter().map(|a| a.address.addr()));
                    }
                    Ok(addresses)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().expect("callers do not panic")).collect::<Result<Vec<_>>>()
    })?
    .concat();
    println!("{} attached in {} ms", callers * each, start.elapsed().as_millis());
    ensure!(addresses.len() == callers * each * 2);
    ensure!(
        addresses.iter().collect::<BTreeSet<_>>().len() == addresses.len(),
        "an address was given out twice"
    );
    for name in names(callers * each).iter().step_by(17) {
        let network = if host.check("routed", name).is_ok() { "routed" } else { "bridge" };
        let wrong = host.check(network, name)?;
        ensure!(wrong.is_empty(), "{name}: {wrong:?}");
    }
    scope(|s| {
        let threads: Vec<_> = (0..callers)
            .map(|caller| {
                let host = &host;
                s.spawn(move || {
                    (0..each).try_for_each(|n| {
                        let network = if n % 2 == 0 { "routed" } else { "bridge" };
                        host.detach(network, &format!("c{}", caller * each + n))
                    })
                })
            })
            .collect();
        threads.into_iter().try_for_each(|t| t.join().expect("callers do not panic"))
    })?;
    nothing_leaked(&host, &empty)
}

/// BAR.md R12. Addresses rest for half a minute after each pair: small subnets have no more of them after a moment,
/// so that a short soak shows a steady state, too; the long one has large subnets and a long warm-up.
#[test]
fn a_soak_ends_as_it_began() -> Result<()> {
    let small = [
        ("routed", Mode::Routed, &["10.80.0.0/26", "fd80::/122"][..]),
        ("bridge", Mode::Bridge, &["10.81.0.0/26", "fd81::/122"][..]),
    ];
    let (host, agent) = Host::with_networks(&if full() { [ROUTED, BRIDGE] } else { small })?;
    host.namespaces(&names(20))?;
    let empty = host.dump()?;
    // The small subnets have been gone through after 183 pairs.
    let (warm_up, length) = if full() { (4_500, 180_000) } else { (300, 300) };
    let (pause, mut pairs) = (Duration::from_millis(if full() { 20 } else { 0 }), 0_usize); // fifty a second
    let mut run = |count: usize| -> Result<Duration> {
        let (start, before) = (Instant::now(), pairs);
        while pairs < before + count {
            let due = start + pause * u32::try_from(pairs - before).unwrap_or(u32::MAX);
            sleep(due.saturating_duration_since(Instant::now()));
            let (name, network) =
                (format!("c{}", pairs % 20), if pairs % 3 == 0 { "bridge" } else { "routed" });
            host.attach(network, &name).with_context(|| format!("pair {pairs}"))?;
            host.detach(network, &name).with_context(|| format!("pair {pairs}"))?;
            pairs += 1;
        }
        Ok(start.elapsed())
    };
    // What it uses when it has come to rest: memory in KiB, files, and bytes of its own two.
    let weigh = || -> Result<(u64, usize, u64)> {
        nothing_leaked(&host, &empty)?;
        sleep(Duration::from_secs(3)); // it tidies up every two seconds
        let (resident, files) = agent.use_of()?;
        let own = host.sh("stat -c %s /var/lib/weft/declared.redb /run/weft/attachments.redb")?;
        Ok((resident, files, own.lines().filter_map(|l| l.parse::<u64>().ok()).sum()))
    };
    run(warm_up)?;
    let start = weigh()?;
    // Memory that leaks grows in every stretch; what the allocator and the pages of the program itself do, in one.
    let mut before = start;
    for stretch in 1..=4 {
        let took = run(length)?;
        let after = weigh()?;
        println!(
            "{length} pairs in {took:?}; resident KiB, open files, bytes on disk: {before:?} → {after:?}"
        );
        if after.0 <= before.0 + before.0 / 100 {
            before = after;
            break;
        }
        ensure!(stretch < 4, "memory grew in each stretch, at last from {} to {} KiB", before.0, after.0);
        before = after;
    }
    let after = before;
    // The folder of settings that was written last stays open, and so may one peer's connection be.
    ensure!(after.1 <= start.1 + 2, "open files grew from {} to {}", start.1, after.1);
    // A file never shrinks, and has room for what was most.
    ensure!(after.2 <= 2 * start.2, "the records grew from {} to {} bytes", start.2, after.2);
    Ok(())
}

/// R7: the agent sleeps while more happens than its sockets can hold. What was done meanwhile is mended.
#[test]
fn lost_events_are_made_up_for() -> Result<()> {
    let (host, agent) = Host::with_networks(&[ROUTED, BRIDGE])?;
    host.namespaces(&names(2))?;
    let wire = host.attach("routed", "c0")?.host_ifname;
    host.attach("bridge", "c1")?;
    let before = host.dump()?;
    agent.signal(Signal::STOP)?;
    // Each line of the batch is an event, some kilobytes large; the tampering itself is among the lost.
    let noise = "for i in $(seq 10000); do echo link set noise alias $i; done | ip -batch -";
    host.sh(&format!(
        "ip link add noise type bridge; ip link set noise up; {noise}\n\
         nft flush ruleset; ip route del $(ip route show dev {wire} | cut -d' ' -f1) dev {wire}; ip addr del 10.81.0.1/16 dev weft-bridge\n\
         {noise}; ip link del noise"
    ))?;
    let drops = host.sh("awk '$2 == 0 { d += $9 } END { print d }' /proc/net/netlink")?;
    ensure!(drops.trim().parse::<u64>()? > 0, "no event was lost: the test proves nothing");
    agent.signal(Signal::CONT)?;
    let start = Instant::now();
    host.await_dump("what was done unseen to be mended", &before, REPAIR)?;
    println!("{} events lost; mended {} ms after waking", drops.trim(), start.elapsed().as_millis());
    host.ping("c0", "10.80.0.1".parse()?)
}

/// R7: tables that do not hold still are read anew, and attaches go on meanwhile.
#[test]
fn dumps_are_repeated_while_others_change_everything() -> Result<()> {
    let (host, _agent) = Host::with_networks(&[ROUTED])?;
    host.namespaces(&names(10))?;
    host.sh(
        "(for r in $(seq 12); do for i in $(seq 100); do echo link add d$i group 5 type bridge; done | ip -batch -; \
             ip link del group 5; done; rm -f /run/restless) >/dev/null 2>&1 & touch /run/restless",
    )?;
    let restless = || host.sandbox().path("/run/restless").exists();
    let (mut rounds, mut checks) = (0, 0);
    while restless() && rounds < 200 {
        for name in names(10) {
            host.attach("routed", &name)?;
            let wrong = host.check("routed", &name)?;
            ensure!(wrong.is_empty(), "{name}: {wrong:?}");
            checks += 1;
        }
        host.sh("nft delete table inet weft")?;
        for name in names(10) {
            host.detach("routed", &name)?;
        }
        rounds += 1;
    }
    println!("{checks} checks in {rounds} rounds among links that come and go");
    ensure!(checks > 0);
    Ok(())
}

/// What the reaper has yet to remove of a detached wire is left alone where a new one bears its name.
#[test]
fn a_name_that_comes_back_at_once_keeps_its_guard() -> Result<()> {
    let (host, _agent) = Host::with_networks(&[ROUTED])?;
    host.namespaces(&names(1))?;
    let wish = || -> Result<_> {
        let mut wish = Host::wish("routed", "c0")?;
        (wish.mac, wish.host_ifname) = (Some("02:00:00:00:00:01".parse()?), Some("weftagain".parse()?));
        wish.ips = vec!["10.80.0.9".parse()?, "fd80::9".parse()?];
        Ok(wish)
    };
    host.attach_as(wish()?)?;
    for round in 0..if full() { 500 } else { 25 } {
        host.detach("routed", "c0")?;
        let start = Instant::now();
        while let Err(error) = host.attach_as(wish()?) {
            ensure!(start.elapsed() < REPAIR, "{error:#}");
        }
        sleep(Duration::from_millis(30)); // the reaper ends its round
        let wrong = host.check("routed", "c0")?;
        ensure!(wrong.is_empty(), "round {round}: {wrong:?}");
    }
    Ok(())
}
