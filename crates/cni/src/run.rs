//! One call from beginning to end: exactly one JSON document on stdout or nothing, remarks on stderr.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use crate::commands::{Call, add, check, del, gc, status, version};
use crate::conf::{self, LIMIT};
use crate::env::{Command, Env, EnvError};
use crate::error::Failure;
use crate::host::Host;
use crate::version::SpecVersion;

/// Where a call reads and writes.
pub struct Streams<'a> {
    /// The network configuration.
    pub stdin: &'a mut dyn Read,
    /// For the runtime.
    pub stdout: &'a mut dyn Write,
    /// For people and logs.
    pub stderr: &'a mut dyn Write,
    /// Whether a person sits at `stdin`.
    pub terminal: bool,
}

const HELP: &str = "\
This is weft's CNI plugin. Container runtimes (containerd, CRI-O, podman) execute it to connect
containers to weft networks; it is not meant to be run by hand.

  1. It is installed as /opt/cni/bin/weft, and the agent runs: systemctl start weft
  2. A file such as /etc/cni/net.d/10-weft.conflist names it:
     { \"cniVersion\": \"1.1.0\", \"name\": \"weft\", \"plugins\": [ { \"type\": \"weft\", \"network\": \"default\" } ] }
  3. To see whether it would work:
     echo '{\"cniVersion\":\"1.1.0\",\"name\":\"weft\",\"type\":\"weft\"}' | CNI_COMMAND=STATUS /opt/cni/bin/weft

For a namespace by hand: weft attach. For the state of this host: weft status.
";

/// Does what the environment and stdin ask for, and says so on stdout.
pub fn run(env: &Env, host: &Host, streams: &mut Streams<'_>) -> ExitCode {
    let (mut stdin, mut notes) = (Vec::new(), Vec::new());
    let done = obey(env, host, streams.stdin, streams.terminal, &mut stdin, &mut notes);
    // Nobody may be listening on stderr; the work is done all the same.
    for note in &notes {
        let _ = writeln!(streams.stderr, "weft: {note}");
    }
    if streams.terminal && matches!(done, Err(Failure::Env(EnvError::NoCommand))) {
        let _ = streams.stderr.write_all(HELP.as_bytes());
    }
    let (text, code) = match done {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(failure) => {
            let version = conf::version_of(&stdin).unwrap_or(SpecVersion::NEWEST);
            (failure.render(version), ExitCode::FAILURE)
        }
    };
    match streams.stdout.write_all(text.as_bytes()).and_then(|()| streams.stdout.flush()) {
        Ok(()) => code,
        // A result that the runtime has not got is none.
        Err(_) => ExitCode::FAILURE,
    }
}

fn obey(
    env: &Env,
    host: &Host,
    input: &mut dyn Read,
    terminal: bool,
    stdin: &mut Vec<u8>,
    notes: &mut Vec<String>,
) -> Result<String, Failure> {
    let command = env.command()?;
    // Whoever types CNI_COMMAND=VERSION types no configuration.
    if !(terminal && command == Command::Version) {
        read(input, stdin).map_err(Failure::Stdin)?;
    }
    let call = Call { command, env, stdin, host };
    let nothing = |()| String::new();
    match command {
        Command::Add => add::add(&call, notes),
        Command::Del => del::del(&call, notes).map(nothing),
        Command::Check => check::check(&call).map(nothing),
        Command::Status => status::status(&call).map(nothing),
        Command::Gc => gc::gc(&call).map(nothing),
        Command::Version => Ok(version::version(stdin)),
    }
}

/// Reads one byte more than is allowed, so that what is too long can be told from what just fits.
fn read(input: &mut dyn Read, stdin: &mut Vec<u8>) -> io::Result<()> {
    input.take(LIMIT as u64 + 1).read_to_end(stdin).map(drop)
}
