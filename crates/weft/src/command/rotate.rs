//! `weft init --rotate`: a new authority and new certificates, with nobody cut off meanwhile.
//!
//! First all hosts trust both authorities, then each gets certificates of the new one, and at last the old one
//! is trusted no longer.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use weft_agent::Config;
use weft_store::cluster::authority::{Authority, Pair, request};
use weft_store::cluster::{ClusterStore as _, Etcd, Key, Op, Transaction, View};

use super::token;
use crate::cli::Session;
use crate::failure::Failure;
use crate::member::door::loopback;
use crate::member::failure;
use crate::member::files::{Files, endpoint};
use crate::output::entry;

/// How long all hosts get to take over whom to trust. They hear of it at once.
const HEARD: Duration = Duration::from_secs(3);
/// How long the store may take to come back with its new certificate.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(session: &Session, config: &Config, files: &Files, finish: bool) -> anyhow::Result<()> {
    if !files.is_member() {
        bail!(
            Failure::new("this host does not have the cluster's authority")
                .hint("type it on one that runs a share of the store: the first one")
        );
    }
    let share = files.share()?;
    if share.elsewhere {
        bail!(Failure::new("the store runs elsewhere, and its certificates are its owner's").hint(
            "write new ones into the files that /var/lib/weft/cluster/store.toml names: the agent notices"
        ));
    }
    let url = format!("etcd://{}", endpoint(share.address));
    let store = Etcd::new(&url, &files.credentials()).map_err(failure)?;
    let old = files.authority()?.pair().cert.clone();
    if finish {
        trust(&store, &old)?;
        Files::write(&files.path("ca.pem"), &old)?;
        return session.output.show(
            || entry("finished", true),
            || "Only the new authority is trusted. Hosts without new certificates are shut out.\n".to_owned(),
        );
    }
    let name = config.node();
    let fresh = Authority::new(&format!("weft cluster of {name}"))?;
    let both = format!("{}{old}", fresh.pair().cert);
    trust(&store, &both)?;
    Files::write(&files.path("ca.pem"), &both)?;
    std::thread::sleep(HEARD);
    let server = fresh.server(&[share.address, loopback(share.address)])?;
    let (key, asked) = request(name.as_str())?;
    let node = Pair { cert: fresh.client(&asked, name.as_str())?, key };
    files.write_member(&share, &server, fresh.pair())?;
    files.write_node(&node, &both)?;
    // A connection of its own: the store comes back with the new certificate.
    let begun = Instant::now();
    let snapshot = loop {
        std::thread::sleep(Duration::from_millis(500));
        let answer = Etcd::new(&url, &files.credentials()).and_then(|store| store.snapshot());
        match answer {
            Ok(snapshot) => break snapshot,
            Err(error) if begun.elapsed() > PATIENCE => return Err(failure(error)),
            Err(_) => {}
        }
    };
    let store = Etcd::new(&url, &files.credentials()).map_err(failure)?;
    let others: Vec<_> = View::of(&snapshot).nodes.into_keys().filter(|n| *n != name).collect();
    let lines = others
        .iter()
        .map(|other| Ok((other, token::invite(files, &store, share.address, token::USUAL, Some(other))?)))
        .collect::<anyhow::Result<Vec<_>>>()
        .context("failed to invite the other hosts")?;
    session.output.show(
        || entry("renew", &lines),
        || {
            let typed: String = lines.iter().map(|(host, line)| format!("  {host}:  {line}\n")).collect();
            format!(
                "There is a new authority, and this host has certificates of it. Within an hour, on each other host:\n\n\
                 {typed}\nThen, here: weft init --rotate --finish\n"
            )
        },
    )
}

/// Tells all hosts whom to trust.
fn trust(store: &Etcd, pem: &str) -> anyhow::Result<()> {
    let put = Op::put(&Key::Trust, serde_json::to_vec(pem)?);
    store.commit(&Transaction { conditions: Vec::new(), changes: vec![put] }).map_err(failure)?;
    Ok(())
}
