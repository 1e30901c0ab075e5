//! The shared store against a real etcd: the laws that every store keeps, TLS, passwords, servers that hang,
//! lose their leader, forget, and are away (BAR.md 19, R9, R10).

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weft_kernel::netns::Netns;
use weft_lab::{Etcd, Links};
use weft_store::cluster::authority::Authority;
use weft_store::cluster::laws::{Subject, cluster_laws};
use weft_store::cluster::{
    self, ClusterError, ClusterStore, Condition, Credentials, Op, Outcome, Revision, Transaction,
};
use weft_tests::wait;

const HOST: &str = "127.0.0.1";

fn ground() -> Result<Netns> {
    let netns = Netns::anonymous()?;
    Links::of(&netns)?.set_up("lo", true)?;
    Ok(netns)
}

/// A client whose connections start in the namespace.
fn client(netns: &Netns, address: &str, credentials: &Credentials) -> Result<cluster::Etcd> {
    Ok(netns.run(|| cluster::Etcd::new(address, credentials))??)
}

fn put(key: &str, value: &str) -> Transaction {
    let op = Op::Put { key: key.to_owned(), value: value.into(), lease: None };
    Transaction { conditions: vec![], changes: vec![op] }
}

struct OnEtcd<'a> {
    netns: &'a Netns,
    address: String,
}

impl Subject for OnEtcd<'_> {
    fn handle(&self) -> Box<dyn ClusterStore> {
        Box::new(client(self.netns, &self.address, &Credentials::default()).expect("an address"))
    }

    fn pass(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn compact(&self) {
        let client = client(self.netns, &self.address, &Credentials::default()).expect("an address");
        client.compact().expect("etcd can be compacted");
    }
}

#[test]
fn etcd_keeps_the_laws() -> Result<()> {
    let netns = ground()?;
    let mut server = Etcd::new(&netns, ("one", HOST, 2379), "", &[])?;
    server.start()?;
    let count = AtomicUsize::new(0);
    cluster_laws(|| {
        let n = count.fetch_add(1, Ordering::Relaxed);
        OnEtcd { netns: &netns, address: format!("etcd://{}/law{n}", server.endpoint()) }
    });
    Ok(())
}

/// Three servers; the one asked first hangs, is dead, or is not there at all: the call is answered all the same.
#[test]
fn a_server_that_hangs_blocks_nobody() -> Result<()> {
    let netns = ground()?;
    let names = [("a", 2379), ("b", 2389), ("c", 2399)];
    let all: Vec<String> = names.iter().map(|(n, p)| format!("{n}=http://{HOST}:{}", p + 1)).collect();
    let cluster = all.join(",");
    let mut servers = Vec::new();
    for (name, port) in names {
        servers.push(Etcd::new(&netns, (name, HOST, port), &cluster, &[])?);
    }
    for server in &mut servers {
        server.launch()?;
    }
    for server in &mut servers {
        server.wait()?;
    }
    // One more, that accepts and never says a word.
    let silent = netns.run(|| TcpListener::bind((HOST, 2409)))??;
    let endpoints: Vec<String> = servers.iter().map(Etcd::endpoint).collect();
    let address = format!("etcd://{HOST}:2409,{HOST}:2419,{}", endpoints.join(","));
    let store = client(&netns, &address, &Credentials::default())?;
    wait::until("a leader", wait::LONG, || Ok(store.commit(&put("a", "1"))?))?;
    let mut watch = store.watch(store.snapshot()?.revision)?;

    // Whoever leads, and whomever the client is with: each of them freezes once.
    for (n, server) in servers.iter().enumerate() {
        server.freeze()?;
        let key = format!("frozen/{n}");
        wait::until("a commit with one server frozen", wait::LONG, || {
            let begin = Instant::now();
            let answer = store.commit(&put(&key, "1"));
            ensure!(begin.elapsed() < cluster::PATIENCE * 2, "a call took {:?}", begin.elapsed());
            Ok(answer?)
        })?;
        server.thaw()?;
        let mut seen = false;
        wait::until("the change to be told", wait::LONG, || {
            match watch.next(Duration::from_secs(1)) {
                Ok(facts) => seen |= facts.iter().any(|f| f.key == key),
                Err(ClusterError::Away { .. }) => watch = store.watch(Revision(1))?,
                Err(other) => anyhow::bail!("{other}"),
            }
            ensure!(seen, "not yet");
            Ok(())
        })?;
    }
    // Without a majority nothing is promised, and that is said in time.
    servers[0].kill()?;
    servers[1].kill()?;
    let begin = Instant::now();
    let refused = store.commit(&put("lost", "1"));
    ensure!(matches!(refused, Err(ClusterError::Away { .. })), "without a majority: {refused:?}");
    ensure!(begin.elapsed() < cluster::PATIENCE * 2, "it took {:?} to say so", begin.elapsed());
    servers[0].start()?;
    wait::until("a majority to go on", wait::LONG, || Ok(store.commit(&put("back", "1"))?))?;
    drop(silent);
    Ok(())
}

#[test]
fn only_who_has_a_certificate_is_let_in() -> Result<()> {
    let netns = ground()?;
    let folder = tempfile::tempdir()?;
    let file = |name: &str, text: &str| -> Result<std::path::PathBuf> {
        let path = folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    };
    let (ours, others) = (Authority::new("ours")?, Authority::new("others")?);
    let server = ours.server(&[HOST.parse()?])?;
    let ca = file("ca.pem", &ours.pair().cert)?;
    let (cert, key) = (file("server.pem", &server.cert)?, file("server.key", &server.key)?);
    let options = [
        format!("--cert-file={}", cert.display()),
        format!("--key-file={}", key.display()),
        format!("--trusted-ca-file={}", ca.display()),
        "--client-cert-auth".to_owned(),
    ];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let mut etcd = Etcd::new(&netns, ("one", HOST, 2379), "", &options)?;
    etcd.start()?;
    let address = format!("etcd://{}", etcd.endpoint());
    let with = |authority: &Authority, ca: &Authority, tag: &str| -> Result<Credentials> {
        let (key, request) = cluster::authority::request("host1")?;
        Ok(Credentials {
            ca: Some(file(&format!("{tag}-ca.pem"), &ca.pair().cert)?),
            cert: Some(file(&format!("{tag}.pem"), &authority.client(&request, "host1")?)?),
            key: Some(file(&format!("{tag}.key"), &key)?),
            ..Credentials::default()
        })
    };
    let good = client(&netns, &address, &with(&ours, &ours, "good")?)?;
    good.commit(&put("a", "1")).context("with a certificate of the authority's")?;
    ensure!(good.watch(Revision(1))?.next(wait::LONG)?.len() == 1, "a watch passes too");

    let stranger = with(&others, &ours, "stranger")?;
    let fooled = with(&ours, &others, "fooled")?;
    let nobody = Credentials { cert: None, key: None, ..with(&ours, &ours, "nobody")? };
    for (who, credentials) in [("a stranger", stranger), ("who trusts others", fooled), ("nobody", nobody)] {
        let refused = client(&netns, &address, &credentials)?.snapshot();
        let Err(error) = refused else { anyhow::bail!("{who} was let in") };
        let said = format!("{error}; {}", error.hint());
        ensure!(said.contains("store_cert"), "{who}: it is said what to look at: {said}");
    }
    // Without TLS: nothing but an error, and to another host not even an attempt.
    let clear = client(&netns, &address, &Credentials::default())?.snapshot();
    ensure!(clear.is_err(), "in clear: {clear:?}");
    let abroad = cluster::Etcd::new("etcd://192.0.2.1", &Credentials::default()).err();
    ensure!(matches!(abroad, Some(ClusterError::Refused { .. })), "in clear to another host: {abroad:?}");
    // Files that are none.
    let rubbish = Credentials { ca: Some(file("rubbish.pem", "rubbish")?), ..Credentials::default() };
    let refused = client(&netns, &address, &rubbish).and_then(|c| Ok(c.snapshot()?));
    ensure!(refused.is_err(), "rubbish for a certificate");
    Ok(())
}

/// etcd's own users: a token is fetched, renewed when etcd forgets it, and a wrong password is told as one.
#[test]
fn users_have_passwords() -> Result<()> {
    weft_tests::programs::require(&["etcdctl"])?;
    let netns = ground()?;
    let folder = tempfile::tempdir()?;
    let mut etcd = Etcd::new(&netns, ("one", HOST, 2379), "", &["--auth-token-ttl=2"])?;
    etcd.start()?;
    let endpoint = etcd.endpoint();
    let ctl = |words: &str| -> Result<()> {
        let mut command = netns.command("etcdctl");
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={endpoint}")).args(words.split(' '));
        let output = command.output()?;
        ensure!(output.status.success(), "etcdctl {words}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    ctl("user add root:secret")?;
    ctl("user grant-role root root")?;
    ctl("role add weft")?;
    ctl("role grant-permission weft --prefix=true readwrite /weft/")?;
    ctl("user add weft:open-sesame")?;
    ctl("user grant-role weft weft")?;
    ctl("auth enable")?;
    let with = |password: &str| -> Result<Credentials> {
        let path = folder.path().join(password);
        std::fs::write(&path, format!("{password}\n"))?;
        Ok(Credentials { user: Some("weft".into()), password_file: Some(path), ..Credentials::default() })
    };
    let address = format!("etcd://{endpoint}");
    let store = client(&netns, &address, &with("open-sesame")?)?;
    store.commit(&put("a", "1"))?;
    let lease = store.grant(Duration::from_secs(60))?;
    store.renew(lease)?;
    let first = store.snapshot()?;
    ensure!(first.entries.len() == 1);
    // etcd forgets tokens after two seconds without use.
    std::thread::sleep(Duration::from_secs(4));
    let again = Transaction {
        conditions: vec![Condition::Unchanged("a".into(), first.entries["a"].revision)],
        ..put("a", "2")
    };
    ensure!(matches!(store.commit(&again)?, Outcome::Done(_)), "a forgotten token is fetched anew");
    ensure!(store.watch(first.revision)?.next(wait::LONG)?.len() == 1);
    let wrong = client(&netns, &address, &with("wrong")?)?.snapshot();
    ensure!(matches!(wrong, Err(ClusterError::Refused { .. })), "a wrong password: {wrong:?}");
    let none = client(&netns, &address, &Credentials::default())?.snapshot();
    ensure!(matches!(none, Err(ClusterError::Refused { .. })), "no user: {none:?}");
    // Outside of its prefix the user has no rights.
    let outside = client(&netns, &format!("{address}/other"), &with("open-sesame")?)?.snapshot();
    ensure!(matches!(outside, Err(ClusterError::Refused { .. })), "another prefix: {outside:?}");
    Ok(())
}
