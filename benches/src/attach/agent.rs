//! weft's agent on a host: started, asked, weighed, stopped.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use weft_kernel::nft;
use weft_model::Mode;
use weft_model::api::{NetworkSpec, Reply, Request, Status};

use crate::host::Host;
use crate::program;

/// How long an agent may take to answer for the first time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running agent. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
    /// From the start of the program to its first answer.
    pub(crate) ready_after: Duration,
}

/// What a process has in memory, in KiB (proc_pid_smaps_rollup(5)).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Pages it has mapped and that are present.
    pub(crate) resident: u64,
    /// The same, where shared pages count in proportion.
    pub(crate) proportional: u64,
}

impl Agent {
    /// Starts one on `host` and waits until it answers.
    ///
    /// # Errors
    /// The end of its log.
    pub(crate) fn start(weft: &Path, host: &Host) -> Result<Agent> {
        let _inside = host.enter()?;
        let log = host.dir.join("agent.log");
        // The control groups that it sees are the machine's own.
        let config = host.dir.join("config.toml");
        fs::write(&config, "publish_on_loopback = false\n")?;
        // If this process is killed the agent must not stay behind.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(weft).arg("agent").arg("--config").arg(&config);
        command.arg("--state-dir").arg(host.dir.join("state")).arg("--run-dir").arg(host.dir.join("run"));
        command.env_clear().env("PATH", program::PATH).stdin(Stdio::null());
        command.stdout(fs::File::create(&log)?).stderr(fs::File::options().append(true).open(&log)?);
        let begin = Instant::now();
        let child = command.spawn().context("failed to start the agent")?;
        let socket = host.dir.join("run/agent.sock");
        let mut agent = Agent { child, socket, log, ready_after: Duration::ZERO };
        while agent.ask(&Request::NetworkList).is_err() {
            if agent.child.try_wait()?.is_some() || begin.elapsed() > PATIENCE {
                bail!("the agent does not answer; its log:\n{}", agent.last_words());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        agent.ready_after = begin.elapsed();
        Ok(agent)
    }

    /// Asks something.
    ///
    /// # Errors
    /// Its refusal, or that it is not there.
    pub(crate) fn ask(&self, request: &Request) -> Result<Reply> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        match serde_json::from_str(&answer)? {
            Reply::Error(error) => bail!("the agent refused: {error}"),
            reply => Ok(reply),
        }
    }

    /// Declares a network in bridge mode.
    ///
    /// # Errors
    /// The agent's.
    pub(crate) fn bridge_network(&self, name: &str) -> Result<()> {
        let (name, subnets) = (name.parse()?, vec!["10.204.0.0/16".parse()?, "fd00:f400::/64".parse()?]);
        let spec = NetworkSpec {
            name,
            subnets,
            mode: Mode::Bridge,
            mtu: None,
            masquerade: true,
            encapsulation: weft_model::Encapsulation::Auto,
            explain: false,
        };
        self.ask(&Request::NetworkCreate(spec)).map(drop)
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// That it is not there.
    pub(crate) fn status(&self) -> Result<Status> {
        match self.ask(&Request::Status)? {
            Reply::Status(status) => Ok(*status),
            other => bail!("not a status: {other:?}"),
        }
    }

    /// Weighs it.
    ///
    /// # Errors
    /// If it is gone.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let of = |key: &str| -> Result<u64> {
            let line = text.lines().find(|l| l.starts_with(key)).with_context(|| format!("no {key}"))?;
            let number = line.split_whitespace().nth(1).context("no number")?;
            Ok(number.parse()?)
        };
        Ok(Memory { resident: of("Rss:")?, proportional: of("Pss:")? })
    }

    /// Ends it as systemd does, and waits for that.
    ///
    /// # Errors
    /// If it does not end.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(pid, Signal::TERM)?;
        let begin = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(begin.elapsed() < PATIENCE, "the agent does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What weft has left of workloads on a host: counted before and after, it must be the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remains {
    /// Links, by name.
    pub(crate) links: Vec<String>,
    /// Elements of weft's nftables sets.
    pub(crate) elements: usize,
    /// Attachments on record.
    pub(crate) records: usize,
}

impl Remains {
    /// Counts.
    ///
    /// # Errors
    /// The kernel's or the agent's.
    pub(crate) fn count(agent: &Agent, host: &Host) -> Result<Remains> {
        let links = host.links()?;
        let _inside = host.enter()?;
        let mut socket = weft_kernel::netlink::Socket::open(weft_kernel::netlink::Family::Netfilter)?;
        let tables = nft::read(&mut socket, &weft_kernel::ours::tables())?;
        let elements = tables.values().flat_map(|t| t.sets.values()).map(|s| s.elements.len()).sum();
        Ok(Remains { links, elements, records: agent.status()?.workloads.len() })
    }
}

impl std::fmt::Display for Remains {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} links, {} elements, {} records", self.links.len(), self.elements, self.records)
    }
}
