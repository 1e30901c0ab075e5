//! A host with weft's real agent, and nothing else in its network: for faults and recovery.
//!
//! The host is a [`Sandbox`]. The test speaks to the agent's socket itself, looks at the kernel with other
//! programs than weft's, and kills the agent by the number of the one process it started.

mod agent;

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Pid;
use weft_kernel::netns::Netns;
use weft_model::AttachmentId;
use weft_model::api::{Attach, Attached, Detach, NetworkSpec, NetworkStatus, Reply, Request, Status};

pub use self::agent::Agent;
use self::agent::tail;
use crate::{Confinement, Sandbox, programs, wait};

/// The promise that the agent answers after its start is two seconds with 1,000 workloads; ten times that.
pub const START: Duration = Duration::from_secs(20);
/// Repairs are promised within a second (DESIGN.md, invariant 8).
pub const REPAIR: Duration = Duration::from_secs(10);

const SOCKET: &str = "/run/weft/agent.sock";
const LOG: &str = "/run/weft-agent.log";

/// A host on which weft can run.
pub struct Host {
    sandbox: Sandbox,
}

/// A network to be declared, in short: name, mode and subnets.
pub type Net<'a> = (&'a str, weft_model::Mode, &'a [&'a str]);

impl Host {
    /// Makes the host and brings weft's programs there. Nothing runs yet.
    ///
    /// # Errors
    /// Names what is missing.
    pub fn new() -> Result<Host> {
        programs::require(&["ip", "nft", "ping", "sysctl"])?;
        let sandbox = Sandbox::new()?;
        let folder = crate::weft::programs_folder()?;
        sandbox.copy_in(&folder.join("weft"), "/opt/weft/weft")?;
        sandbox.copy_in(&folder.join("weft-cni"), "/opt/cni/bin/weft")?;
        // Programs at the loopback need a BPF file system of the host's own, too: for tests that want them.
        let config = "default_network = false\npublish_on_loopback = false\n";
        sandbox.write("/etc/weft/config.toml", config)?;
        Ok(Host { sandbox })
    }

    /// A host with an agent and these networks.
    ///
    /// # Errors
    /// The agent's.
    pub fn with_networks(networks: &[Net<'_>]) -> Result<(Host, Agent)> {
        let host = Host::new()?;
        let agent = host.start(&[])?;
        for network in networks {
            host.create_network(network)?;
        }
        Ok((host, agent))
    }

    /// The host itself.
    #[must_use]
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Runs a shell script on the host.
    ///
    /// # Errors
    /// What it said.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.sandbox.sh(script)
    }

    /// Starts the agent and waits until it answers.
    ///
    /// # Errors
    /// The end of its log, if it ended or did not answer within [`START`].
    pub fn start(&self, environment: &[(&str, &str)]) -> Result<Agent> {
        let mut agent = self.launch(environment)?;
        self.await_answer(&mut agent)?;
        Ok(agent)
    }

    fn await_answer(&self, agent: &mut Agent) -> Result<()> {
        wait::until("the agent to answer", START, || {
            if let Some(status) = agent.child.try_wait()? {
                return Ok(Err(anyhow::anyhow!("the agent ended at once: {status}\n{}", agent.log())));
            }
            self.ask(&Request::NetworkList).map(|_| Ok(()))
        })?
    }

    /// Starts the agent and does not wait.
    ///
    /// # Errors
    /// If there is no such program.
    pub fn launch(&self, environment: &[(&str, &str)]) -> Result<Agent> {
        self.launch_by(environment, "", |mut command| Ok(command.spawn()?))
    }

    /// Starts the agent within these limits and waits until it answers.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_confined(&self, limits: &Confinement) -> Result<Agent> {
        let mut agent = self.launch_by(&[], &limits.wrapper(), |command| limits.spawn(command))?;
        self.await_answer(&mut agent)?;
        Ok(agent)
    }

    fn launch_by(
        &self,
        environment: &[(&str, &str)],
        wrapper: &str,
        spawn: impl FnOnce(std::process::Command) -> Result<std::process::Child>,
    ) -> Result<Agent> {
        let script = format!("exec {wrapper} /opt/weft/weft agent >>{LOG} 2>&1");
        let mut command = self.sandbox.command("sh");
        command.args(["-c", &script]).envs(environment.iter().copied());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = spawn(command)?;
        // nsenter forks to enter the process namespace; its only child becomes the agent.
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let pid = wait::until("the agent's process", wait::LONG, || {
            if let Some(status) = child.try_wait()? {
                return Ok(Err(anyhow::anyhow!(
                    "the agent ended at once: {status}\n{}",
                    tail(&self.sandbox.path(LOG))
                )));
            }
            let numbers = std::fs::read_to_string(&children)?;
            let number = numbers.split_whitespace().next().context("no process yet")?;
            Pid::from_raw(number.parse()?).context("no process number").map(Ok)
        })??;
        Ok(Agent { child, pid, log: self.sandbox.path(LOG) })
    }

    /// Asks the agent.
    ///
    /// # Errors
    /// If nobody answers; an error of the agent's is a reply like others.
    pub fn ask(&self, request: &Request) -> Result<Reply> {
        let mut stream = UnixStream::connect(self.sandbox.path(SOCKET)).context("no agent")?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut reply = String::new();
        BufReader::new(stream).read_line(&mut reply)?;
        ensure!(reply.ends_with('\n'), "the agent went away before it answered");
        Ok(serde_json::from_str(&reply)?)
    }

    /// Declares a network.
    ///
    /// # Errors
    /// The agent's.
    pub fn create_network(&self, (name, mode, subnets): &Net<'_>) -> Result<NetworkStatus> {
        let subnets = subnets.iter().map(|s| s.parse()).collect::<Result<_, _>>()?;
        let spec = NetworkSpec {
            name: name.parse()?,
            subnets,
            mode: *mode,
            mtu: None,
            masquerade: true,
            encapsulation: weft_model::Encapsulation::Auto,
            explain: false,
        };
        match self.ask(&Request::NetworkCreate(spec))? {
            Reply::Network(status) => Ok(*status),
            other => bail!("the network {name} was not made: {other:?}"),
        }
    }

    /// Makes named namespaces, as runtimes do.
    ///
    /// # Errors
    /// `ip netns add`'s.
    pub fn namespaces(&self, names: &[String]) -> Result<()> {
        for some in names.chunks(500) {
            self.sh(&format!("for n in {}; do ip netns add $n; done", some.join(" ")))?;
        }
        Ok(())
    }

    /// A wish for `eth0` in the namespace that bears the container's name.
    ///
    /// # Errors
    /// If a name is not one.
    pub fn wish(network: &str, container: &str) -> Result<Attach> {
        Ok(Attach {
            id: id(network, container)?,
            owner: Default::default(),
            netns: format!("/run/netns/{container}").into(),
            ips: Vec::new(),
            ranges: Vec::new(),
            assigned: Vec::new(),
            mac: None,
            host_ifname: None,
            pod: None,
            profile: Default::default(),
            explain: false,
        })
    }

    /// Attaches `eth0` of a container whose namespace bears its name.
    ///
    /// # Errors
    /// The agent's.
    pub fn attach(&self, network: &str, container: &str) -> Result<Attached> {
        self.attach_as(Host::wish(network, container)?)
    }

    /// Attaches.
    ///
    /// # Errors
    /// The agent's.
    pub fn attach_as(&self, wish: Attach) -> Result<Attached> {
        match self.ask(&Request::Attach(Box::new(wish)))? {
            Reply::Attached(attached) => Ok(*attached),
            Reply::Error(error) => Err(error.into()),
            other => bail!("attach was answered with {other:?}"),
        }
    }

    /// Detaches.
    ///
    /// # Errors
    /// The agent's.
    pub fn detach(&self, network: &str, container: &str) -> Result<()> {
        match self.ask(&Request::Detach(named(network, container)?))? {
            Reply::Done { .. } => Ok(()),
            Reply::Error(error) => Err(error.into()),
            other => bail!("detach was answered with {other:?}"),
        }
    }

    /// What is wrong with an attachment.
    ///
    /// # Errors
    /// If there is none.
    pub fn check(&self, network: &str, container: &str) -> Result<Vec<String>> {
        match self.ask(&Request::Check(named(network, container)?))? {
            Reply::Checked(wrong) => Ok(wrong),
            Reply::Error(error) => Err(error.into()),
            other => bail!("check was answered with {other:?}"),
        }
    }

    /// The agent's view.
    ///
    /// # Errors
    /// If nobody answers.
    pub fn status(&self) -> Result<Status> {
        match self.ask(&Request::Status)? {
            Reply::Status(status) => Ok(*status),
            other => bail!("status was answered with {other:?}"),
        }
    }

    /// What the agent would change now.
    ///
    /// # Errors
    /// If nobody answers.
    pub fn diff(&self) -> Result<Vec<String>> {
        match self.ask(&Request::Diff)? {
            Reply::Diff(commands) => Ok(commands),
            other => bail!("diff was answered with {other:?}"),
        }
    }

    /// Waits until the kernel holds just what is planned: what goes with a DEL goes a moment after it.
    ///
    /// # Errors
    /// What is still to be done after [`REPAIR`].
    pub fn settles(&self) -> Result<()> {
        wait::until("the kernel to hold what is planned", REPAIR, || {
            let left = self.diff()?;
            ensure!(left.is_empty(), "{left:#?}");
            Ok(())
        })
    }

    /// A container's namespace.
    ///
    /// # Errors
    /// If it is gone.
    pub fn netns(&self, name: &str) -> Result<Netns> {
        Ok(Netns::open(&self.sandbox.path(format!("/run/netns/{name}")))?)
    }

    /// Sends one packet from a container and waits for the answer.
    ///
    /// # Errors
    /// If none came within two seconds.
    pub fn ping(&self, from: &str, to: IpAddr) -> Result<()> {
        let to = to.to_string();
        self.sandbox.run(&["ip", "netns", "exec", from, "ping", "-n", "-c1", "-W2", &to]).map(|_| ())
    }

    /// All that the host's network holds, as `ip` and `nft` see it, without what differs by nature (indexes,
    /// counters, ages). Lines are sorted, so that two of these can be compared.
    ///
    /// # Errors
    /// If the programs fail.
    pub fn dump(&self) -> Result<String> {
        let text = self.sh(DUMP)?;
        let mut lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        lines.sort_unstable();
        Ok(lines.join("\n"))
    }

    /// All that a container's network holds, likewise; but for its loopback, which an attach sets up and
    /// a detach leaves as it is, because it may not be the container's only interface.
    ///
    /// # Errors
    /// If the programs fail.
    pub fn dump_inside(&self, container: &str) -> Result<String> {
        let text = self.sandbox.run(&["ip", "netns", "exec", container, "sh", "-ec", DUMP])?;
        let of_others = |line: &&str| !line.contains(" lo ") && !line.contains(" lo:");
        let mut lines: Vec<&str> = text.lines().map(str::trim_end).filter(of_others).collect();
        lines.sort_unstable();
        Ok(lines.join("\n"))
    }

    /// Waits until [`dump`](Self::dump) is `wanted` again; returns how long that took.
    ///
    /// # Errors
    /// The difference, after `bound`.
    pub fn await_dump(&self, what: &str, wanted: &str, bound: Duration) -> Result<Duration> {
        let start = std::time::Instant::now();
        wait::until(what, bound, || {
            let now = self.dump()?;
            ensure!(now == wanted, "{}", difference(wanted, &now));
            Ok(())
        })?;
        Ok(start.elapsed())
    }
}

/// Indexes and states are cut off: the ones differ by nature, the others settle later. Routes of all tables,
/// because the local one shows addresses.
const DUMP: &str = r#"
    ip -o link | sed -E 's/^[0-9]+: /link /; s/@if[0-9]+:/:/; s/qlen [0-9]+//; s/state [A-Z]+//; s/NO-CARRIER,|,LOWER_UP//g; s/link-netns(id)? [^ ]+//'
    ip -o addr | sed -E 's/^[0-9]+: /address /'
    ip -4 route show table all | sed 's/^/route /; s/ linkdown//'
    ip -6 route show table all | sed 's/^/route6 /; s/ linkdown//'
    ip neigh show nud permanent | sed 's/^/neighbour /'
    ip rule | sed 's/^/rule /'; ip -6 rule | sed 's/^/rule6 /'
    nft -s list ruleset | awk '/^table/ { t = $2 " " $3; c = "" } $1 == "chain" || $1 == "set" { c = $2 } { print "nft", t, c, $0 }' |
        sed -E 's/elements = \{ //; s/,$//; s/ \}$//; s/[[:space:]]+/ /g'
    for f in /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding; do echo "$f $(cat $f)"; done
    cd /proc/sys/net/ipv6/conf
    for k in accept_ra accept_redirects autoconf addr_gen_mode disable_ipv6; do grep . */$k | sed 's/^/setting /'; done"#;

/// What has come and gone between two dumps.
#[must_use]
pub fn difference(before: &str, after: &str) -> String {
    let set = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    let (before, after) = (set(before), set(after));
    let come = after.difference(&before).map(|l| format!("+ {l}"));
    let gone = before.difference(&after).map(|l| format!("- {l}"));
    come.chain(gone).collect::<Vec<_>>().join("\n")
}

/// The identity of `eth0`.
///
/// # Errors
/// If a name is not one.
pub fn id(network: &str, container: &str) -> Result<AttachmentId> {
    Ok(AttachmentId { network: network.parse()?, container: container.parse()?, ifname: "eth0".parse()? })
}

fn named(network: &str, container: &str) -> Result<Detach> {
    Ok(Detach { id: id(network, container)?, netns: None, expect: Vec::new(), explain: false })
}
