//! A host of a test's own: network, mount, process and cgroup namespaces in which engines run.
//!
//! Nothing that happens inside reaches the machine: `/etc`, `/run`, `/var/lib`, `/opt` and the cgroups are
//! private. The first process waits for the end of a pipe whose other end is held here; however the test
//! ends, the pipe closes, that process exits, and the kernel kills everything inside and drops the mounts.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use weft_kernel::netns::Netns;

use crate::programs;
use crate::wait;

const OUTER: &str = concat!(include_str!("../../scripts/lib/cgroups.sh"), include_str!("sandbox_outer.sh"));
const INNER: &str = concat!(include_str!("../../scripts/lib/cgroups.sh"), include_str!("sandbox_inner.sh"));

/// A private host. Dropping it ends everything that runs inside.
#[derive(Debug)]
pub struct Sandbox {
    tag: String,
    pid: u32,
    holder: Child,
    stdin: Option<ChildStdin>,
}

impl Sandbox {
    /// Makes the namespaces, mounts and cgroups.
    ///
    /// # Errors
    /// Names what is missing, or what the scripts said.
    pub fn new() -> Result<Sandbox> {
        programs::require(&["bash", "unshare", "nsenter", "mount", "ip", "awk", "nft", "timeout"])?;
        let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("no random name")?;
        let tag = format!("weft-test-{}", &uuid[..8]);
        let mut holder = Command::new("bash")
            .args(["-c", OUTER, "sandbox", &tag, INNER])
            .env("PATH", programs::PATH)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: a Ctrl-C or a test runner's kill must not end it before it has cleaned up.
            .process_group(0)
            .spawn()
            .context("failed to start a sandbox")?;
        let stdin = holder.stdin.take();
        let mut first = String::new();
        if let Some(stdout) = holder.stdout.take() {
            BufReader::new(stdout).read_line(&mut first).context("failed to read from a sandbox")?;
        }
        let Some(pid) = first.trim().strip_prefix("ready ").and_then(|pid| pid.parse().ok()) else {
            drop(stdin);
            let mut words = String::new();
            if let Some(mut stderr) = holder.stderr.take() {
                let _ = stderr.read_to_string(&mut words);
            }
            let _ = holder.wait();
            bail!("failed to make a sandbox (scripts/setup checks what the kernel lacks):\n{words}");
        };
        Ok(Sandbox { tag, pid, holder, stdin })
    }

    /// Its name, which nothing else on this machine bears: also host name and cgroup.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The machine's path of a file inside.
    #[must_use]
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        let relative = inside.strip_prefix("/").unwrap_or(inside);
        PathBuf::from(format!("/proc/{}/root", self.pid)).join(relative)
    }

    /// Writes a file inside, and the folders on the way to it.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, inside: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(inside);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("failed to make the folder of {inside}"))?;
        }
        std::fs::write(&path, content).with_context(|| format!("failed to write {inside}"))
    }

    /// Copies a program or other file of the machine to a path inside, such as `/run/bin/weft`.
    ///
    /// Copied and not linked, because the machine's path may lie behind one of the sandbox's mounts.
    ///
    /// # Errors
    /// The file system's.
    pub fn copy_in(&self, file: &Path, inside: &str) -> Result<()> {
        let target = self.path(inside);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("failed to make the folder of {inside}"))?;
        }
        let copied = std::fs::copy(file, &target); // with its permissions
        copied.with_context(|| format!("failed to copy {} to {inside}", file.display())).map(|_| ())
    }

    /// A command that will run inside, in all namespaces and cgroups of the sandbox.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.pid))
            .args(["--net", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--wd=/", "--", "/run/join"])
            .arg(program)
            .env("PATH", programs::PATH)
            .env("TMPDIR", "/run/tmp")
            .stdin(Stdio::null());
        command
    }

    /// Runs a program inside to its end, at most two minutes, and gives what it printed.
    ///
    /// # Errors
    /// Its standard error, if it failed.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        finish(self.command("timeout").args(["-k", "5", "120"]).args(args), &args.join(" "))
    }

    /// Runs a shell script inside; otherwise as [`run`](Self::run).
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn sh(&self, script: &str) -> Result<String> {
        self.run(&["sh", "-ec", script])
    }

    /// Starts a program inside that stays; what it says goes to `/run/NAME.log`.
    ///
    /// # Errors
    /// If it could not be started at all.
    pub fn daemon(&self, name: &str, environment: &[(&str, &str)], args: &[&str]) -> Result<Daemon<'_>> {
        let script = r#"name=$1; shift; echo $$ >"/run/$name.pid"; exec "$@" >"/run/$name.log" 2>&1"#;
        let mut command = self.command("sh");
        command.args(["-c", script, "daemon", name]).args(args).envs(environment.iter().copied());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.with_context(|| format!("failed to start {name}"))?;
        Ok(Daemon { sandbox: self, name: name.to_owned(), child, left: false })
    }

    /// The end of every daemon's log, for the words of a failed test.
    #[must_use]
    pub fn logs(&self) -> String {
        let Ok(files) = std::fs::read_dir(self.path("/run")) else { return String::new() };
        let names = files.flatten().map(|file| file.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> =
            names.filter_map(|name| name.strip_suffix(".log").map(str::to_owned)).collect();
        names.sort();
        let tail = |name: &String| (name.clone(), self.log(name));
        let tails = names.iter().map(tail).filter(|(_, log)| !log.is_empty());
        tails.map(|(name, log)| format!("the end of the log of {name}:\n{log}\n")).collect()
    }

    fn log(&self, daemon: &str) -> String {
        let log = std::fs::read(self.path(format!("/run/{daemon}.log"))).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Its network namespace.
    ///
    /// # Errors
    /// If the sandbox is gone.
    pub fn netns(&self) -> Result<Netns> {
        Ok(Netns::open(Path::new(&format!("/proc/{}/ns/net", self.pid)))?)
    }

    /// Fetches `/` from a web server, from the host's own namespace.
    ///
    /// # Errors
    /// If nobody takes the connexion within one second, or the page takes five.
    pub fn http_get(&self, address: IpAddr, port: u16) -> Result<String> {
        let fetch = || -> Result<String> {
            // Short, to be tried afresh: with the reference bridge a connexion begun in the first moments of
            // its IPv6 address (still tentative, presumably) came to nothing in five seconds, the next at once.
            let to = SocketAddr::new(address, port);
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
            anyhow::ensure!(head.contains(" 200 "), "the server said: {head}");
            Ok(body.trim().to_owned())
        };
        self.netns()?.run(fetch)?.with_context(|| format!("no page from {address} port {port}"))
    }

    /// The names of all network interfaces of the host.
    ///
    /// # Errors
    /// If the sandbox is gone.
    pub fn links(&self) -> Result<BTreeSet<String>> {
        let names = std::fs::read_dir(self.path("/sys/class/net")).context("failed to list interfaces")?;
        Ok(names.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        drop(self.stdin.take()); // the first process reads the end of its input
        let ended = wait::until("a sandbox to end", wait::LONG, || {
            self.holder.try_wait()?.map(|_| ()).context("still running")
        });
        if ended.is_err() {
            let _ = self.holder.kill();
            let _ = self.holder.wait();
        }
    }
}

/// A program that stays, inside a sandbox. Dropping it stops it.
#[derive(Debug)]
pub struct Daemon<'a> {
    sandbox: &'a Sandbox,
    name: String,
    child: Child,
    left: bool,
}

impl Daemon<'_> {
    /// Fails with the end of its log if it has ended already.
    ///
    /// # Errors
    /// The log.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}); the end of its log:\n{}", self.name, self.log()),
        }
    }

    fn signal(&self, signal: &str) {
        // By the number inside: the child known here is nsenter, which passes no signals on.
        let _ = self.sandbox.sh(&format!("kill -{signal} $(cat /run/{}.pid)", self.name));
    }

    /// Waits until it has ended by itself, however.
    ///
    /// # Errors
    /// If it is still there after `bound`.
    pub fn wait(&mut self, bound: Duration) -> Result<()> {
        wait::until(&format!("the end of {}", self.name), bound, || {
            self.child.try_wait()?.map(|_| ()).context("still running")
        })
    }

    /// The last 40 lines of what it said.
    #[must_use]
    pub fn log(&self) -> String {
        self.sandbox.log(&self.name)
    }

    /// Lets it run until the sandbox ends.
    pub fn leave(mut self) {
        self.left = true;
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if self.left || matches!(self.child.try_wait(), Ok(Some(_))) {
            return; // its process number may be another's by now
        }
        self.signal("TERM");
        if self.wait(Duration::from_secs(10)).is_err() {
            self.signal("KILL");
            let _ = self.child.wait();
        }
    }
}

fn finish(command: &mut Command, what: &str) -> Result<String> {
    let output = command.output().with_context(|| format!("failed to run {what}"))?;
    if !output.status.success() {
        let (out, words) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("`{what}` failed ({}): {} {}", output.status, words.trim(), out.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
