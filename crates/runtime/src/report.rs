//! The line between a shim and the process that is becoming a container: what failed, what it opened, and the word to go.
//!
//! It closes when the program is executed: silence means success.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

/// Why a container could not be made, and the exit code that says so: 125, or 126 and 127 as of a shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What failed, and why.
    pub message: String,
    /// The exit code.
    pub code: i32,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Refusal {
    /// A failure of weft's own: 125.
    pub fn new(message: impl Into<String>) -> Refusal {
        Refusal { message: message.into(), code: 125, hint: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Refusal {
        self.hint = Some(hint.into());
        self
    }
}

/// An error with its reasons on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> Refusal {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    Refusal::new(text)
}

impl From<crate::container::Error> for Refusal {
    fn from(error: crate::container::Error) -> Refusal {
        chain(&error)
    }
}

/// One end of the line.
#[derive(Debug)]
pub(crate) struct Report(OwnedFd);

/// What comes over it.
#[derive(Debug)]
pub(crate) enum Word {
    /// The program was executed.
    Executed,
    /// It could not be.
    Refused(Refusal),
    /// All but the network is ready; it waits.
    Ready,
    /// What it opened for the shim: the other end of its terminal, or its root.
    Opened(OwnedFd),
}

const REFUSED: u8 = b'F';
const READY: u8 = b'R';
const OPENED: u8 = b'O';
const LONGEST: usize = 16 << 10;

impl Report {
    /// The shim's end and the process's.
    pub(crate) fn pair() -> io::Result<(Report, Report)> {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Report(one), Report(other)))
    }

    /// Says that it failed. If nobody hears, the exit code is all there is to tell.
    pub(crate) fn refuse(&self, refusal: &Refusal) {
        let mut text = vec![REFUSED];
        let mut refusal = refusal.clone();
        refusal.message.truncate(refusal.message.floor_char_boundary(LONGEST / 2));
        if serde_json::to_writer(&mut text, &refusal).is_ok() {
            let _ = rustix::net::send(&self.0, &text, SendFlags::NOSIGNAL);
        }
    }

    /// Says that it is ready, and waits for the word to go.
    pub(crate) fn await_go(&self) -> io::Result<()> {
        rustix::net::send(&self.0, &[READY], SendFlags::NOSIGNAL)?;
        let mut byte = [0];
        match rustix::net::recv(&self.0, &mut byte, RecvFlags::empty())? {
            (1, _) => Ok(()),
            _ => Err(io::Error::other("it has ended")),
        }
    }

    /// Lets it go.
    pub(crate) fn go(&self) -> io::Result<()> {
        rustix::net::send(&self.0, &[1], SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Sends what it opened for the shim.
    pub(crate) fn send(&self, opened: impl AsFd) -> io::Result<()> {
        let fds = [opened.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        sendmsg(&self.0, &[IoSlice::new(&[OPENED])], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next word of the process.
    pub(crate) fn next(&self) -> io::Result<Word> {
        let mut text = [0_u8; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let into = &mut [IoSliceMut::new(&mut text)];
            match recvmsg(&self.0, into, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => return Ok(Word::Executed),
                other => break other?,
            }
        };
        let fd = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        match (text[..received.bytes].split_first(), fd) {
            (None, _) => Ok(Word::Executed),
            (Some((&READY, _)), _) => Ok(Word::Ready),
            (Some((&OPENED, _)), Some(fd)) => Ok(Word::Opened(fd)),
            (Some((&REFUSED, text)), _) => Ok(Word::Refused(serde_json::from_slice(text)?)),
            _ => Err(io::Error::other("a word that makes no sense")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_arrive() {
        let (shim, process) = Report::pair().unwrap();
        process.send(std::fs::File::open("/dev/null").unwrap()).unwrap();
        let refusal = Refusal { message: "é".repeat(LONGEST), code: 127, hint: None };
        process.refuse(&refusal);
        drop(process);
        assert!(matches!(shim.next().unwrap(), Word::Opened(_)));
        assert!(
            matches!(shim.next().unwrap(), Word::Refused(r) if r.code == 127 && r.message.len() <= LONGEST / 2)
        );
        assert!(matches!(shim.next().unwrap(), Word::Executed));
    }
}
