//! Hosts leave a cluster, their shares of the store with them, and join again; and a cluster on an etcd that somebody
//! else runs, with TLS, joined by tokens.

use anyhow::{Context, Result, ensure};
use weft_lab::{Etcd, OUTSIDE4};
use weft_store::cluster::authority::{Authority, request};
use weft_tests::fleet::{Fleet, SOON};
use weft_tests::wait;

/// Nobody restarts an agent for it: the host stands alone, the others forget it, its blocks are free after their rest,
/// and it may join again.
#[test]
fn hosts_leave_and_join_again() -> Result<()> {
    let fleet = Fleet::new(3)?;
    let line = fleet.invitation(0, "init")?;
    fleet.weft(1, &line)?;
    let line = fleet.invitation(0, "token")?;
    fleet.weft(2, &format!("{line} --member"))?;
    (0..3).try_for_each(|n| fleet.ready(n))?;
    let mut addresses = fleet.attach(0, "one")?;
    addresses.extend(fleet.attach(1, "two")?);
    fleet.attach(2, "three")?;

    // Who is needed by others, or has workloads, does not leave by accident.
    let used = fleet.weft(2, "leave").unwrap_err().to_string();
    ensure!(used.contains("three") && used.contains("detach"), "workloads would be left behind: {used}");
    fleet.hosts[2].detach("default", "three")?;
    let pid = fleet.hosts[2].status()?.pid;
    let said = fleet.weft(2, "leave")?;
    ensure!(said.contains("stands alone") && said.contains("share of the store"), "{said}");

    // Its own: the same agent, alone, with a network of its own to attach to.
    let status = fleet.hosts[2].status()?;
    ensure!(status.pid == pid, "the agent was started again");
    ensure!(status.store.is_none() && status.peers.is_empty(), "{:?} {:?}", status.store, status.peers);
    let own = status.networks.iter().find(|n| n.network.name.as_str() == "default");
    ensure!(own.is_none_or(|n| n.network.vni.is_none()), "{own:?}");
    fleet.weft(2, "network create alone --subnet 10.210.0.0/16")?;
    let files = fleet.hosts[2].sh("ls /var/lib/weft")?;
    ensure!(!files.contains("etcd") && !files.lines().any(|l| l == "cluster"), "left over: {files}");
    // The others: no way to it, no record of it, no member.
    wait::until("the others to forget it", SOON, || {
        for host in 0..2 {
            let peers = fleet.hosts[host].status()?.peers;
            ensure!(peers.len() == 1, "host {host} still knows {peers:?}");
        }
        Ok(())
    })?;
    let keys = fleet.etcdctl(0, "get --prefix /weft/")?;
    ensure!(!keys.contains("host3"), "{keys}");
    let members = fleet.etcdctl(0, "member list")?;
    ensure!(members.lines().count() == 1, "{members}");
    fleet.reach(&[(0, "one"), (1, "two")], &addresses)?;
    // The last share is not taken away from those who need it.
    let last = fleet.weft(0, "leave").unwrap_err().to_string();
    ensure!(last.contains("alone runs the store") || last.contains("host2"), "{last}");

    let line = fleet.invitation(0, "token")?;
    fleet.weft(2, &line)?;
    fleet.ready(2)?;
    let again = fleet.attach(2, "again")?;
    fleet.reach(&[(0, "one"), (1, "two")], &again)?;
    Ok(())
}

/// The store cannot be told: a host leaves all the same when somebody insists.
#[test]
fn a_host_leaves_a_store_that_is_away() -> Result<()> {
    let fleet = Fleet::new(2)?;
    let line = fleet.invitation(0, "init")?;
    fleet.weft(1, &line)?;
    (0..2).try_for_each(|n| fleet.ready(n))?;
    fleet.kill_share(0)?;
    wait::until("the loss to be noticed", SOON, || {
        ensure!(fleet.hosts[1].status()?.store.is_some_and(|s| !s.in_sync), "still in sync");
        Ok(())
    })?;
    let refused = fleet.weft(1, "leave").unwrap_err().to_string();
    ensure!(refused.contains("does not answer"), "{refused}");
    let said = fleet.weft(1, "leave --force")?;
    ensure!(said.contains("weft node rm host2"), "{said}");
    fleet.start_share(0)?;
    fleet.ready(0)?;
    wait::until("it to stand alone", SOON, || {
        let status = fleet.hosts[1].status()?;
        ensure!(status.store.is_none() && status.peers.is_empty(), "{:?} {:?}", status.store, status.peers);
        Ok(())
    })?;
    wait::until("it to be removed", SOON, || fleet.weft(0, "node rm host2"))?;
    Ok(())
}

/// Three hosts on an etcd with TLS that was there before: the first brings the certificates, the others a token.
#[test]
fn an_etcd_that_runs_already_is_joined_by_tokens() -> Result<()> {
    let fleet = Fleet::new(3)?;
    let folder = tempfile::tempdir()?;
    let theirs = Authority::new("theirs")?;
    let server = theirs.server(&[OUTSIDE4.into()])?;
    let file = |name: &str, text: &str| -> Result<String> {
        let path = folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let options = [
        format!("--cert-file={}", file("server.pem", &server.cert)?),
        format!("--key-file={}", file("server.key", &server.key)?),
        format!("--trusted-ca-file={}", file("ca.pem", &theirs.pair().cert)?),
        "--client-cert-auth".to_owned(),
    ];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let host = OUTSIDE4.to_string();
    // A member of it bears the name of one of our hosts: weft must not take it for that host's.
    let mut etcd = Etcd::new(fleet.underlay.netns(), ("host3", &host, 2379), "", &options)?;
    etcd.start()?;
    let (key, asked) = request("weft")?;
    for (name, text) in
        [("ca.pem", &theirs.pair().cert), ("weft.pem", &theirs.client(&asked, "weft")?), ("weft.key", &key)]
    {
        fleet.hosts[0].sandbox().write(&format!("/run/{name}"), text)?;
    }
    let init =
        format!("init --store etcd://{host}:2379 --ca /run/ca.pem --cert /run/weft.pem --key /run/weft.key");
    let line = fleet.invitation(0, &init)?;
    fleet.weft(1, &line)?;
    let refused = fleet.weft(2, &format!("{line} --member")).unwrap_err().to_string();
    ensure!(refused.contains("not valid"), "a used token: {refused}");
    let line = fleet.invitation(0, "token")?;
    let refused = fleet.weft(2, &format!("{line} --member")).unwrap_err().to_string();
    ensure!(refused.contains("the store runs elsewhere"), "{refused}");
    fleet.weft(2, &line)?;
    (0..3).try_for_each(|n| fleet.ready(n))?;
    let mut addresses = Vec::new();
    for (n, name) in ["one", "two", "three"].iter().enumerate() {
        addresses.extend(fleet.attach(n, name)?);
    }
    fleet.reach(&[(0, "one"), (1, "two"), (2, "three")], &addresses)?;
    let mode = fleet.hosts[2].sh("stat -c %a /var/lib/weft/cluster/store.key")?;
    ensure!(mode.trim() == "600", "a key that others can read: {mode}");
    // One leaves; the etcd and its members are their owner's.
    fleet.hosts[2].detach("default", "three")?;
    let said = fleet.weft(2, "leave")?;
    ensure!(!said.contains("share"), "{said}");
    let nodes = fleet.weft(0, "node ls")?;
    ensure!(!nodes.contains("host3"), "{nodes}");
    let rotate = fleet.weft(0, "init --rotate").unwrap_err().to_string();
    ensure!(rotate.contains("its owner's"), "{rotate}");
    wait::until("a network after all that", SOON, || {
        fleet.weft(1, "network create app --subnet 10.200.0.0/16")
    })
    .context("the store works on")?;
    Ok(())
}
