//! Running a plugin: its configuration in, its result out, within a time limit.

use std::ffi::OsStr;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// More than any result has; what a plugin prints beyond it is not read.
const OUTPUT_LIMIT: u64 = 1 << 20;

/// Executes `program` and returns whether it succeeded and what it printed.
///
/// Its input and its output are served by threads of their own: a plugin may print before it has read
/// everything. They end with the plugin, or with this process.
pub(super) fn run<'a>(
    program: &Path,
    env: impl Iterator<Item = (&'a OsStr, &'a OsStr)>,
    input: &[u8],
    patience: Duration,
) -> io::Result<(bool, Vec<u8>)> {
    let deadline = Instant::now() + patience;
    let mut child = Command::new(program)
        .env_clear()
        .envs(env)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A plugin need not read its input to the end.
        thread::spawn(move || stdin.write_all(&input));
    }
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        thread::spawn(move || {
            let mut output = Vec::new();
            let read = stdout.take(OUTPUT_LIMIT).read_to_end(&mut output);
            // Nobody listens any more when the time is up.
            let _ = sender.send(read.map(|_| output));
        });
    }
    let output = receiver.recv_timeout(patience).unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
    let finished = output.and_then(|output| Ok((wait(&mut child, deadline)?.success(), output)));
    if finished.is_err() {
        // It may have ended in the meantime; either way it is gone afterwards.
        let _ = child.kill();
        let _ = child.wait();
    }
    finished
}

fn wait(child: &mut Child, deadline: Instant) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            return Err(ErrorKind::TimedOut.into());
        }
        thread::sleep(Duration::from_micros(200));
    }
}
