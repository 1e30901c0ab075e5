//! The command line: what can be typed, and which file does it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::output::{self, Output};
use crate::{command, failure, reference};

/// A container network in one program.
#[derive(Debug, Parser)]
#[command(name = "weft", version, arg_required_else_help = true, after_help = AFTER)]
pub(crate) struct Cli {
    /// Print a JSON document, an object with "api": 1, instead of text
    #[arg(long, global = true)]
    json: bool,
    /// The agent's socket [default: $WEFT_SOCKET, the configuration's, or else /run/weft/agent.sock]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the agent cannot be reached.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent of this host
    Agent(command::agent::Args),
    /// Give a network namespace an interface
    Attach(command::attach::Args),
    /// Take an interface away; that it is gone already is no error
    Detach(command::detach::Args),
    /// Make, show, remove and join networks
    #[command(subcommand)]
    Network(command::network::Command),
    /// Fetch, load, save, show and remove images
    #[command(subcommand)]
    Image(command::image::Command),
    /// Begin a cluster on this host, or share a store that runs already
    Init(command::init::Args),
    /// Join a cluster
    Join(command::join::Args),
    /// Print an invitation for one more host
    Token(command::token::Args),
    /// Leave the cluster: this host stands alone again
    Leave(command::leave::Args),
    /// Show and remove the hosts of the cluster
    #[command(subcommand)]
    Node(command::node::Command),
    /// Run this host's share of the cluster's store; `weft init` and `weft join --member` start it
    Member(command::member::Args),
    /// Show, set and clear limits of bandwidth, while workloads run
    #[command(subcommand)]
    Bandwidth(command::bandwidth::Command),
    /// Take in objects: namespaces, policies
    Apply(command::apply::Args),
    /// Show declared objects
    Get(command::get::Args),
    /// Show declared objects in full
    Describe(command::get::Which),
    /// Forget declared objects; that they are gone already is no error
    Delete(command::delete::Args),
    /// Show packets that policy denied
    Flows(command::flows::Args),
    /// Test policies without a network, and ask why a connection passes or does not
    #[command(subcommand)]
    Policy(command::policy::Command),
    /// Show the host, its networks and workloads, and what is wrong
    Status,
    /// Run a program in a container
    Run(Box<command::run::Args>),
    /// Show the containers of this host
    Ps(command::ps::Args),
    /// Run a further program in a container
    Exec(command::exec::Args),
    /// Show what a container has written
    Logs(command::logs::Args),
    /// Show everything about a container
    Inspect(command::inspect::Args),
    /// Run containers that are over once more, with all that they wrote
    Start(command::start::Args),
    /// Ask containers to end, and kill those that do not
    Stop(command::stop::StopArgs),
    /// Send a signal to containers
    Kill(command::stop::KillArgs),
    /// Wait until a container is over, and print its exit code
    Wait(command::stop::WaitArgs),
    /// Remove containers with all that they wrote
    Rm(command::stop::RmArgs),
    /// Look for what hurts on this host, with the command that mends it; exit code 1 when there is an error or a warning
    Doctor,
    /// Show what the agent would change in the kernel now; exit code 1 when there is something
    Diff,
    /// Show the way of a packet from here to anywhere: each hop, route, encapsulation and MTU
    Explain(command::explain::Args),
    /// Send a packet and follow it through every rule and interface to whom it is for; exit code 1 if it does not come there
    Trace(command::trace::Args),
    /// Make several hosts on this machine, to see and to break
    Lab(command::lab::Lab),
    /// Show what this host's kernel should hold
    Plan,
    /// List everything on this host that is weft's
    Inventory(command::inventory::Args),
    /// Show where weft keeps things on this host, and how; needs no agent
    Info,
    /// Install weft on this host, or bring an installation up to date
    Install(command::install::Args),
    /// Remove weft from this host and leave it as it was before; needs no agent
    Uninstall(command::uninstall::Args),
    /// Install or remove the CNI plugin only
    #[command(subcommand)]
    Cni(command::cni::Command),
    /// Print the version
    Version,
    /// Hold a container
    #[command(hide = true)]
    Shim(command::shim::Args),
    /// Print docs/reference.md
    #[command(hide = true)]
    Reference,
}

/// What every command gets to know.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) output: Output,
    /// What `--socket` said.
    pub(crate) socket: Option<PathBuf>,
}

/// Parses, runs, and says what went wrong.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_a_command(&error),
    };
    let session = Session { output: Output::new(cli.json), socket: cli.socket };
    match run(&session, cli.command) {
        Ok(code) => code,
        Err(error) => {
            if session.output.json {
                let _ = output::write(&format!("{:#}\n", failure::document(&error)));
            } else {
                output::complain(&failure::text(&error));
            }
            ExitCode::from(failure::code(&error))
        }
    }
}

fn run(session: &Session, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Agent(args) => command::agent::run(session, args)?,
        Command::Attach(args) => command::attach::run(session, args)?,
        Command::Detach(args) => command::detach::run(session, args)?,
        Command::Network(command) => command::network::run(session, command)?,
        Command::Image(command) => command::image::run(session, command)?,
        Command::Info => command::info::run(session)?,
        Command::Init(args) => command::init::run(session, args)?,
        Command::Join(args) => command::join::run(session, &args)?,
        Command::Token(args) => command::token::run(session, &args)?,
        Command::Leave(args) => command::leave::run(session, &args)?,
        Command::Node(command) => command::node::run(session, command)?,
        Command::Member(args) => command::member::run(session, &args)?,
        Command::Bandwidth(command) => command::bandwidth::run(session, command)?,
        Command::Apply(args) => command::apply::run(session, &args)?,
        Command::Get(args) => command::get::run(session, args)?,
        Command::Describe(which) => command::get::describe(session, which)?,
        Command::Delete(args) => command::delete::run(session, args)?,
        Command::Flows(args) => command::flows::run(session, &args)?,
        Command::Policy(command) => return command::policy::run(session, command),
        Command::Status => command::status::run(session)?,
        Command::Run(args) => return command::run::run(session, *args),
        Command::Ps(args) => return command::ps::run(session, &args),
        Command::Exec(args) => return command::exec::run(session, args),
        Command::Logs(args) => command::logs::run(session, &args)?,
        Command::Inspect(args) => command::inspect::run(session, &args)?,
        Command::Start(args) => return command::start::run(session, args),
        Command::Stop(args) => return command::stop::stop(session, &args),
        Command::Kill(args) => return command::stop::kill(session, &args),
        Command::Wait(args) => return command::stop::wait(session, &args),
        Command::Rm(args) => return command::stop::rm(session, &args),
        Command::Shim(args) => command::shim::run(args)?,
        Command::Doctor => return command::doctor::run(session),
        Command::Diff => return command::diff::run(session),
        Command::Explain(args) => return command::explain::run(session, args),
        Command::Trace(args) => return command::trace::run(session, args),
        Command::Lab(lab) => return command::lab::run(session, lab),
        Command::Plan => command::plan::run(session)?,
        Command::Inventory(args) => command::inventory::run(session, &args)?,
        Command::Install(args) => command::install::run(session, &args)?,
        Command::Uninstall(args) => command::uninstall::run(session, &args)?,
        Command::Cni(command) => command::cni::run(session, command)?,
        Command::Version => command::version::run(session)?,
        Command::Reference => output::write(&reference::page())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Help and version are answers; everything else is wrong usage.
fn not_a_command(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match output::write(&text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(failure::FAILED),
        };
    }
    output::complain(&text.replacen("error:", "weft:", 1));
    ExitCode::from(failure::USAGE)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn names_are_checked_at_the_door() {
        for bad in [
            ["weft", "attach", "x", "--network", "../etc"],
            ["weft", "attach", "x", "--ifname", "a/b"],
            ["weft", "attach", "x", "--name", "-x"],
            ["weft", "attach", "x", "--mac", "01:00:5e:00:00:01"],
            ["weft", "network", "create", "x", "--subnet=10.0.0.1"],
            ["weft", "network", "create", "x", "--mode=overlay"],
            ["weft", "attach", "x", "--pid", "7"],
            ["weft", "attach", "x", "--bandwidth", "0"],
            ["weft", "bandwidth", "set", "x", "--limit=1000000000000000000"],
        ] {
            let error = Cli::try_parse_from(bad).unwrap_err();
            assert!(!matches!(error.kind(), ErrorKind::DisplayHelp), "{bad:?}");
        }
    }
}
