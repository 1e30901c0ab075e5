//! What people get wrong with several hosts: each is said in plain words, on the host that has it, and what was right
//! goes on.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weft_lab::traffic::ping;
use weft_lab::{Cluster, Etcd, Host, LEASE, Links, Namespace, OUTSIDE4, Shared, Underlay, shared_network};
use weft_model::api::Request;
use weft_model::{Encapsulation, Mode, Network};
use weft_store::cluster::authority::{Authority, request};
use weft_store::cluster::{self, ClusterStore as _, Credentials, Op, Transaction};
use weft_tests::scene::{SOON, Workload, program};
use weft_tests::wait;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Waits until a host's status says this.
fn says(host: &Host, words: &[&str]) -> Result<()> {
    wait::until("a word in the status", wait::LONG, || {
        let health = host.status()?.health;
        let said = health.iter().any(|line| words.iter().all(|w| line.contains(w)));
        ensure!(said, "{words:?} is not said in {health:#?}");
        Ok(())
    })
}

fn sh(host: &Host, script: &str) -> Result<()> {
    let output = host.netns().command("sh").args(["-ec", script]).output()?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn like(number: u8, ipv4: &str) -> Result<Network> {
    let ipv4 = Some(ipv4.parse()?);
    Ok(Network { ipv4, ..shared_network(number, Mode::Routed, Encapsulation::Auto)? })
}

/// Networks that overlap the underlay, a route of the host, or each other are left out, and the others work.
#[test]
fn networks_that_overlap_what_is_there() -> Result<()> {
    let sound = shared_network(1, Mode::Routed, Encapsulation::Auto)?;
    let mut cluster = Cluster::new(program()?, 1500, vec![sound])?;
    cluster.join(&[0, 1])?;
    let talk = |cluster: &Cluster| -> Result<[Workload; 2]> {
        let one =
            |host: usize| Workload::attach(Namespace::new()?, &cluster.hosts[host], &cluster.network(1)?);
        Ok([one(0)?, one(1)?])
    };
    let talkers = talk(&cluster)?;
    sh(&cluster.hosts[0], "ip route add 172.20.5.0/24 via 192.0.2.1")?;
    for (number, subnet) in [(2, "192.0.0.0/16"), (3, "172.20.0.0/16"), (4, "10.101.128.0/20")] {
        let network = like(number, subnet)?;
        cluster.told.networks.insert(network.name.clone(), network);
    }
    cluster.publish()?;
    says(&cluster.hosts[0], &["net2", "overlap 192.0.2.0/24", "reaches already"])?;
    says(&cluster.hosts[0], &["net3", "overlap 172.20.5.0/24"])?;
    says(&cluster.hosts[0], &["net4", "net1"])?;
    let names: Vec<String> =
        cluster.hosts[0].status()?.networks.iter().map(|n| n.network.name.to_string()).collect();
    ensure!(names == ["net1"], "{names:?}");
    // The other host has no such route: there that network is sound.
    wait::until("the network where nothing is in its way", SOON, || {
        let networks = cluster.hosts[1].status()?.networks;
        ensure!(networks.iter().any(|n| n.network.name.as_str() == "net3"), "not there");
        Ok(())
    })?;
    ping(talkers[0].namespace.netns(), talkers[1].address(V4)?, 56, SOON)?;
    let fresh = talk(&cluster)?;
    ping(fresh[1].namespace.netns(), fresh[0].address(V4)?, 56, SOON)?;
    Ok(())
}

/// A host with two addresses on its uplink says which it took; the configuration chooses another.
#[test]
fn a_host_with_two_addresses() -> Result<()> {
    let mut shared = Shared::new(program()?, 1)?;
    shared.join(&[0, 0])?;
    let talkers =
        [0, 1].map(|host| Workload::attach(Namespace::new()?, &shared.hosts[host], &shared.network()?));
    let [one, two] = talkers;
    let (one, two) = (one?, two?);
    Links::of(shared.hosts[1].netns())?.add_address("eth0", "192.0.2.99/24".parse()?)?;
    says(&shared.hosts[1], &["several addresses on its uplink", "192.0.2.99", "`underlay`"])?;
    ping(one.namespace.netns(), two.address(V4)?, 56, SOON)?;
    shared.configure(1, &["underlay = [\"192.0.2.99\"]"])?;
    shared.hosts[1].restart()?;
    wait::until("the others to know the chosen address", SOON, || {
        let peers = shared.hosts[0].status()?.peers;
        ensure!(peers[0].addresses.contains(&"192.0.2.99".parse()?), "{peers:?}");
        Ok(())
    })?;
    ensure!(
        !shared.hosts[1].status()?.health.iter().any(|h| h.contains("several addresses")),
        "still in doubt"
    );
    ping(one.namespace.netns(), two.address(V4)?, 56, SOON)?;
    // One that no interface has.
    shared.configure(1, &["underlay = [\"192.0.2.77\"]"])?;
    shared.hosts[1].restart()?;
    says(&shared.hosts[1], &["no interface has 192.0.2.77"])
}

/// Two hosts of one name: the first goes on, the second takes no part, and is told.
#[test]
fn two_hosts_of_one_name() -> Result<()> {
    let mut shared = Shared::new(program()?, 1)?;
    shared.join(&[0, 0])?;
    let one = Workload::attach(Namespace::new()?, &shared.hosts[0], &shared.network()?)?;
    let two = Workload::attach(Namespace::new()?, &shared.hosts[1], &shared.network()?)?;
    let mut twin = Host::on(&shared.underlay, 0, program()?)?;
    let name = shared.hosts[0].name().to_owned();
    twin.rename(&name);
    twin.configure(&shared.lines().each_ref().map(String::as_str))?;
    twin.start_agent()?;
    says(&twin, &["another host (", "192.0.2.11", "runs under the name"])?;
    ensure!(
        twin.status()?.networks.iter().all(|n| n.pools.iter().all(|p| p.usable == 0)),
        "it has addresses"
    );
    // Longer than a lease: the first keeps its own.
    std::thread::sleep(Duration::from_secs(LEASE + 1));
    ping(two.namespace.netns(), one.address(V4)?, 56, SOON)?;
    ensure!(shared.hosts[0].status()?.store.is_some_and(|s| s.in_sync), "the first lost its part");
    ensure!(shared.hosts[1].status()?.peers.len() == 1, "the second counts as a host");
    Ok(())
}

/// Certificates that do not fit, on either side: what was refused, and which keys of the configuration to look at.
#[test]
fn certificates_that_do_not_fit() -> Result<()> {
    let (ours, others) = (Authority::new("ours")?, Authority::new("others")?);
    let underlay = Underlay::new(1500)?;
    let folder = tempfile::tempdir()?;
    let file = |name: &str, text: &str| -> Result<String> {
        let path = folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let server = ours.server(&[OUTSIDE4.into()])?;
    let options = [
        format!("--cert-file={}", file("server.pem", &server.cert)?),
        format!("--key-file={}", file("server.key", &server.key)?),
        format!("--trusted-ca-file={}", file("ca.pem", &ours.pair().cert)?),
        "--client-cert-auth".to_owned(),
    ];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let mut etcd = Etcd::new(underlay.netns(), ("one", &OUTSIDE4.to_string(), 2379), "", &options)?;
    etcd.start()?;
    let mut host = Host::on(&underlay, 0, program()?)?;
    let (key, asked) = request("host1")?;
    for (authority, ca, tag, word) in
        [(&others, &ours, "stranger", "store_cert"), (&ours, &others, "fooled", "store_ca")]
    {
        let lines = [
            format!("store = \"etcd://{}\"", etcd.endpoint()),
            format!("store_ca = {:?}", file(&format!("{tag}-ca.pem"), &ca.pair().cert)?),
            format!("store_cert = {:?}", file(&format!("{tag}.pem"), &authority.client(&asked, "host1")?)?),
            format!("store_key = {:?}", file(&format!("{tag}.key"), &key)?),
            format!("lease = {LEASE}"),
        ];
        host.configure(&lines.each_ref().map(String::as_str))?;
        host.restart()?;
        says(&host, &[word])?;
    }
    // Nothing is declared that others would not hear of.
    let spec = weft_model::api::NetworkSpec {
        name: "own".parse()?,
        subnets: vec!["10.9.0.0/24".parse()?],
        mode: Mode::Routed,
        mtu: None,
        masquerade: true,
        encapsulation: Encapsulation::Auto,
        explain: false,
    };
    let refused =
        host.request(&Request::NetworkCreate(spec)).err().context("a network of the cluster was made")?;
    ensure!(refused.to_string().contains("store"), "{refused}");
    Ok(())
}

/// Keys in etcd that make no sense, of every kind: each is named, none does harm, and who owns one writes it again.
#[test]
fn keys_that_make_no_sense() -> Result<()> {
    let mut shared = Shared::new(program()?, 1)?;
    shared.join(&[0, 1])?;
    let one = Workload::attach(Namespace::new()?, &shared.hosts[0], &shared.network()?)?;
    let two = Workload::attach(Namespace::new()?, &shared.hosts[1], &shared.network()?)?;
    ping(one.namespace.netns(), two.address(V4)?, 56, SOON)?;
    let address = format!("etcd://{}", shared.servers[0].endpoint());
    let credentials = Credentials { plaintext: true, ..Credentials::default() };
    let store = shared.servers[0].netns().run(|| cluster::Etcd::new(&address, &credentials))??;
    let host2 = shared.hosts[1].name().to_owned();
    let network = shared.network()?.to_string();
    let foreign = [
        "nodes/Ü",
        "nodes/ghost",
        "blocks/net1/nonsense",
        "blocks/net1/10.101.77.0-24",
        "networks/bad",
        "no/such/kind",
    ];
    let owned = [
        format!("nodes/{host2}"),
        format!("networks/{network}"),
        format!("workloads/{host2}/net1/ghost/eth0"),
    ];
    for key in foreign.iter().map(|k| (*k).to_owned()).chain(owned.iter().cloned()) {
        let put = Op::Put { key, value: b"{\"no\":".to_vec(), lease: None };
        store.commit(&Transaction { conditions: Vec::new(), changes: vec![put] })?;
    }
    for key in foreign {
        says(&shared.hosts[0], &[key, "makes no sense"])?;
    }
    // The network's record is nobody's to write again: what was known of it stays.
    says(&shared.hosts[1], &[&format!("networks/{network}"), "makes no sense"])?;
    wait::until("a host to write its own again", SOON, || {
        let health = shared.hosts[0].status()?.health.join("\n");
        ensure!(!health.contains(&owned[0]) && !health.contains(&owned[2]), "{health}");
        Ok(())
    })?;
    ping(one.namespace.netns(), two.address(V4)?, 56, SOON)?;
    let fresh = Workload::attach(Namespace::new()?, &shared.hosts[1], &shared.network()?)?;
    ping(one.namespace.netns(), fresh.address(V4)?, 56, SOON)?;
    Ok(())
}
