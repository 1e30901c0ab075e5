//! Hosts become a cluster and one network, by the commands a person types: invitations, hosts that are gone,
//! names used twice, records damaged, the store away, its majority lost (BAR.md R9, 19).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use weft_model::api::{Reply, Request};
use weft_tests::fleet::{Fleet, SOON};
use weft_tests::wait;

/// `weft init`, `weft join`, `weft token`, `weft join`: three hosts are one network.
#[test]
fn three_hosts_are_one_network_after_four_commands() -> Result<()> {
    let mut fleet = Fleet::new(3)?;
    let first = fleet.invitation(0, "init")?;
    fleet.weft(1, &first)?;
    let second = fleet.invitation(0, "token")?;
    fleet.weft(2, &second)?;
    (0..3).try_for_each(|n| fleet.ready(n))?;

    let names = ["one", "two", "three"];
    let mut addresses = Vec::new();
    for (n, name) in names.iter().enumerate() {
        addresses.extend(fleet.attach(n, name)?);
    }
    ensure!(addresses.len() == 6, "two families on each: {addresses:?}");
    fleet.reach(&[(0, "one"), (1, "two"), (2, "three")], &addresses)?;

    // A token is good for one host, and for nobody who has only a part of it.
    fleet.add(4, "host4")?;
    let used = fleet.weft(3, &second).unwrap_err().to_string();
    ensure!(used.contains("not valid"), "a used token: {used}");
    let fresh = fleet.invitation(0, "token")?;
    let mut parts: Vec<String> = fresh.splitn(5, '-').map(str::to_owned).collect();
    parts[2] = "0".repeat(32);
    let guessed = fleet.weft(3, &parts.join("-")).unwrap_err().to_string();
    ensure!(guessed.contains("not valid"), "a guessed secret: {guessed}");
    let mut parts: Vec<String> = fresh.splitn(5, '-').map(str::to_owned).collect();
    parts[3] = "0".repeat(64);
    let fooled = fleet.weft(3, &parts.join("-")).unwrap_err().to_string();
    ensure!(fooled.contains("failed to join"), "a door of another authority: {fooled}");
    // Two hosts of one name: the second is refused at the door.
    fleet.hosts[3].sandbox().write("/etc/weft/config.toml", "node = \"host2\"\n")?;
    let twice = fleet.weft(3, &fresh).unwrap_err().to_string();
    ensure!(twice.contains("'host2' already"), "a name used twice: {twice}");
    // Silent guests keep nobody from joining, and nobody from asking.
    fleet.hosts[3].sandbox().write("/etc/weft/config.toml", "node = \"host4\"\nlease = 8\n")?;
    let netns = fleet.hosts[3].sandbox().netns()?;
    let silent = netns.run(|| {
        (0..100).filter_map(|_| std::net::TcpStream::connect("192.0.2.11:2378").ok()).collect::<Vec<_>>()
    })?;
    let begun = Instant::now();
    fleet.weft(1, "node ls")?;
    ensure!(begun.elapsed() < Duration::from_secs(10), "an answer took {:?}", begun.elapsed());
    wait::until("the silent to be sent away", SOON, || fleet.weft(3, &fresh))?;
    drop(silent);
    wait::until("the fourth host", SOON, || {
        let list = fleet.weft(0, "node ls")?;
        let alive = list.lines().filter(|l| l.contains(" alive ")).count();
        ensure!(alive == 4, "{list}");
        Ok(())
    })?;

    // Records that make no sense: named, passed over, mended by whose they are.
    fleet.etcdctl(0, "put /weft/blocks/default/10.119.200.0-24 '{rubbish'")?;
    fleet.etcdctl(0, "put /weft/nodes/host2 '{rubbish'")?;
    wait::until("the rubbish to be named", SOON, || {
        let health = fleet.hosts[2].status()?.health.join("\n");
        ensure!(health.contains("blocks/default/10.119.200.0-24"), "{health}");
        ensure!(!health.contains("nodes/host2'"), "host2 has not written its record again: {health}");
        Ok(())
    })?;
    fleet.reach(&[(0, "one"), (2, "three")], &addresses)?;
    fleet.etcdctl(0, "del /weft/blocks/default/10.119.200.0-24")?;

    // A host is lost: its lease ends, others go on; and when somebody says that it is gone for ever, so are
    // its blocks.
    let running = fleet.weft(0, "node rm host3").unwrap_err().to_string();
    ensure!(running.contains("runs, or did so"), "a host that runs was removed: {running}");
    drop(fleet.agents.remove(2));
    drop(fleet.hosts.remove(2));
    wait::until("the lost host to be gone", SOON, || fleet.weft(0, "node rm host3"))?;
    wait::until("its blocks to be gone", SOON, || {
        let keys = fleet.etcdctl(0, "get --prefix /weft/ --keys-only=false")?;
        ensure!(!keys.contains("host3"), "{keys}");
        Ok(())
    })?;
    fleet.reach(&[(0, "one"), (1, "two")], &addresses[..4])?;
    Ok(())
}

/// The store is away: traffic flows, attaching goes on, also after the agent is killed and started again;
/// and when the store is back nothing had to be changed for it.
#[test]
fn without_the_store_all_goes_on() -> Result<()> {
    let away = if std::env::var_os("WEFT_FULL").is_some() { 600 } else { 6 };
    let mut fleet = Fleet::new(2)?;
    let line = fleet.invitation(0, "init")?;
    fleet.weft(1, &line)?;
    (0..2).try_for_each(|n| fleet.ready(n))?;
    let mut addresses = fleet.attach(0, "one")?;
    addresses.extend(fleet.attach(1, "two")?);
    fleet.reach(&[(0, "one"), (1, "two")], &addresses)?;
    let before = [fleet.hosts[0].dump()?, fleet.hosts[1].dump()?];

    fleet.kill_share(0)?;
    wait::until("the loss to be said", SOON, || {
        let status = fleet.hosts[1].status()?;
        ensure!(status.store.is_some_and(|s| !s.in_sync), "still in sync");
        ensure!(status.health.iter().any(|h| h.contains("does not answer")), "{:?}", status.health);
        Ok(())
    })?;
    let until = Instant::now() + Duration::from_secs(away);
    let mut n = 0;
    while Instant::now() < until {
        n += 1;
        let name = format!("w{n}");
        let fresh = fleet.attach(1, &name).context("attaching while the store is away")?;
        ensure!(fresh.iter().all(|a| !addresses.contains(a)), "an address was given twice: {fresh:?}");
        fleet.reach(&[(0, "one")], &fresh)?;
        fleet.hosts[1].detach("default", &name)?;
        std::thread::sleep(Duration::from_millis(500));
    }
    fleet.agents.remove(1).kill();
    fleet.reach(&[(0, "one")], &addresses)?;
    fleet.agents.push(fleet.hosts[1].start(&[])?);
    fleet.reach(&[(0, "one"), (1, "two")], &addresses)?;
    fleet.hosts[1].await_dump("the restarted agent's kernel", &before[1], SOON)?;
    let fresh = fleet.attach(1, "late").context("attaching after a restart without the store")?;
    fleet.reach(&[(0, "one")], &fresh)?;
    fleet.hosts[1].detach("default", "late")?;

    fleet.start_share(0)?;
    (0..2).try_for_each(|n| fleet.ready(n))?;
    fleet.hosts[0].await_dump("the first host's kernel", &before[0], SOON)?;
    fleet.hosts[1].await_dump("the second host's kernel", &before[1], SOON)?;
    fleet.reach(&[(0, "one"), (1, "two")], &addresses)?;
    Ok(())
}

/// Three hosts run the store together: it outlives the loss of one, and what runs outlives the loss of two.
#[test]
fn a_store_of_three_outlives_one() -> Result<()> {
    let mut fleet = Fleet::new(3)?;
    let line = fleet.invitation(0, "init")?;
    fleet.weft(1, &format!("{line} --member"))?;
    fleet.ready(1)?;
    let line = wait::until("the second member to serve", SOON, || fleet.invitation(1, "token"))?;
    fleet.weft(2, &format!("{line} --member"))?;
    (0..3).try_for_each(|n| fleet.ready(n))?;
    let mut addresses = Vec::new();
    for (n, name) in ["one", "two", "three"].iter().enumerate() {
        addresses.extend(fleet.attach(n, name)?);
    }
    let all = [(0, "one"), (1, "two"), (2, "three")];
    fleet.reach(&all, &addresses)?;

    // One is lost, the first of all: the others hear of what is declared.
    fleet.kill_share(0)?;
    let declared = wait::until("a network without the first member", SOON, || {
        fleet.weft(1, "network create app --subnet 10.200.0.0/16")
    })?;
    ensure!(declared.contains("app"), "{declared}");
    wait::until("the network on the third host", SOON, || {
        ensure!(fleet.weft(2, "network ls")?.contains("10.200.0.0/16"), "not there");
        Ok(())
    })?;
    // Two are lost: no more is promised than that all goes on.
    fleet.kill_share(1)?;
    let refused = wait::until("a refusal", SOON, || match fleet.weft(2, "network create lost") {
        Ok(said) => bail!("without a majority: {said}"),
        Err(error) => Ok(error.to_string()),
    })?;
    ensure!(refused.contains("store"), "{refused}");
    addresses.extend(fleet.attach(2, "more")?);
    fleet.reach(&all, &addresses)?;
    fleet.start_share(1)?;
    fleet.start_share(0)?;
    (0..3).try_for_each(|n| fleet.ready(n))?;

    // A member's host goes for ever: it is no member any more, and the others still have a majority.
    drop(fleet.agents.remove(2));
    drop(fleet.hosts.remove(2));
    wait::until("the third host to be removed", SOON, || fleet.weft(0, "node rm host3"))?;
    let members = fleet.etcdctl(0, "member list")?;
    ensure!(members.lines().count() == 2 && !members.contains("host3"), "{members}");
    match fleet.hosts[1].ask(&Request::NodeList)? {
        Reply::Nodes(nodes) => ensure!(nodes.len() == 2, "{nodes:?}"),
        other => bail!("{other:?}"),
    }
    Ok(())
}

/// A new authority, new certificates for every host, the old ones worth nothing; nobody is cut off meanwhile.
#[test]
fn keys_rotate() -> Result<()> {
    let fleet = Fleet::new(2)?;
    let line = fleet.invitation(0, "init")?;
    fleet.weft(1, &line)?;
    (0..2).try_for_each(|n| fleet.ready(n))?;
    let addresses = [fleet.attach(0, "one")?, fleet.attach(1, "two")?].concat();
    fleet.hosts[1]
        .sh("mkdir /run/old; cp /var/lib/weft/cluster/*.pem /var/lib/weft/cluster/*.key /run/old")?;

    let said = fleet.weft(0, "init --rotate")?;
    let line = said.lines().find_map(|l| l.trim().strip_prefix("host2:")).with_context(|| said.clone())?;
    fleet.weft(1, line.trim().trim_start_matches("weft "))?;
    fleet.weft(0, "init --rotate --finish")?;
    (0..2).try_for_each(|n| fleet.ready(n))?;
    fleet.reach(&[(0, "one"), (1, "two")], &addresses)?;
    // Everybody still hears of what is declared.
    wait::until("a network after the rotation", SOON, || {
        fleet.weft(1, "network create app --subnet 10.200.0.0/16")
    })?;
    wait::until("the network on the first host", SOON, || {
        ensure!(fleet.weft(0, "network ls")?.contains("10.200.0.0/16"), "not there");
        Ok(())
    })?;
    // What the old authority signed opens nothing, and what it vouches for is not believed.
    let with = |folder: &str, ca: &str| {
        fleet.hosts[1].sh(&format!(
            "ETCDCTL_API=3 etcdctl --endpoints=192.0.2.11:2379 --cacert={ca} --cert={folder}/node.pem \
             --key={folder}/node.key --command-timeout=5s get --prefix /weft/nodes/"
        ))
    };
    let now = "/var/lib/weft/cluster";
    wait::until("the new certificates to open the store", SOON, || with(now, &format!("{now}/ca.pem")))?;
    wait::until("the old ones to be refused", SOON, || {
        ensure!(with("/run/old", &format!("{now}/ca.pem")).is_err(), "the old certificate is let in");
        Ok(())
    })?;
    ensure!(with(now, "/run/old/ca.pem").is_err(), "the old authority vouches for the store");
    Ok(())
}

/// A service leads to workloads of other hosts by their labels, also after a restart while nobody can say that they are there.
#[test]
fn a_service_leads_to_other_hosts() -> Result<()> {
    let mut fleet = Fleet::new(2)?;
    let first = fleet.invitation(0, "init")?;
    fleet.weft(1, &first)?;
    (0..2).try_for_each(|n| fleet.ready(n))?;
    let service = "{kind: Service, apiVersion: v1, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80}]}}";
    fleet.hosts[0].sandbox().write("/run/web.yaml", service)?;
    fleet.weft(0, "apply -f /run/web.yaml")?;
    fleet.hosts[1].namespaces(&["web".to_owned()])?;
    fleet.weft(1, "attach web -l app=web")?;
    let addresses = fleet.hosts[1].status()?.workloads[0].addresses.clone();
    let own = addresses.iter().map(|a| a.addr()).find(IpAddr::is_ipv4).context("it has IPv4")?;
    let leads = |fleet: &Fleet| -> Result<bool> {
        let map = fleet.hosts[0].sh("nft list map inet weft backend4")?;
        Ok(map.contains(&format!("{own} . ")))
    };
    wait::until("the other host's workload", SOON, || {
        ensure!(leads(&fleet)?, "no backend");
        Ok(())
    })?;
    let words = fleet.weft(0, "describe svc web")?;
    ensure!(words.contains(&format!("{own}:80 (default/netns-web on host2)")), "{words}");
    fleet.kill_share(0)?;
    fleet.agents.remove(0).kill();
    let agent = fleet.hosts[0].start(&[])?;
    fleet.agents.insert(0, agent);
    ensure!(leads(&fleet)?, "the backend was taken away because nobody was asked yet");
    fleet.start_share(0)?;
    fleet.ready(0)?;
    ensure!(leads(&fleet)?, "the backend is gone although it is there");
    fleet.weft(1, "detach web")?;
    wait::until("the backend to go", SOON, || {
        ensure!(!leads(&fleet)?, "a backend is left");
        Ok(())
    })
}
