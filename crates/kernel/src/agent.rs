//! Asking the agent: one connection, one request, one reply (see `weft_model::api`).

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use weft_model::api::{REQUEST_LIMIT, Reply, Request};

/// The longest reply that is read; a list of 10,000 collected attachments has 2 MB.
const REPLY_LIMIT: usize = 16 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Nobody answers.
    #[error("weft's agent is not running: nobody answers at {}", socket.display())]
    Away {
        /// Where it should listen.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connexion ended before the reply.
    #[error("weft's agent went away before it replied")]
    Lost {
        /// How.
        source: io::Error,
    },
    /// It takes longer than the caller wants to wait.
    #[error("weft's agent has not replied for {} seconds", patience.as_secs())]
    Slow {
        /// How long that was.
        patience: Duration,
    },
    /// The reply is not one of this version's.
    #[error("weft's agent gave an answer that is not understood")]
    Unclear {
        /// Where and why.
        source: serde_json::Error,
    },
    /// The path does not fit a socket's address.
    #[error("the path of the agent's socket is too long")]
    SocketPath {
        /// The path.
        socket: PathBuf,
    },
    /// The request does not fit the protocol.
    #[error("the request has {length} bytes, more than weft's agent reads")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

impl AgentError {
    /// Whether it may work when the agent is there.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, AgentError::Away { .. } | AgentError::Lost { .. } | AgentError::Slow { .. })
    }

    /// The reason behind it, and what to do.
    #[must_use]
    pub fn details(&self) -> Option<String> {
        const START: &str = "start it with `systemctl start weft` or `weft agent`";
        Some(match self {
            AgentError::Away { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                format!("{source}; only root may ask it")
            }
            AgentError::Away { source, .. } => format!("{source}; {START}"),
            AgentError::Lost { source } => format!("{source}; if it is not running, {START}"),
            AgentError::Slow { .. } => "see `weft status` and `journalctl -u weft`".to_owned(),
            AgentError::Unclear { source } => {
                format!(
                    "{source}; is the agent of the same release as this program? Both are part of one installation"
                )
            }
            AgentError::SocketPath { socket } => format!("{} has more than 107 bytes", socket.display()),
            AgentError::TooLong { .. } => format!("it reads at most {REQUEST_LIMIT} bytes"),
        })
    }
}

/// Asks, and waits for the reply as long as `patience` lasts.
///
/// # Errors
/// [`AgentError`]; that the agent refuses is a reply, not an error.
pub fn ask(socket: &Path, request: &Request, patience: Duration) -> Result<Reply, AgentError> {
    begin(socket, request, patience)?.reply()
}

/// Asks; the reply can be fetched when something else has been done.
///
/// # Errors
/// [`AgentError`].
///
/// # Panics
/// Never: requests can always be written as JSON.
pub fn begin(socket: &Path, request: &Request, patience: Duration) -> Result<Asked, AgentError> {
    let deadline = Instant::now() + patience;
    let mut line = serde_json::to_vec(request).expect("requests hold text, numbers and lists only");
    line.push(b'\n');
    if line.len() > REQUEST_LIMIT {
        return Err(AgentError::TooLong { length: line.len() });
    }
    let stream = dial(socket, patience)?;
    let mut asked = Asked { stream, deadline, patience };
    asked.stream.write_all(&line).map_err(|e| asked.failed(e))?;
    Ok(asked)
}

/// A request that the agent has.
#[derive(Debug)]
pub struct Asked {
    stream: UnixStream,
    deadline: Instant,
    patience: Duration,
}

impl Asked {
    /// Waits for the reply.
    ///
    /// # Errors
    /// [`AgentError`].
    pub fn reply(mut self) -> Result<Reply, AgentError> {
        let reply = read_line(&mut self.stream, self.deadline).map_err(|e| self.failed(e))?;
        serde_json::from_slice(&reply).map_err(|source| AgentError::Unclear { source })
    }

    fn failed(&self, source: io::Error) -> AgentError {
        match source.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => AgentError::Slow { patience: self.patience },
            _ => AgentError::Lost { source },
        }
    }
}

/// Connects with a time limit: where the agent listens and does not accept, connecting waits for room
/// in the queue, as long as the socket's send timeout allows (unix(7), socket(7) SO_SNDTIMEO).
fn dial(socket: &Path, patience: Duration) -> Result<UnixStream, AgentError> {
    let away = |e: rustix::io::Errno| match e {
        rustix::io::Errno::AGAIN => AgentError::Slow { patience },
        _ => AgentError::Away { socket: socket.to_owned(), source: e.into() },
    };
    let address = SocketAddrUnix::new(socket);
    let address = address.map_err(|_| AgentError::SocketPath { socket: socket.to_owned() })?;
    let fd =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(away)?;
    set_socket_timeout(&fd, Timeout::Send, Some(patience)).map_err(away)?;
    connect(&fd, &address).map_err(away)?;
    Ok(fd.into())
}

/// Reads up to a newline. A reply that ends without one has been cut off.
fn read_line(stream: &mut UnixStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let (mut line, mut chunk) = (Vec::new(), [0; 8192]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // A timeout of zero would mean none.
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let read = match stream.read(&mut chunk) {
            Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection ended")),
            Ok(n) => &chunk[..n],
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if let Some(end) = read.iter().position(|b| *b == b'\n') {
            line.extend_from_slice(&read[..end]);
            return Ok(line);
        }
        line.extend_from_slice(read);
        if line.len() > REPLY_LIMIT {
            return Err(io::Error::new(ErrorKind::InvalidData, "the reply has no end"));
        }
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
    }
}
