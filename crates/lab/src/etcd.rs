//! A real etcd in a namespace: one server of it, which can be stopped, frozen, killed and started again.

use std::fs::File;
use std::net::TcpStream;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use weft_kernel::netns::Netns;

use crate::agent::{last_lines, spawn};
use crate::{Error, Folder};

/// Debian's `etcd-server` brings it.
pub(crate) const PROGRAM: &str = "/usr/bin/etcd";
/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// One server. Dropping it kills it, and its data are gone.
pub struct Etcd {
    name: String,
    host: String,
    port: u16,
    netns: Netns,
    folder: Folder,
    options: Vec<String>,
    child: Option<Child>,
}

impl Etcd {
    /// A server called `name` in a namespace, on `host` (an address that is there) with the ports `port`
    /// for clients and `port + 1` for the other servers. `cluster` lists all servers as etcd's
    /// `--initial-cluster` does; empty for one alone. `options` are etcd's own. It does not run yet.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn new(
        netns: &Netns,
        (name, host, port): (&str, &str, u16),
        cluster: &str,
        options: &[&str],
    ) -> Result<Etcd, Error> {
        let folder = Folder::new()?;
        let tls = options.iter().any(|o| o.starts_with("--cert-file"));
        let scheme = if tls { "https" } else { "http" };
        let peers_tls = options.iter().any(|o| o.starts_with("--peer-cert-file"));
        let peer_scheme = if peers_tls { "https" } else { "http" };
        let client = format!("{scheme}://{host}:{port}");
        let peer = format!("{peer_scheme}://{host}:{}", port.saturating_add(1));
        let alone = format!("{name}={peer}");
        let mut all = vec![
            format!("--name={name}"),
            format!("--data-dir={}", folder.path().join("data").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={}", if cluster.is_empty() { &alone } else { cluster }),
            // A lab's machine may be slow: a leader must not be lost for it.
            "--heartbeat-interval=100".to_owned(),
            "--election-timeout=1000".to_owned(),
            // Durability against power loss is nobody's concern here.
            "--snapshot-count=10000".to_owned(),
        ];
        all.extend(options.iter().map(|o| (*o).to_owned()));
        let (name, host) = (name.to_owned(), host.to_owned());
        let netns = Netns::open(format!("/proc/self/fd/{}", netns.as_fd().as_raw_fd()).as_ref())?;
        Ok(Etcd { name, host, port, netns, folder, options: all, child: None })
    }

    /// Starts the server. Of several, start all before waiting for one.
    ///
    /// # Errors
    /// [`Error::Program`] if there is no etcd: Debian's package is `etcd-server`.
    pub fn launch(&mut self) -> Result<(), Error> {
        let log = self.log();
        let file = |source| Error::File { path: log.clone(), source };
        let out = File::options().append(true).create(true).open(&log).map_err(file)?;
        let mut command = self.netns.command(PROGRAM);
        command.args(&self.options).stdin(Stdio::null());
        command.stdout(out.try_clone().map_err(file)?).stderr(out);
        let spawned = spawn(command);
        let failed = |source| Error::Program { what: "start", program: PROGRAM.into(), source };
        self.child = Some(spawned.map_err(failed)?);
        Ok(())
    }

    /// Waits until the server listens.
    ///
    /// # Errors
    /// [`Error::Ended`] or [`Error::Silent`] with the end of its log.
    pub fn wait(&mut self) -> Result<(), Error> {
        let begin = Instant::now();
        let address = format!("{}:{}", self.host, self.port);
        loop {
            if self.netns.run(|| TcpStream::connect(&address).is_ok())? {
                return Ok(());
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                return Err(Error::Ended {
                    node: self.name.clone(),
                    status: status.to_string(),
                    log: self.words(),
                });
            }
            if begin.elapsed() > PATIENCE {
                let (what, seconds) = ("listen", PATIENCE.as_secs());
                return Err(Error::Silent { node: self.name.clone(), what, seconds, log: self.words() });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts the server and waits until it listens.
    ///
    /// # Errors
    /// As [`launch`](Self::launch) and [`wait`](Self::wait).
    pub fn start(&mut self) -> Result<(), Error> {
        self.launch()?;
        self.wait()
    }

    /// Kills the server; its data stay.
    ///
    /// # Errors
    /// [`Error::Program`].
    pub fn kill(&mut self) -> Result<(), Error> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let failed = |source| Error::Program { what: "stop", program: PROGRAM.into(), source };
        child.kill().map_err(failed)?;
        child.wait().map(drop).map_err(failed)
    }

    /// Freezes the server: it accepts connections and never answers.
    ///
    /// # Errors
    /// [`Error::Program`].
    pub fn freeze(&self) -> Result<(), Error> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// [`Error::Program`].
    pub fn thaw(&self) -> Result<(), Error> {
        self.signal(Signal::CONT)
    }

    /// Where clients reach it, as `host:port`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Its namespace.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        let pid = self.child.as_ref().and_then(|c| Pid::from_raw(i32::try_from(c.id()).ok()?));
        let failed = |source| Error::Program { what: "stop", program: PROGRAM.into(), source };
        let gone = std::io::Error::other("it does not run");
        let pid = pid.ok_or_else(|| failed(gone))?;
        kill_process(pid, signal).map_err(|e| failed(e.into()))
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn words(&self) -> String {
        last_lines(&self.log())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
