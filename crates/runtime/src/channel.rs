//! The line between `weft run` and the shim that holds its container: one message per packet, a letter first.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use serde::{Deserialize, Serialize};

use crate::container::End;
use crate::report::Refusal;

/// The most bytes of output or input in a message.
pub const PIECE: usize = 32 << 10;
const LONGEST: usize = PIECE + 1;

/// What a shim says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromShim {
    /// The container runs.
    Started(Started),
    /// It wrote to its standard output.
    Output(Vec<u8>),
    /// It wrote to its standard error.
    Error(Vec<u8>),
    /// It is over, and all it held is gone.
    Ended(End),
    /// It could not be made.
    Refused(Refusal),
}

/// What is known when a container starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its first process, as the host numbers it.
    pub pid: i32,
}

/// What shall be executed in a container that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// `KEY=VALUE`, beyond those of the container.
    pub env: Vec<String>,
    /// Where it starts; the container's own place if nothing is said.
    pub workdir: Option<std::path::PathBuf>,
    /// As whom; the container's own user if nothing is said.
    pub user: Option<String>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its standard input stays open.
    pub interactive: bool,
}

/// What is said to a shim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToShim {
    /// What to execute: the first word to a shim for `weft exec`.
    Execute(Box<Exec>),
    /// Bytes for its standard input.
    Input(Vec<u8>),
    /// There will be no more.
    EndOfInput,
    /// The size of the terminal: columns and rows.
    Window(u16, u16),
    /// A signal for its first process.
    Signal(i32),
}

/// A message that can be told.
pub trait Message: Sized {
    /// As bytes.
    fn encode(&self) -> Vec<u8>;
    /// From bytes; `None` if they make no sense.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

impl Message for FromShim {
    fn encode(&self) -> Vec<u8> {
        match self {
            FromShim::Started(started) => json(b'R', started),
            FromShim::Output(bytes) => raw(b'O', bytes),
            FromShim::Error(bytes) => raw(b'E', bytes),
            FromShim::Ended(end) => json(b'X', end),
            FromShim::Refused(refusal) => json(b'F', refusal),
        }
    }

    fn decode(bytes: &[u8]) -> Option<FromShim> {
        let (letter, rest) = bytes.split_first()?;
        Some(match letter {
            b'R' => FromShim::Started(serde_json::from_slice(rest).ok()?),
            b'O' => FromShim::Output(rest.to_vec()),
            b'E' => FromShim::Error(rest.to_vec()),
            b'X' => FromShim::Ended(serde_json::from_slice(rest).ok()?),
            b'F' => FromShim::Refused(serde_json::from_slice(rest).ok()?),
            _ => return None,
        })
    }
}

impl Message for ToShim {
    fn encode(&self) -> Vec<u8> {
        match self {
            ToShim::Execute(exec) => json(b'C', exec),
            ToShim::Input(bytes) => raw(b'I', bytes),
            ToShim::EndOfInput => raw(b'Z', &[]),
            ToShim::Window(columns, rows) => raw(b'W', &[columns.to_le_bytes(), rows.to_le_bytes()].concat()),
            ToShim::Signal(number) => raw(b'S', &number.to_le_bytes()),
        }
    }

    fn decode(bytes: &[u8]) -> Option<ToShim> {
        let (letter, rest) = bytes.split_first()?;
        Some(match (letter, rest) {
            (b'C', rest) => ToShim::Execute(serde_json::from_slice(rest).ok()?),
            (b'I', rest) => ToShim::Input(rest.to_vec()),
            (b'Z', []) => ToShim::EndOfInput,
            (b'W', [a, b, c, d]) => {
                ToShim::Window(u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]))
            }
            (b'S', rest) => ToShim::Signal(i32::from_le_bytes(rest.try_into().ok()?)),
            _ => return None,
        })
    }
}

fn raw(letter: u8, bytes: &[u8]) -> Vec<u8> {
    [&[letter], bytes].concat()
}

fn json(letter: u8, value: &impl Serialize) -> Vec<u8> {
    let mut text = vec![letter];
    // Numbers, texts and lists only: this cannot fail, and an empty message is understood as one that makes no sense.
    let _ = serde_json::to_writer(&mut text, value);
    text
}

/// One end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Channel(one), Channel(other)))
    }

    /// An end that was handed over.
    #[must_use]
    pub fn of(fd: OwnedFd) -> Channel {
        Channel(fd)
    }

    /// Says something; waits until the other end has room for it.
    ///
    /// # Errors
    /// The kernel's: `EPIPE` if nobody is there.
    pub fn tell(&self, message: &impl Message) -> io::Result<()> {
        loop {
            match send(&self.0, &message.encode(), SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                other => return Ok(other.map(|_| ())?),
            }
        }
    }

    /// Says something if the other end has room for it; returns whether it had.
    ///
    /// # Errors
    /// As [`tell`](Self::tell).
    pub fn offer(&self, message: &[u8]) -> io::Result<bool> {
        match send(&self.0, message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for what the other end says; `None` when it is gone.
    ///
    /// # Errors
    /// The kernel's, and a message that makes no sense.
    pub fn hear<T: Message>(&self) -> io::Result<Option<T>> {
        let mut bytes = vec![0; LONGEST];
        loop {
            return match recv(&self.0, &mut bytes[..], RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                Err(Errno::CONNRESET) | Ok((0, _)) => Ok(None),
                Ok((length, _)) => {
                    let message = T::decode(&bytes[..length.min(LONGEST)]);
                    message.map(Some).ok_or_else(|| io::Error::other("a message that makes no sense"))
                }
                Err(error) => Err(error.into()),
            };
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Reads at most a piece; empty at the end, which for a terminal is an error of its own kind.
pub(crate) fn piece(fd: impl AsFd) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; PIECE];
    let length = loop {
        match rustix::io::read(&fd, &mut bytes[..]) {
            Err(Errno::INTR) => {}
            Err(Errno::IO) => break 0, // a terminal whose other end was closed
            other => break other?,
        }
    };
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_arrive_whole() {
        let (one, other) = Channel::pair().unwrap();
        let all =
            [ToShim::Input(vec![7; PIECE]), ToShim::EndOfInput, ToShim::Window(80, 24), ToShim::Signal(15)];
        for message in &all {
            one.tell(message).unwrap();
        }
        for message in &all {
            assert_eq!(other.hear::<ToShim>().unwrap().as_ref(), Some(message));
        }
        drop(one);
        assert_eq!(other.hear::<ToShim>().unwrap(), None);
        assert!(other.tell(&FromShim::Output(vec![1])).is_err());
    }

    #[test]
    fn a_shim_never_waits_for_one_who_does_not_read() {
        let (one, _other) = Channel::pair().unwrap();
        let message = FromShim::Output(vec![0; PIECE]).encode();
        let taken = (0..1000).take_while(|_| one.offer(&message).unwrap()).count();
        assert!((1..1000).contains(&taken), "{taken}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = ToShim::decode(&bytes);
            let _ = FromShim::decode(&bytes);
        }
    }
}
