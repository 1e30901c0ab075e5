//! Asking the agent: one connection, one line there, one line back.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use weft_agent::Config;
use weft_model::api::{self, Reply, Request};

use crate::away::away;
use crate::cli::Session;
use crate::failure::Failure;
use crate::place;

/// An agent that takes longer than this is stuck: attaching takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than any reply can need; keeps a confused peer from filling the memory.
const REPLY_LIMIT: u64 = 1 << 30;

impl Session {
    /// Where the agent listens: what was said, what the environment says, what the configuration says, or the default.
    pub(crate) fn socket(&self) -> PathBuf {
        let configured = || Config::load(&place::config()).ok().map(|c| c.socket());
        let environment = || std::env::var_os("WEFT_SOCKET").filter(|s| !s.is_empty()).map(PathBuf::from);
        self.socket.clone().or_else(environment).or_else(configured).unwrap_or_else(|| api::SOCKET.into())
    }

    /// Asks the agent. An error that it answers is an error here, with its hint.
    pub(crate) fn ask(&self, request: &Request) -> anyhow::Result<Reply> {
        let socket = self.socket();
        let stream = UnixStream::connect(&socket).map_err(|error| away(&socket, &error))?;
        match exchange(stream, request)? {
            Reply::Error(error) => {
                let failure = Failure::new(error.message);
                Err(match error.hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
                .into())
            }
            reply => Ok(reply),
        }
    }
}

/// One request and its reply over a connected socket.
pub(crate) fn exchange(mut stream: UnixStream, request: &Request) -> anyhow::Result<Reply> {
    let failed = "failed to speak to the agent";
    stream.set_read_timeout(Some(PATIENCE)).context(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).context(failed)?;
    let mut line = serde_json::to_vec(request).context(failed)?;
    line.push(b'\n');
    // An agent that hangs up while we write (request too long, not root) has answered before it did.
    let written = stream.write_all(&line);
    let mut answer = Vec::new();
    let read = BufReader::new(stream.take(REPLY_LIMIT)).read_until(b'\n', &mut answer);
    if answer.is_empty() {
        written.map_err(patience).context(failed)?;
        read.map_err(patience).context(failed)?;
        bail!(
            Failure::new("the agent hung up without an answer")
                .hint("its log says why: `journalctl -u weft`, or where it was started")
        );
    }
    read.map_err(patience).context(failed)?;
    serde_json::from_slice(&answer).map_err(|error| {
        let hint = "the agent may be of another version: restart it";
        anyhow::Error::new(error).context(Failure::new("the agent's answer is not understood").hint(hint))
    })
}

/// Says what a timeout means here.
fn patience(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::other(format!("no answer within {} s", PATIENCE.as_secs()))
        }
        _ => error,
    }
}

/// The agent answered with something else than was asked for.
pub(crate) fn unexpected(reply: &Reply) -> anyhow::Error {
    let kind = serde_json::to_value(reply).ok();
    let kind = kind.as_ref().and_then(|v| v.as_object()?.keys().next().map(String::as_str));
    let message = format!("the agent answered with '{}', which was not asked for", kind.unwrap_or("nothing"));
    Failure::new(message).hint("the agent may be of another version: restart it").into()
}
