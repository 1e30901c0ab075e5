//! `weft delete`: forgets objects; that they are gone already is no error.

use std::path::PathBuf;

use weft_model::api::{Reply, Request};
use weft_model::{NamespaceName, ObjectId, ObjectName};

use super::apply;
use super::get::{KindWord, kind};
use crate::cli::Session;
use crate::client::unexpected;
use crate::failure::{Failure, USAGE};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What kind of objects: `networkpolicies`, `netpol`, `namespace`, …
    #[arg(value_name = "KIND", value_parser = kind, required_unless_present = "filename")]
    kind: Option<KindWord>,
    /// Their names
    #[arg(value_name = "NAME", conflicts_with = "filename")]
    names: Vec<ObjectName>,
    /// Their namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: NamespaceName,
    /// The objects of these files instead
    #[arg(short, long = "filename", value_name = "PATH", conflicts_with = "kind")]
    filename: Vec<PathBuf>,
}

pub(crate) fn run(session: &Session, args: Args) -> anyhow::Result<()> {
    let ids: Vec<ObjectId> = match args.kind {
        Some(KindWord(kind)) => {
            if args.names.is_empty() {
                let message = format!("which {} is to be deleted?", kind.info().plural);
                return Err(Failure::new(message).hint("give names").code(USAGE).into());
            }
            let namespace = kind.info().namespaced.then_some(args.namespace);
            let id = |name| ObjectId { kind, namespace: namespace.clone(), name };
            args.names.into_iter().map(id).collect()
        }
        None => apply::load_all(&args.filename)?.iter().map(weft_model::Object::id).collect(),
    };
    match session.ask(&Request::Delete(ids))? {
        Reply::Applied(outcomes) => apply::show(session, &outcomes, false),
        reply => Err(unexpected(&reply)),
    }
}
