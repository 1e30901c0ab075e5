//! Asking an agent.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use weft_model::api::{Reply, Request};

use crate::Error;

/// An agent that is busy repairing answers late, but it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends one request to the agent that listens at `socket`. A refusal is a [`Reply::Error`].
///
/// # Errors
/// [`Error::Ask`], [`Error::Answer`].
pub fn ask(socket: &Path, request: &Request) -> Result<Reply, Error> {
    let line = talk(socket, request).map_err(|source| Error::Ask { socket: socket.to_owned(), source })?;
    serde_json::from_str(&line).map_err(|error| Error::Answer(format!("{error}: {line}")))
}

fn talk(socket: &Path, request: &Request) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut text = serde_json::to_vec(request).map_err(io::Error::other)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up without an answer"));
    }
    Ok(line)
}
