//! Sitting at a container: what is typed goes to it, what it writes comes from it, signals are passed on.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use weft_kernel::signal::Signals;

use crate::channel::{Channel, FromShim, PIECE, ToShim};
use crate::container::End;
use crate::report::Refusal;

/// How it came to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// The container is over.
    Ended(End),
    /// It runs on; nobody sits at it any more.
    Detached,
    /// Its shim is gone without a word.
    Lost,
}

/// Ctrl-P, Ctrl-Q: as with Docker.
const DETACH: [u8; 2] = [0x10, 0x11];

/// Signals that are the container's business and not this program's.
const PASSED: [Signal; 7] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2, Signal::WINCH];

/// Waits until the container runs.
///
/// # Errors
/// Why it does not.
pub fn started(channel: &Channel) -> Result<i32, Refusal> {
    match channel.hear::<FromShim>() {
        Ok(Some(FromShim::Started(started))) => Ok(started.pid),
        Ok(Some(FromShim::Refused(refusal))) => Err(refusal),
        Ok(Some(_)) => Err(Refusal::new("the shim said something that was not asked for")),
        Ok(None) => {
            Err(Refusal::new("the shim has ended without a word").hint("`dmesg` says whether it was killed"))
        }
        Err(error) => Err(Refusal::new(format!("failed to hear from the shim: {error}"))),
    }
}

/// Sits at a container that runs.
///
/// # Errors
/// If this program's own input or output fails in a way that is not simply its end.
pub fn sit(channel: Channel, tty: bool, interactive: bool) -> io::Result<Left> {
    let signals = Signals::take(&PASSED)?;
    let raw = if tty { Raw::take()? } else { None };
    let mut seat = Seat { channel, signals, reading: interactive, tty, held: None };
    if tty {
        seat.window();
    }
    let left = seat.follow();
    drop(raw);
    left
}

struct Seat {
    channel: Channel,
    signals: Signals,
    /// Whether more may be typed.
    reading: bool,
    tty: bool,
    /// The first of the keys that detach, until it is known what the next one is.
    held: Option<u8>,
}

impl Seat {
    fn follow(&mut self) -> io::Result<Left> {
        loop {
            let input = stdin();
            let mut fds =
                vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&self.channel, PollFlags::IN)];
            if self.reading {
                fds.push(PollFd::new(&input, PollFlags::IN));
            }
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            let ready = |n: usize| fds.get(n).is_some_and(|fd| !fd.revents().is_empty());
            let (signalled, heard, typed) = (ready(0), ready(1), ready(2));
            if signalled {
                self.pass_signals()?;
            }
            if heard && let Some(left) = self.hear()? {
                return Ok(left);
            }
            if typed && self.read()? {
                return Ok(Left::Detached);
            }
        }
    }

    fn hear(&self) -> io::Result<Option<Left>> {
        match self.channel.hear::<FromShim>()? {
            Some(FromShim::Output(bytes)) => write(stdout(), &bytes)?,
            Some(FromShim::Error(bytes)) => write(stderr(), &bytes)?,
            Some(FromShim::Ended(end)) => return Ok(Some(Left::Ended(end))),
            Some(FromShim::Started(_) | FromShim::Refused(_)) => {}
            None => return Ok(Some(Left::Lost)),
        }
        Ok(None)
    }

    /// Passes on what was typed; returns whether that was the wish to leave.
    fn read(&mut self) -> io::Result<bool> {
        let mut bytes = vec![0; PIECE];
        let length = match rustix::io::read(stdin(), &mut bytes[..]) {
            Ok(length) => length,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(false),
            Err(_) => 0,
        };
        if length == 0 {
            self.reading = false;
            let _ = self.channel.tell(&ToShim::EndOfInput);
            return Ok(false);
        }
        bytes.truncate(length);
        let left = self.tty && keys(&mut self.held, &mut bytes);
        if !bytes.is_empty() {
            // A shim that is gone is noticed where it would be heard.
            let _ = self.channel.tell(&ToShim::Input(bytes));
        }
        Ok(left)
    }

    fn pass_signals(&self) -> io::Result<()> {
        while let Some(number) = self.signals.next()? {
            if number == Signal::WINCH.as_raw() {
                self.window();
            } else {
                let _ = self.channel.tell(&ToShim::Signal(number));
            }
        }
        Ok(())
    }

    fn window(&self) {
        if let Ok(size) = tcgetwinsize(stdin()).or_else(|_| tcgetwinsize(stdout())) {
            let _ = self.channel.tell(&ToShim::Window(size.ws_col, size.ws_row));
        }
    }
}

/// Takes the keys that detach out of what was typed; returns whether both were there. Bytes behind them are nobody's.
fn keys(held: &mut Option<u8>, bytes: &mut Vec<u8>) -> bool {
    let mut through = Vec::with_capacity(bytes.len() + 1);
    let mut left = false;
    for byte in std::mem::take(bytes) {
        if held.take().is_some() {
            if byte == DETACH[1] {
                left = true;
                break;
            }
            through.push(DETACH[0]);
        }
        if byte == DETACH[0] {
            *held = Some(byte);
        } else {
            through.push(byte);
        }
    }
    *bytes = through;
    left
}

/// Writes all of it; one who no longer reads has seen what he wanted.
fn write(to: impl AsFd, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::from(to.as_fd().try_clone_to_owned()?);
    match file.write_all(bytes) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// The terminal passes everything on as it is typed; dropping this makes it as it was.
struct Raw(Termios);

impl Raw {
    fn take() -> io::Result<Option<Raw>> {
        if !isatty(stdin()) {
            return Ok(None);
        }
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(Raw(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_that_detach() {
        let mut held = None;
        let mut typed = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            let left = keys(&mut held, &mut bytes);
            (left, bytes)
        };
        assert_eq!(typed(b"a\x10"), (false, b"a".to_vec()));
        assert_eq!(typed(b"b"), (false, b"\x10b".to_vec()));
        assert_eq!(typed(b"\x10\x10"), (false, b"\x10".to_vec()));
        assert_eq!(typed(b"\x11rest"), (true, Vec::new()));
    }
}
