//! Who competes: each with a host of its own, and the same two verbs.

mod netavark;
mod plugins;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use weft_benches::floor::{self, Wire};

use crate::host::{Host, Seat};
use crate::program;

pub(crate) use netavark::{Netavark, driver as netavark_driver};
pub(crate) use plugins::{Chain, bridge, bridge_chain, bridge_dual, ptp, published_port};

/// Somebody who can attach and detach.
pub(crate) struct Contestant {
    /// As it stands in the table.
    pub(crate) name: String,
    /// Where it works.
    pub(crate) host: Host,
    kind: Kind,
}

/// How it is spoken to.
pub(crate) enum Kind {
    /// The floor's work in this process.
    InProcess,
    /// The floor as a program.
    Floor(PathBuf),
    /// weft's plugin with its configuration, and whether one port of the host is published for each container.
    Weft(PathBuf, Value, bool),
    /// CNI's reference plugins.
    Plugins(Chain),
    /// podman's.
    Netavark(Netavark),
}

/// An attachment that was made.
#[derive(Debug)]
pub(crate) struct Added {
    /// How long it took.
    pub(crate) took: Duration,
    /// What the program answered.
    pub(crate) answer: Value,
}

impl Contestant {
    /// A contestant with a fresh host.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn new(name: &str, kind: impl FnOnce(&Host) -> Kind) -> Result<Contestant> {
        let host = Host::new(&name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"))?;
        let kind = kind(&host);
        Ok(Contestant { name: name.to_owned(), host, kind })
    }

    /// Whether it is weft itself.
    pub(crate) fn is_weft(&self) -> bool {
        matches!(self.kind, Kind::Weft(..))
    }

    /// Whether one port of the host is published for each container.
    pub(crate) fn publishes(&self) -> bool {
        match &self.kind {
            Kind::Weft(_, _, publish) => *publish,
            Kind::Plugins(chain) => chain.publishes(),
            _ => false,
        }
    }

    /// Attaches. The time is that of the programs executed, one after the other where there are several.
    ///
    /// # Errors
    /// What they said.
    pub(crate) fn add(&self, seat: &Seat) -> Result<Added> {
        let _inside = self.host.enter()?;
        let (took, answer) = match &self.kind {
            Kind::InProcess => {
                let begin = Instant::now();
                floor::add(&Wire::new(seat.number), &seat.netns)?;
                (begin.elapsed(), Value::Null)
            }
            Kind::Floor(path) => floor_program(path, "add", seat)?,
            Kind::Weft(path, conf, publish) => {
                program::cni(path, "ADD", seat, &for_seat(conf, *publish, seat))?
            }
            Kind::Plugins(chain) => chain.add(seat)?,
            Kind::Netavark(netavark) => netavark.setup(seat)?,
        };
        Ok(Added { took, answer })
    }

    /// Detaches what `added` tells of.
    ///
    /// # Errors
    /// What the programs said.
    pub(crate) fn del(&self, seat: &Seat, added: &Added) -> Result<Duration> {
        let _inside = self.host.enter()?;
        match &self.kind {
            Kind::InProcess => {
                let begin = Instant::now();
                floor::delete(&Wire::new(seat.number))?;
                Ok(begin.elapsed())
            }
            Kind::Floor(path) => Ok(floor_program(path, "del", seat)?.0),
            Kind::Weft(path, conf, publish) => {
                Ok(program::cni(path, "DEL", seat, &for_seat(conf, *publish, seat))?.0)
            }
            Kind::Plugins(chain) => chain.del(seat, &added.answer),
            Kind::Netavark(netavark) => netavark.teardown(seat),
        }
    }
}

fn floor_program(path: &PathBuf, verb: &str, seat: &Seat) -> Result<(Duration, Value)> {
    let mut command = Command::new(path);
    command.env_clear().arg(verb).arg(seat.number.to_string()).arg(&seat.netns);
    let (took, _) = program::run(&mut command, b"")?;
    Ok((took, Value::Null))
}

/// weft's plugin for a network of the agent on that host.
pub(crate) fn weft(plugin: PathBuf, host: &Host, network: &str, publish: bool) -> Kind {
    let conf = json!({
        "cniVersion": "1.0.0",
        "name": "weft",
        "type": "weft",
        "network": network,
        "socket": host.dir.join("run/agent.sock"),
        "journal": host.dir.join("run/journal"),
    });
    Kind::Weft(plugin, conf, publish)
}

/// What a runtime adds to the configuration for one container.
fn for_seat(conf: &Value, publish: bool, seat: &Seat) -> Value {
    let mut conf = conf.clone();
    if publish {
        conf["runtimeConfig"] = json!({ "portMappings": [plugins::mapping(seat)] });
    }
    conf
}
