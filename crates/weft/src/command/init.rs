//! `weft init`: begins a cluster on this host, and prints how the next host joins it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use weft_agent::Config;
use weft_agent::settings::StoreFile;
use weft_model::api::{Reply, Request};
use weft_store::cluster::authority::{Authority, Pair, request};
use weft_store::cluster::{ClusterStore as _, Credentials, Etcd};

use super::agent;
use super::token;
use crate::cli::Session;
use crate::failure::Failure;
use crate::member::door::{loopback, peer_url};
use crate::member::failure;
use crate::member::files::{Files, Share, endpoint};
use crate::member::{etcd, service};
use crate::output::{entry, write};
use crate::place;

/// How long a new etcd may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// This host's address for the others [default: that of its default route's interface]
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Use an etcd that runs already, such as etcd://10.0.0.1:2379,10.0.0.2:2379
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// With --store: the authority that signed its certificates (PEM)
    #[arg(long, value_name = "FILE", requires = "store")]
    ca: Option<PathBuf>,
    /// With --store: this host's certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "store")]
    cert: Option<PathBuf>,
    /// With --store: the key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "store")]
    key: Option<PathBuf>,
    /// With --store: a user of etcd's own
    #[arg(long, value_name = "NAME", requires = "store")]
    user: Option<String>,
    /// With --store: a file with that user's password
    #[arg(long, value_name = "FILE", requires = "store")]
    password_file: Option<PathBuf>,
    /// With --store: speak to it without TLS
    #[arg(long, requires = "store")]
    plaintext: bool,
    /// On a host that runs a share of the store: a new authority, and new certificates for this host; prints how the others get theirs
    #[arg(long, conflicts_with_all = ["store", "address"])]
    rotate: bool,
    /// With --rotate: all hosts have new certificates; trust the old authority no longer
    #[arg(long, requires = "rotate")]
    finish: bool,
    /// The agent's configuration file
    #[arg(long, value_name = "FILE", default_value_os_t = place::config())]
    config: PathBuf,
}

pub(crate) fn run(session: &Session, args: Args) -> anyhow::Result<()> {
    let config = agent::load(&args.config)?;
    let files = Files::new(&config.state_dir);
    if args.rotate {
        return super::rotate::run(session, &config, &files, args.finish);
    }
    stands_alone(&config, &files)?;
    if let Some(store) = args.store.clone() {
        return with_store(session, &config, &files, store, args);
    }
    etcd::program()?;
    let address = address(&config, args.address)?;
    let name = config.node();
    let authority = Authority::new(&format!("weft cluster of {name}"))?;
    let server = authority.server(&[address, loopback(address)])?;
    let (key, asked) = request(name.as_str())?;
    let node = Pair { cert: authority.client(&asked, name.as_str())?, key };
    let initial = format!("{name}={}", peer_url(address));
    let share = Share { name: name.to_string(), address, initial, joined: false, elsewhere: false };
    files.prepare(true)?;
    files.write_node(&node, &authority.pair().cert)?;
    files.write_member(&share, &server, authority.pair())?;
    let log = service::start(&files, &args.config)?;
    let store = Etcd::new(&format!("etcd://{}", endpoint(address)), &files.credentials())?;
    answers(&store)
        .with_context(|| Failure::new("the new etcd does not answer").hint(format!("see {log}")))?;
    files.write_store(&[endpoint(address)])?;
    let line = token::invite(&files, &store, address, token::USUAL, None)?;
    let in_sync = await_agent(session);
    session.output.show(
        || entry("join", &line),
        || {
            let agent = if in_sync { "" } else { "Its agent does not run yet: weft agent, or systemctl start weft.\n" };
            format!(
                "This host is a cluster of one. {agent}On the next host, as root, within an hour:\n\n  {line}\n\n\
                 It is good for one host; `weft token` prints another.\n"
            )
        },
    )
}

/// A host that is in a cluster must leave it first.
pub(crate) fn stands_alone(config: &Config, files: &Files) -> anyhow::Result<()> {
    if config.store.is_some() {
        bail!(
            Failure::new("the configuration names a store already (`store`)")
                .hint("remove it there, or leave all as it is: `weft status` shows the cluster")
        );
    }
    if files.is_joined() {
        bail!(
            Failure::new("this host belongs to a cluster already")
                .hint("`weft node ls` shows its hosts; `weft leave` leaves it")
        );
    }
    Ok(())
}

/// The one address for the others.
pub(crate) fn address(config: &Config, wish: Option<IpAddr>) -> anyhow::Result<IpAddr> {
    let found = match wish {
        Some(address) => Some(address),
        None => weft_agent::underlay(config).map_err(anyhow::Error::msg)?.first().map(ipnet::IpNet::addr),
    };
    found.ok_or_else(|| {
        Failure::new("this host has no default route, so its address for the others is not plain")
            .hint("name it: --address IP, and `underlay` in the configuration")
            .into()
    })
}

fn with_store(
    session: &Session,
    config: &Config,
    files: &Files,
    store: String,
    args: Args,
) -> anyhow::Result<()> {
    let absolute = |path: Option<PathBuf>| path.map(|p| std::path::absolute(&p).unwrap_or(p));
    let file = StoreFile {
        store,
        ca: absolute(args.ca),
        cert: absolute(args.cert),
        key: absolute(args.key),
        user: args.user,
        password_file: absolute(args.password_file),
        plaintext: args.plaintext,
    };
    let credentials = Credentials {
        ca: file.ca.clone(),
        cert: file.cert.clone(),
        key: file.key.clone(),
        user: file.user.clone(),
        password_file: file.password_file.clone(),
        plaintext: file.plaintext,
    };
    let client = Etcd::new(&file.store, &credentials).map_err(failure)?;
    client.snapshot().map_err(failure)?;
    // A door for the next hosts, with an authority of its own: the store's is not ours.
    let (name, address) = (config.node(), address(config, args.address)?);
    let authority = Authority::new(&format!("weft door of {name}"))?;
    let server = authority.server(&[address, loopback(address)])?;
    let share =
        Share { name: name.to_string(), address, initial: String::new(), joined: false, elsewhere: true };
    files.prepare(true)?;
    files.write_member(&share, &server, authority.pair())?;
    files.write_store_file(&file)?;
    service::start(files, &args.config)?;
    let line = token::invite(files, &client, address, token::USUAL, None)?;
    await_agent(session);
    session.output.show(
        || Ok([entry("store", &file.store)?, entry("join", &line)?].into_iter().flatten().collect()),
        || {
            format!(
                "Host {name} shares the store {}. On the next host, as root, within an hour:\n\n  {line}\n\n\
                 It is good for one host, which gets what opens the store from here. `weft token` prints another.\n",
                file.store
            )
        },
    )
}

fn answers(store: &Etcd) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        match store.get("history") {
            Ok(_) => return Ok(()),
            Err(error) if begun.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Waits until the agent, if one runs, does its part.
pub(crate) fn await_agent(session: &Session) -> bool {
    let begun = Instant::now();
    let told = |text: &str| drop(write(text));
    loop {
        match session.ask(&Request::Status) {
            Ok(Reply::Status(status)) if status.store.as_ref().is_some_and(|s| s.in_sync) => return true,
            Ok(_) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(100)),
            Ok(_) => {
                if !session.output.json {
                    told("The agent is not in sync with the store yet: weft status says why.\n");
                }
                return true;
            }
            Err(_) => return false,
        }
    }
}
