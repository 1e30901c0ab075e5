//! A container's input and output: from the one who started it and to that one, and into the log.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{Winsize, tcsetwinsize};
use weft_kernel::signal::Signals;

use super::process::{Running, is_stop};
use crate::channel::{Channel, FromShim, Message, PIECE, ToShim, piece};
use crate::log;

/// Messages that may wait for one who does not read; then the container's output waits, too.
const WAITING: usize = 8;
/// Bytes of input that may wait for a container that does not read.
const PENDING: usize = 4 * PIECE;

/// Why waiting has come to an end.
pub(super) enum Event {
    Ended,
    /// Somebody wants it stopped, or the time for that is over.
    Stop,
    Kill,
}

/// Both ends of it.
pub(super) struct Stdio {
    /// The command that started the container, while it is there.
    channel: Option<Channel>,
    waiting: VecDeque<Vec<u8>>,
    pending: VecDeque<u8>,
    end_of_input: bool,
    log: Option<log::Writer>,
    window: Option<(u16, u16)>,
}

impl Stdio {
    pub(super) fn new(channel: Channel, log: Option<log::Writer>) -> Stdio {
        let (waiting, pending) = (VecDeque::new(), VecDeque::new());
        Stdio { channel: Some(channel), waiting, pending, end_of_input: false, log, window: None }
    }

    /// Says something to the one who started the container, when that one has room for it.
    pub(super) fn say(&mut self, message: &FromShim) {
        if self.channel.is_some() {
            self.waiting.push_back(message.encode());
            self.flush();
        }
    }

    fn flush(&mut self) {
        while let (Some(channel), Some(message)) = (&self.channel, self.waiting.front()) {
            match channel.offer(message) {
                Ok(true) => drop(self.waiting.pop_front()),
                Ok(false) => return,
                Err(_) => self.gone(),
            }
        }
    }

    /// Nobody is there any more: the container goes on, and its log is all that hears it.
    fn gone(&mut self) {
        self.channel = None;
        self.waiting.clear();
        self.end_of_input = true;
    }

    /// Waits until something happens, and does what is to be done about it.
    pub(super) fn turn(
        &mut self,
        running: &mut Running,
        signals: &Signals,
        deadline: Option<Instant>,
    ) -> Result<Option<Event>, Errno> {
        let ready = self.poll(running, signals, deadline)?;
        if ready.writable {
            self.flush();
        }
        if ready.heard {
            self.hear(running);
        }
        if ready.input {
            self.feed(running);
        }
        if ready.output {
            self.forward(running, 1);
        }
        if ready.error {
            self.forward(running, 2);
        }
        while let Ok(Some(number)) = signals.next() {
            if is_stop(number) {
                return Ok(Some(Event::Stop));
            }
        }
        if ready.ended {
            return Ok(Some(Event::Ended));
        }
        let late = deadline.is_some_and(|d| Instant::now() >= d);
        Ok(late.then_some(Event::Kill))
    }

    fn poll(&self, running: &Running, signals: &Signals, deadline: Option<Instant>) -> Result<Ready, Errno> {
        let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
        let ended = fds.len();
        let pidfd = running.pidfd();
        fds.push(PollFd::new(&pidfd, PollFlags::IN));
        let room = self.waiting.len() < WAITING;
        let reading = if room { PollFlags::IN } else { PollFlags::empty() };
        let writing = if self.pending.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        let terminal = add(&mut fds, running.terminal.as_ref(), reading | writing);
        let output = add(&mut fds, running.output.as_ref(), reading);
        let error = add(&mut fds, running.error.as_ref(), reading);
        let input = add(&mut fds, running.input.as_ref(), writing);
        let channel = self.channel.as_ref().map(|channel| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, self.pending.len() < PENDING);
            flags.set(PollFlags::OUT, !self.waiting.is_empty());
            fds.push(PollFd::new(channel, flags));
            fds.len() - 1
        });
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        let left = left.map(|l| Timespec::try_from(l).unwrap_or_default());
        match poll(&mut fds, left.as_ref()) {
            Err(Errno::INTR) => return Ok(Ready::default()),
            other => other?,
        };
        let of = |at: Option<usize>| at.map_or(PollFlags::empty(), |at| fds[at].revents());
        let any = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        let terminal = of(terminal);
        Ok(Ready {
            ended: fds[ended].revents().intersects(any),
            output: room && (of(output) | terminal).intersects(any),
            error: room && of(error).intersects(any),
            input: of(input).intersects(PollFlags::OUT | PollFlags::ERR) || terminal.contains(PollFlags::OUT),
            heard: of(channel).intersects(any),
            writable: of(channel).contains(PollFlags::OUT),
        })
    }

    /// What the one who started the container says.
    fn hear(&mut self, running: &mut Running) {
        let Some(channel) = &self.channel else { return };
        match channel.hear::<ToShim>() {
            Ok(Some(ToShim::Input(bytes))) => {
                self.pending.extend(bytes);
                self.feed(running);
            }
            Ok(Some(ToShim::EndOfInput)) => {
                self.end_of_input = true;
                self.feed(running);
            }
            Ok(Some(ToShim::Window(columns, rows))) => {
                self.window = Some((columns, rows));
                self.resize(running);
            }
            Ok(Some(ToShim::Signal(number))) => running.send(number),
            Ok(Some(ToShim::Execute(_)) | None) | Err(_) => {
                self.gone();
                self.feed(running);
            }
        }
    }

    fn resize(&self, running: &Running) {
        if let (Some((columns, rows)), Some(terminal)) = (self.window, &running.terminal) {
            let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            let _ = tcsetwinsize(terminal, size);
        }
    }

    /// Gives the container what waits for it, without waiting for it: at most what a pipe takes at once.
    fn feed(&mut self, running: &mut Running) {
        let Some(into) = running.input.as_ref().or(running.terminal.as_ref()) else {
            self.pending.clear();
            return;
        };
        while !self.pending.is_empty() {
            let mut fds = [PollFd::new(into, PollFlags::OUT)];
            let now = Timespec::default();
            if !matches!(poll(&mut fds, Some(&now)), Ok(1)) || !fds[0].revents().contains(PollFlags::OUT) {
                break;
            }
            // A pipe that is writable takes PIPE_BUF bytes without waiting (pipe(7)).
            let (bytes, _) = self.pending.as_slices();
            match rustix::io::write(into, &bytes[..bytes.len().min(4096)]) {
                Ok(taken) => drop(self.pending.drain(..taken)),
                Err(Errno::INTR | Errno::AGAIN) => break,
                Err(_) => {
                    self.pending.clear();
                    running.input = None;
                    return;
                }
            }
        }
        if self.end_of_input && self.pending.is_empty() {
            running.input = None; // closed: the container reads the end
        }
    }

    /// Moves a piece of what the container wrote: 1 is standard output, 2 standard error. Returns whether there was any.
    fn forward(&mut self, running: &mut Running, stream: u8) -> bool {
        let from = if stream == 2 { running.error.as_ref() } else { running.output_or_terminal() };
        let Some(fd) = from else { return false };
        let bytes = piece(fd).unwrap_or_default();
        if bytes.is_empty() {
            running.close_output(stream);
            return false;
        }
        // A full disk must not stop a container.
        if let Some(log) = &mut self.log {
            let _ = log.note(stream, &bytes);
        }
        self.say(&if stream == 2 { FromShim::Error(bytes) } else { FromShim::Output(bytes) });
        true
    }

    /// Moves all that the ended container has left behind: at most what its pipes held.
    pub(super) fn drain(&mut self, running: &mut Running) {
        while self.forward(running, 1) {}
        while self.forward(running, 2) {}
    }

    /// Says the last word, waiting until it has been heard.
    pub(super) fn close(mut self, last: &FromShim) {
        if let Some(log) = &mut self.log {
            let _ = log.finish();
        }
        let Some(channel) = &self.channel else { return };
        for message in &self.waiting {
            loop {
                match channel.offer(message) {
                    Ok(true) => break,
                    Ok(false) => {
                        let mut fds = [PollFd::new(channel, PollFlags::OUT)];
                        let _ = poll(&mut fds, None);
                    }
                    Err(_) => return,
                }
            }
        }
        let _ = channel.tell(last);
    }
}

/// Asks for a descriptor too, if there is one and something to ask; returns its place.
fn add<'a>(fds: &mut Vec<PollFd<'a>>, fd: Option<&'a OwnedFd>, flags: PollFlags) -> Option<usize> {
    let fd = fd.filter(|_| !flags.is_empty())?;
    fds.push(PollFd::from_borrowed_fd(fd.as_fd(), flags));
    Some(fds.len() - 1)
}

#[derive(Default)]
struct Ready {
    ended: bool,
    output: bool,
    error: bool,
    input: bool,
    heard: bool,
    writable: bool,
}
