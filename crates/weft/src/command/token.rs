//! `weft token`: an invitation for one more host.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use weft_model::NodeName;
use weft_store::cluster::{ClusterStore as _, Etcd, Key, Op, Transaction};

use super::agent;
use crate::cli::Session;
use crate::failure::Failure;
use crate::member::failure;
use crate::member::files::Files;
use crate::member::token::Token;
use crate::output::entry;
use crate::place;

/// How long an invitation is good for unless somebody says otherwise.
pub(crate) const USUAL: Duration = Duration::from_secs(60 * 60);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long it is good for, in minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
    /// For this host alone, which is in the cluster already: `weft join TOKEN --renew` there gets it new certificates
    #[arg(long, value_name = "NAME")]
    renew: Option<NodeName>,
    /// The agent's configuration file
    #[arg(long, value_name = "FILE", default_value_os_t = place::config())]
    config: PathBuf,
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let config = agent::load(&args.config)?;
    let files = Files::new(&config.state_dir);
    if !files.is_member() {
        bail!(
            Failure::new("this host has no door for others")
                .hint("type it on the first host, or on one that joined with --member")
        );
    }
    let (share, store) = (files.share()?, files.store()?);
    if share.elsewhere && args.renew.is_some() {
        bail!(Failure::new("the store runs elsewhere, and its certificates are its owner's").hint(
            "write new ones into the files that /var/lib/weft/cluster/store.toml names: the agent notices"
        ));
    }
    let address = share.address;
    let renews = args.renew.as_ref();
    let line = invite(&files, &store, address, Duration::from_secs(args.minutes * 60), renews)?;
    session.output.show(|| entry("join", &line), || format!("{line}\n"))
}

/// Keeps a new token in the store and returns the line to be typed on the host that joins.
pub(crate) fn invite(
    files: &Files,
    store: &Etcd,
    address: IpAddr,
    good_for: Duration,
    renews: Option<&NodeName>,
) -> anyhow::Result<String> {
    let token = Token::new(files.fingerprint()?, vec![address])?;
    let lease = store.grant(good_for).map_err(failure)?;
    let put = Op::Put {
        key: Key::Token(token.id.clone()).to_string(),
        value: serde_json::to_vec(&token.kept(renews.map(NodeName::as_str)))?,
        lease: Some(lease),
    };
    store.commit(&Transaction { conditions: Vec::new(), changes: vec![put] }).map_err(failure)?;
    Ok(format!("weft join {token}{}", if renews.is_some() { " --renew" } else { "" }))
}
