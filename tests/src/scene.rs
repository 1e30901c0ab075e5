//! A host with an agent on an underlay, its networks and workloads: what topology tests play on.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use ipnet::IpNet;
use weft_lab::{Host, Namespace, Underlay};
use weft_model::api::{Attached, NetworkSpec};
use weft_model::{Mode, NetworkName};

use crate::programs;

/// Not Ethernet's 1500, so that a default can be told from what was found out.
pub const MTU: u32 = 1400;
/// For what happens within milliseconds on a machine that is not starved.
pub const SOON: Duration = Duration::from_secs(10);

/// The families of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both.
    Dual,
}

impl Families {
    /// Whether a network of these has addresses like this one.
    #[must_use]
    pub fn has(self, like: IpAddr) -> bool {
        !matches!((self, like.is_ipv4()), (Families::V4, false) | (Families::V6, true))
    }
}

/// One cell of the matrix of modes and families.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// How wires join the network.
    pub mode: Mode,
    /// Its addresses.
    pub families: Families,
}

/// Makes of functions that take a [`Case`] one test per mode and families.
#[macro_export]
macro_rules! matrix {
    ($($test:ident),+ $(,)?) => {
        $crate::matrix!(@ routed_v4 Routed V4 $($test)+);
        $crate::matrix!(@ routed_v6 Routed V6 $($test)+);
        $crate::matrix!(@ routed_dual Routed Dual $($test)+);
        $crate::matrix!(@ bridge_v4 Bridge V4 $($test)+);
        $crate::matrix!(@ bridge_v6 Bridge V6 $($test)+);
        $crate::matrix!(@ bridge_dual Bridge Dual $($test)+);
    };
    (@ $cell:ident $mode:ident $families:ident $($test:ident)+) => {
        mod $cell {
            $(#[test]
            fn $test() -> anyhow::Result<()> {
                super::$test($crate::scene::Case {
                    mode: weft_model::Mode::$mode,
                    families: $crate::scene::Families::$families,
                })
            })+
        }
    };
}

/// A host on an underlay, its agent running.
pub struct Scene {
    /// The host.
    pub host: Host,
    /// What is around it.
    pub underlay: Underlay,
}

impl Scene {
    /// Makes it, and starts the agent.
    ///
    /// # Errors
    /// What is missing, or the agent's last words.
    pub fn new() -> Result<Scene> {
        Scene::with_config(&[])
    }

    /// As [`new`](Self::new), with more lines of configuration.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_config(lines: &[&str]) -> Result<Scene> {
        programs::require(&[])?;
        let underlay = Underlay::new(MTU)?;
        let mut host = Host::new(&underlay, program()?)?;
        host.configure(lines)?;
        host.start_agent()?;
        Ok(Scene { host, underlay })
    }

    /// Declares a network; `number` tells its subnets from those of others.
    ///
    /// # Errors
    /// The agent's.
    pub fn network(&self, number: u8, case: Case) -> Result<NetworkName> {
        let name: NetworkName = format!("net{number}").parse()?;
        let all = [format!("10.101.{number}.0/24"), format!("fd10:101:{number}::/64")];
        let all = all.iter().map(|s| s.parse::<IpNet>()).collect::<Result<Vec<_>, _>>()?;
        let subnets = all.into_iter().filter(|s| case.families.has(s.addr())).collect();
        let (mode, mtu) = (case.mode, None);
        let spec = NetworkSpec {
            name: name.clone(),
            subnets,
            mode,
            mtu,
            masquerade: true,
            encapsulation: weft_model::Encapsulation::Auto,
            explain: false,
        };
        self.host.create_network(spec)?;
        Ok(name)
    }

    /// Attaches a new workload.
    ///
    /// # Errors
    /// The agent's.
    pub fn workload(&self, network: &NetworkName) -> Result<Workload> {
        Workload::attach(Namespace::new()?, &self.host, network)
    }

    /// Attaches a new workload with published ports, as they are typed.
    ///
    /// # Errors
    /// The agent's.
    pub fn publish(&self, network: &NetworkName, ports: &[&str]) -> Result<Workload> {
        let namespace = Namespace::new()?;
        let mut wish = namespace.wish(network, "eth0")?;
        wish.profile.ports = ports.iter().map(|p| p.parse()).collect::<Result<_, _>>()?;
        let attached = Namespace::attach_as(&self.host, wish)?;
        Ok(Workload { namespace, attached })
    }

    /// Fails unless `work` lets the counter of a refusal rise by at least `by`.
    ///
    /// # Errors
    /// Those of `work`, or that the counter did not rise.
    pub fn refuses<T>(&self, reason: &str, by: u64, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let before = self.host.refused(reason)?;
        let value = work()?;
        let risen = self.host.refused(reason)? - before;
        ensure!(risen >= by, "the counter '{reason}' rose by {risen} instead of {by}");
        Ok(value)
    }
}

/// A workload with an interface.
pub struct Workload {
    /// Its namespace.
    pub namespace: Namespace,
    /// What the agent said of its interface.
    pub attached: Attached,
}

impl Workload {
    /// Attaches a namespace's `eth0`.
    ///
    /// # Errors
    /// The agent's.
    pub fn attach(namespace: Namespace, host: &Host, network: &NetworkName) -> Result<Workload> {
        let attached = namespace.attach(host, network)?;
        Ok(Workload { namespace, attached })
    }

    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.attached.addresses.iter().map(|a| a.address.addr())
    }

    /// Its address of the same family.
    ///
    /// # Errors
    /// If it has none.
    pub fn address(&self, like: IpAddr) -> Result<IpAddr> {
        let mut same = self.addresses().filter(|a| a.is_ipv4() == like.is_ipv4());
        same.next().with_context(|| format!("the workload has no address like {like}"))
    }

    /// The address of its gateway of the same family.
    ///
    /// # Errors
    /// If it has none.
    pub fn gateway(&self, like: IpAddr) -> Result<IpAddr> {
        let same = self.attached.addresses.iter().find(|a| a.address.addr().is_ipv4() == like.is_ipv4());
        Ok(same.with_context(|| format!("the workload has no gateway like {like}"))?.gateway)
    }
}

/// Any port of both families.
#[must_use]
pub fn anywhere(port: u16) -> SocketAddr {
    SocketAddr::from(([0_u16; 8], port))
}

/// Where `weft` is: in the folder that the variable `WEFT_BIN` names, or built from this workspace.
///
/// # Errors
/// The compiler's words.
pub fn program() -> Result<&'static Path> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| build().map_err(|e| format!("{e:#}")));
    program.as_deref().map_err(|e| anyhow!("there is no weft to test: {e}"))
}

fn build() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("WEFT_BIN") {
        let program = PathBuf::from(folder).join("weft");
        ensure!(programs::is_executable(&program), "{} is no program", program.display());
        return Ok(program);
    }
    // This test is in `target/PROFILE/deps`.
    let own = std::env::current_exe().context("failed to find this test's own file")?;
    let profile = own.ancestors().nth(2).context("this test is in no build folder")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "weft"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.file_name().is_some_and(|name| name == "release") {
        cargo.arg("--release");
    }
    if let Some(target) = profile.parent() {
        cargo.arg("--target-dir").arg(target);
    }
    let output = cargo.output().context("failed to run cargo")?;
    if !output.status.success() {
        bail!("failed to build it:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(profile.join("weft"))
}
