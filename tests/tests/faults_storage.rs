//! BAR.md R6: storage that cannot be written, is full, or holds rubbish. The agent starts, traffic flows on,
//! the kernel tells who is attached, and no address is given out twice.

#![allow(clippy::print_stdout, reason = "measured figures belong into the test's output")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use weft_model::api::{Attach, Attached, Collect, Reply, Request};
use weft_model::{Mode, Owner};
use weft_tests::host::{Net, REPAIR, difference};
use weft_tests::{Agent, Host, wait};

const NETWORKS: [Net<'static>; 2] = [
    ("routed", Mode::Routed, &["10.77.0.0/26", "fd77::/64"]),
    ("bridge", Mode::Bridge, &["10.78.0.0/26", "fd78::/64"]),
];
const CONTAINERS: [(&str, &str); 5] =
    [("routed", "r1"), ("routed", "r2"), ("routed", "r3"), ("bridge", "b1"), ("bridge", "b2")];
const FILES: [&str; 2] = ["/var/lib/weft/declared.redb", "/run/weft/attachments.redb"];

struct Scene {
    host: Host,
    addresses: BTreeSet<IpAddr>,
    fresh: usize,
}

fn scene(networks: &[Net<'_>]) -> Result<(Scene, Agent)> {
    let (host, agent) = Host::with_networks(networks)?;
    host.namespaces(&CONTAINERS.map(|(_, c)| c.to_owned()))?;
    let mut scene = Scene { host, addresses: BTreeSet::new(), fresh: 0 };
    for (network, container) in CONTAINERS {
        let attached = scene.host.attach(network, container)?;
        scene.hold(&attached)?;
    }
    Ok((scene, agent))
}

impl Scene {
    /// Notes addresses, which nobody may have had.
    fn hold(&mut self, attached: &Attached) -> Result<()> {
        for address in attached.addresses.iter().map(|a| a.address.addr()) {
            ensure!(self.addresses.insert(address), "{address} was given out twice");
        }
        Ok(())
    }

    fn flows(&self) -> Result<()> {
        for (container, to) in
            [("r1", "10.77.0.1"), ("r2", "fd77::1"), ("b1", "10.78.0.1"), ("b2", "fd78::1")]
        {
            self.host.ping(container, to.parse()?).with_context(|| format!("{container} → {to}"))?;
        }
        Ok(())
    }

    /// All five are known, and their kernel objects are as before; more can be attached, with other addresses.
    fn is_whole(&mut self, before: &str) -> Result<()> {
        self.flows()?;
        let known: BTreeSet<String> =
            self.host.status()?.workloads.iter().map(|w| w.id.container.to_string()).collect();
        for (_, container) in CONTAINERS {
            ensure!(known.contains(container), "{container} was forgotten; known are {known:?}");
        }
        let now = self.host.dump()?;
        ensure!(now == before, "the kernel was changed:\n{}", difference(before, &now));
        for network in ["routed", "bridge"] {
            self.fresh += 1;
            let name = format!("x{}", self.fresh);
            self.host.namespaces(std::slice::from_ref(&name))?;
            let attached = self.host.attach(network, &name)?;
            self.hold(&attached)?;
            self.host.detach(network, &name)?;
            for address in attached.addresses.iter().map(|a| a.address.addr()) {
                self.addresses.remove(&address);
            }
        }
        self.host.await_dump("the detached to be gone", before, REPAIR)?;
        Ok(())
    }
}

/// Puts rubbish into state files while there is no agent, and sees that the next one stands it.
fn damaged(files: &[&str], damage: &str) -> Result<()> {
    let (mut scene, agent) = scene(&NETWORKS)?;
    let before = scene.host.dump()?;
    let mut agent = Some(agent);
    for at in 0..8 {
        if let Some(agent) = agent.take() {
            agent.kill();
        }
        for file in files {
            let script = format!("F={file}; SIZE=$(stat -c %s $F); AT=$((SIZE * {at} / 8)); {damage}");
            scene.host.sh(&script)?;
        }
        scene.flows().context("without an agent")?;
        agent = Some(scene.host.start(&[]).with_context(|| format!("damage at {at}/8"))?);
        scene.is_whole(&before).with_context(|| format!("damage at {at}/8 of {files:?}"))?;
    }
    Ok(())
}

#[test]
fn truncated_files_are_replaced_from_the_kernel() -> Result<()> {
    damaged(&FILES, "truncate -s $AT $F")
}

#[test]
fn overwritten_files_are_replaced_from_the_kernel() -> Result<()> {
    damaged(&FILES, "head -c 4096 /dev/urandom | dd of=$F bs=1 seek=$AT conv=notrunc status=none")
}

#[test]
fn either_file_alone_may_be_lost() -> Result<()> {
    damaged(&FILES[..1], "rm -f $F; touch $F")?;
    damaged(&FILES[1..], "rm -f $F; touch $F")
}

/// Replaces weft's folders by ones of few bytes, or ones that cannot be written, with what they hold.
fn on_other_storage(script: &str) -> Result<()> {
    on_storage(script, false)
}

/// As [`on_other_storage`]; with `lost` there is no file left that could be read, and no room for one.
fn on_storage(script: &str, lost: bool) -> Result<()> {
    let (scene, agent) = scene(&NETWORKS)?;
    let before = scene.host.dump()?;
    agent.kill();
    scene.host.sh(script)?;
    let agent = scene.host.start(&[])?;
    scene.flows()?;
    if lost {
        let status = scene.host.status()?;
        let said = status.health.iter().any(|line| line.starts_with("records cannot be written: "));
        ensure!(said, "nobody is told: {:?}", status.health);
        ensure!(status.workloads.len() == CONTAINERS.len(), "known are only {:?}", status.workloads);
        ensure!(scene.host.attach("routed", "r1").is_err(), "attached twice");
    }
    let now = scene.host.dump()?;
    ensure!(now == before, "the kernel was changed:\n{}", difference(&before, &now));
    // What cannot be recorded is refused with advice, and changes nothing.
    scene.host.namespaces(&["more".to_owned()])?;
    for network in ["routed", "bridge"] {
        if let Err(error) = scene.host.attach(network, "more") {
            let error = error.downcast::<weft_model::api::Error>()?;
            ensure!(error.hint.is_some(), "no advice: {error}");
            scene.host.await_dump("a refused attach", &before, REPAIR)?;
        } else {
            scene.host.detach(network, "more")?;
            scene.host.await_dump("a detach", &before, REPAIR)?;
        }
    }
    // Repairs need no storage.
    scene.host.sh("nft flush ruleset")?;
    scene.host.await_dump("a repair", &before, REPAIR)?;
    // And with room again, all is as it was.
    agent.kill();
    scene.host.sh("umount -l /var/lib/weft 2>/dev/null || true; umount -l /run/weft 2>/dev/null || true")?;
    let _agent = scene.host.start(&[])?;
    let mut scene = scene;
    wait::until("the old state", REPAIR, || scene.host.status().map(|_| ()))?;
    scene.is_whole(&before)
}

#[test]
fn a_state_folder_that_cannot_be_written() -> Result<()> {
    on_other_storage("mount --bind /var/lib/weft /var/lib/weft; mount -o remount,bind,ro /var/lib/weft")
}

#[test]
fn a_state_folder_that_cannot_be_written_and_holds_nothing() -> Result<()> {
    on_storage(
        "rm /var/lib/weft/declared.redb; mount --bind /var/lib/weft /var/lib/weft; mount -o remount,bind,ro /var/lib/weft",
        true,
    )
}

/// Puts a full disk in the place of each folder, with what was there but for `without`. A place of its own
/// for each: binds of one place would share what is mounted there later.
fn full_disks(without: &str) -> String {
    let fill = |folder: &str, place: &str| {
        format!(
            "mkdir -p {place}; mount -t tmpfs -o size=3m,mode=700 small {place}; cp -a {folder}/. {place}/; \
             rm -f {place}/{without}; (dd if=/dev/zero of={place}/filler bs=4k || true) 2>/dev/null; \
             mount --bind {place} {folder}"
        )
    };
    format!("{}\n{}", fill("/var/lib/weft", "/run/small1"), fill("/run/weft", "/run/small2"))
}

#[test]
fn a_full_disk() -> Result<()> {
    on_other_storage(&full_disks("none"))
}

#[test]
fn a_full_disk_that_holds_nothing() -> Result<()> {
    on_storage(&full_disks("*.redb"), true)
}

/// What was found in the kernel while nothing could be written is written when there is room, owners included.
#[test]
fn what_could_not_be_recorded_is_recorded_later() -> Result<()> {
    let (mut scene, agent) = scene(&NETWORKS)?;
    scene.host.namespaces(&["owned".to_owned()])?;
    let owner = Owner::cni("podnet");
    let attached = scene.host.attach_as(Attach { owner: owner.clone(), ..Host::wish("routed", "owned")? })?;
    scene.hold(&attached)?;
    let before = scene.host.dump()?;
    agent.kill();
    scene.host.sh(&full_disks("*.redb"))?;
    let agent = scene.host.start(&[])?;
    scene.host.sh("rm /var/lib/weft/filler /run/weft/filler")?;
    wait::until("the records", REPAIR, || {
        let health = scene.host.status()?.health;
        ensure!(health.is_empty(), "{health:?}");
        Ok(())
    })?;
    agent.kill();
    let _agent = scene.host.start(&[])?;
    scene.is_whole(&before)?;
    let collect = |owner: Owner| -> Result<Vec<String>> {
        let keep = Some(Vec::new());
        match scene.host.ask(&Request::Collect(Collect { network: "routed".parse()?, owner, keep }))? {
            Reply::Collected(gone) => Ok(gone.iter().map(|id| id.container.to_string()).collect()),
            other => anyhow::bail!("{other:?}"),
        }
    };
    ensure!(collect(Owner::cni("other"))?.is_empty(), "another's garbage was collected");
    ensure!(collect(owner)? == ["owned"], "the owner's garbage was not collected");
    Ok(())
}

/// The disk fills while the agent runs: attaches are refused, detaches too, nothing is half done; then it goes on.
#[test]
fn a_disk_that_fills_under_the_agent() -> Result<()> {
    let host = Host::new()?;
    host.sh(
        "for d in /var/lib/weft /run/weft; do mkdir -p $d; mount -t tmpfs -o size=6m,mode=700 small $d; done",
    )?;
    let agent = host.start(&[])?;
    for network in &NETWORKS {
        host.create_network(network)?;
    }
    host.namespaces(&["c1".to_owned(), "c2".to_owned()])?;
    let empty = host.dump()?;
    host.attach("routed", "c1")?;
    let before = host.dump()?;
    host.sh(
        "for d in /var/lib/weft /run/weft; do (dd if=/dev/zero of=$d/filler bs=4k || true) 2>/dev/null; done",
    )?;
    let mut refused = 0;
    for _ in 0..20 {
        match host.attach("routed", "c2") {
            Err(_) => {
                refused += 1;
                host.await_dump("a refused attach", &before, REPAIR)?;
            }
            Ok(_) => host
                .detach("routed", "c2")
                .or_else(|_| host.sh("ip netns del c2; ip netns add c2").map(|_| ()))?,
        }
    }
    println!("{refused} of 20 attaches were refused");
    ensure!(refused > 0, "the disk was not full");
    // DEL needs no storage: it is done now and recorded when there is room.
    host.detach("routed", "c1")?;
    host.await_dump("a detach with a full disk", &empty, REPAIR)?;
    host.sh("rm /var/lib/weft/filler /run/weft/filler")?;
    wait::until("an attach to work again", REPAIR, || host.attach("routed", "c2").map(|_| ()))?;
    agent.kill();
    let _agent = host.start(&[])?;
    let known: Vec<String> = host.status()?.workloads.iter().map(|w| w.id.container.to_string()).collect();
    ensure!(known == ["c2"], "recorded are {known:?}");
    host.detach("routed", "c2")?;
    host.await_dump("all to be gone", &empty, REPAIR)?;
    Ok(())
}
