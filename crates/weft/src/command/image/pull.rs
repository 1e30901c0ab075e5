//! `weft image pull`.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use weft_runtime::image::{
    Credentials, Platform, PullError, Pulled, Reference, RegistryError, RegistryOptions, StoreError, pull,
};

use crate::cli::Session;
use crate::failure::Failure;
use crate::output::entry;
use crate::progress;
use crate::render;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image with its registry, such as registry.example:5000/team/app:1; no registry is assumed
    #[arg(value_parser = super::reference)]
    name: Reference,
    /// Which image of several to take, as OS/ARCHITECTURE[/VARIANT] [default: this host's]
    #[arg(long, value_parser = super::platform)]
    platform: Option<Platform>,
    /// Whom to be at the registry; the password comes from standard input
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    user: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "user")]
    password_stdin: bool,
    /// A file of passwords as `docker login` and `podman login` write it [default: $REGISTRY_AUTH_FILE, or else
    /// ~/.docker/config.json if it is there]
    #[arg(long, value_name = "PATH", conflicts_with = "user")]
    auth_file: Option<PathBuf>,
    /// A file of certificate authorities to trust beside the host's
    #[arg(long, value_name = "PATH")]
    ca: Option<PathBuf>,
    /// Speak without TLS: whoever is on the way can read the password
    #[arg(long, conflicts_with = "ca")]
    plain_http: bool,
    /// Make device nodes that the image holds outside /dev; without this such an image is refused
    #[arg(long)]
    devices: bool,
}

/// Fetches an image that a container is to be made of, saying only how far it is.
pub(crate) fn bring(session: &Session, name: Reference) -> anyhow::Result<()> {
    let (platform, user, auth_file, ca) = (None, None, None, None);
    let args = Args {
        name,
        platform,
        user,
        password_stdin: false,
        auth_file,
        ca,
        plain_http: false,
        devices: false,
    };
    fetch(session, &args).map(|_| ())
}

fn fetch(session: &Session, args: &Args) -> anyhow::Result<Pulled> {
    let Some(registry) = args.name.registry() else {
        let hint = format!("write the registry too, such as docker.io/library/{}", args.name);
        bail!(Failure::new(format!("'{}' names no registry, and none is assumed", args.name)).hint(hint));
    };
    let options = RegistryOptions {
        credentials: credentials(args, registry)?,
        authorities: args.ca.clone(),
        plain_http: args.plain_http,
    };
    let store = super::store(args.devices)?;
    let progress = progress::watcher(session.output);
    let pulled = pull(&store, &args.name, options, args.platform.as_ref(), &*progress);
    drop(progress);
    let pulled = pulled.map_err(explain)?;
    super::remark_platform(session, &pulled.image);
    Ok(pulled)
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let pulled = fetch(session, args)?;
    session.output.show(
        || {
            let mut document = entry("image", render::image::summary(&pulled.image))?;
            document.extend(entry("fetched", pulled.fetched)?);
            Ok(document)
        },
        || {
            let came = render::image::bytes(pulled.fetched);
            let came =
                if pulled.fetched == 0 { "all of it was here".to_owned() } else { format!("{came} fetched") };
            format!("{}  {}  {came}\n", args.name, pulled.image.id.short())
        },
    )
}

fn credentials(args: &Args, registry: &str) -> anyhow::Result<Option<Credentials>> {
    if let Some(user) = &args.user {
        let mut password = String::new();
        let read = std::io::stdin().lock().take(64 << 10).read_to_string(&mut password);
        read.context("failed to read the password from standard input")?;
        let password = password.trim_end_matches(['\r', '\n']).to_owned();
        if password.is_empty() {
            bail!(
                Failure::new("there is no password on standard input")
                    .hint("echo \"$PASSWORD\" | weft image pull …")
            );
        }
        return Ok(Some(Credentials { user: user.clone(), password }));
    }
    if let Some(path) = &args.auth_file {
        return Ok(Credentials::from_file(path, registry)?);
    }
    if let Some(path) = std::env::var_os("REGISTRY_AUTH_FILE") {
        return Ok(Credentials::from_file(Path::new(&path), registry)?);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    match home.map(|home| home.join(".docker/config.json")).filter(|path| path.exists()) {
        Some(path) => Ok(Credentials::from_file(&path, registry)?),
        None => Ok(None),
    }
}

fn explain(error: PullError) -> anyhow::Error {
    let hint = match &error {
        PullError::Registry(RegistryError::Refused { user: None, .. }) => {
            "say who you are: --user NAME --password-stdin, or --auth-file PATH"
        }
        PullError::Registry(RegistryError::Refused { .. }) => {
            "check name and password, and whether they may read this"
        }
        PullError::Registry(RegistryError::Reach { source, .. }) => {
            let words = super::error_line(&**source);
            if words.contains("UnknownIssuer") || words.contains("certificate") {
                "if its certificate is from an authority of your own, name that: --ca PATH"
            } else if words.contains("corrupt message") || words.contains("InvalidContentType") {
                "does it speak TLS at all? --plain-http speaks without"
            } else {
                "check the name, the port, and whether this host reaches it"
            }
        }
        PullError::Registry(RegistryError::PlainRealm { .. }) => {
            "the password would go there in the open: have it fixed"
        }
        PullError::Registry(RegistryError::Cut { .. } | RegistryError::Status { .. }) => {
            "what has come is kept for a day: the same command goes on with it"
        }
        PullError::Platform { .. } => "choose one with --platform",
        PullError::Store(
            StoreError::Layer { .. } | StoreError::WrongDigest { .. } | StoreError::WrongSize { .. },
        ) => {
            return super::no_space(
                anyhow::Error::new(error).context("the image is refused, and nothing of it was kept"),
            );
        }
        _ => return super::no_space(error.into()),
    };
    Failure::new(super::error_line(&error)).hint(hint).into()
}
