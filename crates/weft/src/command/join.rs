//! `weft join`: makes this host one of a cluster.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::bail;
use weft_model::NodeName;
use weft_store::cluster::authority::{Pair, request};

use super::agent;
use super::init::{address, await_agent, stands_alone};
use crate::cli::Session;
use crate::failure::Failure;
use crate::member::exchange::{Ask, AskMember, ask};
use crate::member::files::{Files, Share};
use crate::member::token::Token;
use crate::member::{etcd, service};
use crate::output::entry;
use crate::place;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What `weft init` or `weft token` printed
    token: Token,
    /// Get new certificates for a host that is in the cluster already, with the token of `weft token --renew NAME`
    #[arg(long, conflicts_with = "member")]
    renew: bool,
    /// Also run a share of the cluster's store here: three or five hosts should, so that it outlives the loss of one
    #[arg(long)]
    member: bool,
    /// With --member: this host's address for the others [default: that of its default route's interface]
    #[arg(long, value_name = "IP", requires = "member")]
    address: Option<IpAddr>,
    /// The agent's configuration file
    #[arg(long, value_name = "FILE", default_value_os_t = place::config())]
    config: PathBuf,
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let config = agent::load(&args.config)?;
    let files = Files::new(&config.state_dir);
    let member = args.member || (args.renew && files.is_member());
    if args.renew && !files.is_joined() {
        bail!(
            Failure::new("this host belongs to no cluster")
                .hint("join one: weft join TOKEN, without --renew")
        );
    }
    if !args.renew {
        stands_alone(&config, &files)?;
    }
    let name = config.node();
    let (key, asked) = request(name.as_str())?;
    let mut server_key = None;
    let wish = if member {
        etcd::program()?;
        let (key, request) = request(weft_store::cluster::authority::SERVER)?;
        server_key = Some(key);
        let known = if args.renew { Some(files.share()?.address) } else { args.address };
        Some(AskMember { address: address(&config, known)?, request })
    } else {
        None
    };
    let own = wish.as_ref().map(|m| m.address);
    files.prepare(member)?;
    let token = &args.token;
    let wish = Ask {
        token: token.id.clone(),
        secret: token.secret.clone(),
        node: name.to_string(),
        request: asked,
        member: wish,
    };
    let joined = ask(token, &wish)?;
    if let Some(store) = &joined.store {
        files.write_elsewhere(store)?;
        return done(session, &name, false);
    }
    files.write_node(&Pair { cert: joined.cert, key }, &joined.trusted)?;
    if let (Some(share), Some(key), Some(address)) = (joined.member, server_key, own) {
        let server = Pair { cert: share.cert, key };
        let authority = Pair { cert: share.authority_cert, key: share.authority_key };
        let (name, initial) = (name.to_string(), share.initial);
        let share = Share { name, address, initial, joined: true, elsewhere: false };
        files.write_member(&share, &server, &authority)?;
    }
    if args.member {
        service::start(&files, &args.config)?;
    }
    if !args.renew {
        files.write_store(&joined.endpoints)?;
    }
    done(session, &name, args.renew)
}

fn done(session: &Session, name: &NodeName, renewed: bool) -> anyhow::Result<()> {
    let in_sync = await_agent(session);
    session.output.show(
        || entry("joined", name),
        || {
            let agent = if in_sync {
                ""
            } else {
                "Its agent does not run yet: weft agent, or systemctl start weft.\n"
            };
            if renewed {
                return format!("Host {name} has new certificates.\n");
            }
            format!("Host {name} has joined. {agent}`weft node ls` shows all hosts.\n")
        },
    )
}
