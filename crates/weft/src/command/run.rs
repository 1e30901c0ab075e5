//! `weft run`: make a container and run a program in it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use weft_runtime::image::{Reference, Store, StoreError};
use weft_runtime::spec::capability::Named;
use weft_runtime::spec::limits::{self, Cpus, PIDS, Size};
use weft_runtime::spec::{Capabilities, Limits, Net, Restart, Root, Users, Volume};
use weft_runtime::wish::{Defaults, Wish};
use weft_runtime::{Name, Places, explain, launch, seat};

use crate::cli::Session;
use crate::command::attach::ProfileArgs;
use crate::command::image;
use crate::containers::{left, refused};
use crate::failure::{Failure, USAGE};
use crate::output;
use crate::process::ProcessArgs;
use crate::render;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image, and the command with its arguments; with --rootfs the command only
    #[arg(value_name = "IMAGE [COMMAND]...", trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
    /// What the container is called, also in `ip netns list` [default: a fresh name]
    #[arg(long, value_name = "NAME")]
    name: Option<Name>,
    #[command(flatten)]
    process: ProcessArgs,
    #[command(flatten)]
    profile: ProfileArgs,
    /// A folder or file of the host, SOURCE:TARGET[:ro]; may be repeated
    #[arg(long, short, value_name = "VOLUME")]
    volume: Vec<Volume>,
    /// Who its users are on the host: host, auto (numbers that nobody else has), or UID:SIZE
    #[arg(long, value_name = "USERS", default_value = "host")]
    userns: Users,
    /// The program, instead of the image's entry point
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// The host name inside [default: the container's name]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// The network: a name, none, host, or container:NAME [default: default]
    #[arg(long, value_name = "NETWORK")]
    network: Option<Net>,
    /// An address to have; once per family
    #[arg(long, value_name = "ADDR")]
    ip: Vec<IpAddr>,
    /// Memory that it may use, such as 64m; there is no swap beyond it
    #[arg(long, short, value_name = "SIZE", value_parser = limits::memory)]
    memory: Option<u64>,
    /// Processors that it may use, such as 0.5
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<Cpus>,
    /// Processes and threads that it may have, at most
    #[arg(long, value_name = "NUMBER", default_value_t = PIDS, value_parser = clap::value_parser!(u32).range(1..))]
    pids: u32,
    /// Let nothing of its root be written; volumes can be, and /dev
    #[arg(long)]
    read_only: bool,
    /// A capability beyond the default ones, or ALL; may be repeated
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<Named>,
    /// A default capability that it shall not have, or ALL; may be repeated
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<Named>,
    /// Let set-user-id programs gain nothing
    #[arg(long)]
    no_new_privileges: bool,
    /// Use this folder of the host instead of an image; it is not written to
    #[arg(long, value_name = "FOLDER")]
    rootfs: Option<PathBuf>,
    /// Remove it with all that it wrote when it ends
    #[arg(long)]
    rm: bool,
    /// Start it again when it ends: no, on-failure[:TIMES], always, unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no")]
    restart: Restart,
    /// What `weft stop` sends first [default: the image's, or TERM]
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Only print the commands that a person would have typed
    #[arg(long)]
    explain: bool,
    /// Bytes that its log may have [default: 20m]
    #[arg(long, value_name = "SIZE")]
    log_size: Option<Size>,
}

pub(crate) fn run(session: &Session, args: Args) -> anyhow::Result<ExitCode> {
    let places = session.places()?;
    args.process.check()?;
    let ProcessArgs { detach, tty, interactive, .. } = args.process;
    let (root, defaults, command) =
        root(session, &places, args.rootfs.as_deref(), args.words, !args.explain)?;
    let wish = Wish {
        name: args.name,
        command,
        entrypoint: args.entrypoint,
        env: args.process.environment(),
        workdir: args.process.workdir,
        user: args.process.user,
        users: args.userns,
        hostname: args.hostname,
        net: args.network,
        ips: args.ip,
        profile: args.profile.into(),
        volumes: args.volume,
        limits: Limits { memory: args.memory, cpus: args.cpus, pids: Some(args.pids) },
        read_only: args.read_only,
        capabilities: Capabilities::with(&args.cap_add, &args.cap_drop),
        no_new_privileges: args.no_new_privileges,
        tty,
        interactive,
        remove: args.rm,
        restart: args.restart,
        stop_signal: args.stop_signal,
        log_limit: args.log_size.map(|s| s.0),
    };
    let spec = wish.resolve(root, &defaults).map_err(refused)?;
    if args.explain {
        let commands = explain::commands(&places, &spec).map_err(refused)?;
        render::script(session, &format!("run the container {}", spec.name), &commands)?;
        return Ok(ExitCode::SUCCESS);
    }
    let name = spec.name.clone();
    let channel = launch::run(&places, spec).map_err(refused)?;
    let pid = seat::started(&channel).map_err(refused)?;
    if detach {
        let document = || {
            let mut document = output::entry("container", &name)?;
            document.extend(output::entry("pid", pid)?);
            Ok(document)
        };
        session.output.show(document, || format!("{name}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    left(&seat::sit(channel, tty, interactive)?)
}

/// What its files come from, what that says about how to run it, and the command that was typed.
fn root(
    session: &Session,
    places: &Places,
    rootfs: Option<&Path>,
    mut words: Vec<String>,
    bring: bool,
) -> anyhow::Result<(Root, Defaults, Vec<String>)> {
    let Some(rootfs) = rootfs else {
        if words.is_empty() {
            let failure = Failure::new("neither an image nor --rootfs was named").code(USAGE);
            return Err(failure.hint("`weft image ls` shows the images that are here").into());
        }
        let command = words.split_off(1);
        return image(session, places, words.remove(0), bring)
            .map(|(root, defaults)| (root, defaults, command));
    };
    let failed =
        |why: String| Failure::new(format!("the root {} cannot be used: {why}", rootfs.display())).code(125);
    let folder = std::fs::canonicalize(rootfs).map_err(|e| failed(e.to_string()))?;
    if !folder.is_dir() {
        return Err(failed("it is no folder".to_owned()).into());
    }
    Ok((Root::Folder(folder), Defaults::default(), words))
}

/// An image by name or id; one that is not here is brought, if its name says from where.
fn image(session: &Session, places: &Places, name: String, bring: bool) -> anyhow::Result<(Root, Defaults)> {
    let failed = |error: StoreError| {
        let failure = Failure::new(image::error_line(&error)).code(125);
        match error {
            StoreError::NoImage(_) => {
                failure.hint("`weft image ls` shows those that are here; `weft image pull` fetches others")
            }
            _ => failure,
        }
    };
    let store = Store::open(&places.state).map_err(failed)?;
    let found = match (store.find(&name), name.parse::<Reference>()) {
        (Err(StoreError::NoImage(_)), Ok(reference)) if bring && reference.registry().is_some() => {
            image::pull::bring(session, reference)?;
            store.find(&name)
        }
        (found, _) => found,
    };
    let found = found.map_err(failed)?;
    let says = found.config.config;
    let defaults = Defaults {
        entrypoint: says.entrypoint,
        command: says.cmd,
        env: says.env,
        workdir: says.working_dir,
        user: says.user,
        stop_signal: says.stop_signal,
    };
    Ok((Root::Image { name, id: found.id, manifest: found.manifest }, defaults))
}
