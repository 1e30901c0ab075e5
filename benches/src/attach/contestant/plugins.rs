//! The reference plugins (Debian: containernetworking-plugins), executed as libcni does: one after the
//! other, each handed the result of the one before; backwards to detach.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::host::{Host, Seat};
use crate::program;

/// Where Debian puts them.
pub(crate) const FOLDER: &str = "/usr/lib/cni";

/// A list of plugins with their configurations.
pub(crate) struct Chain {
    plugins: Vec<Value>,
    /// One port of the host is published for each container.
    publish: bool,
}

/// `bridge` with `host-local`, IPv4.
pub(crate) fn bridge(host: &Host) -> Chain {
    let plugin = json!({ "type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": ipam(host, false) });
    Chain { plugins: vec![plugin], publish: false }
}

/// The same with both families, which is what weft gives.
pub(crate) fn bridge_dual(host: &Host) -> Chain {
    let plugin = json!({ "type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": ipam(host, true) });
    Chain { plugins: vec![plugin], publish: false }
}

/// `ptp` with `host-local`, IPv4.
pub(crate) fn ptp(host: &Host) -> Chain {
    Chain { plugins: vec![json!({ "type": "ptp", "ipam": ipam(host, false) })], publish: false }
}

/// `bridge` with masquerading, then `portmap`, then `tuning`: what distributions set up for containerd and
/// podman. With `publish`, each container has one port published, otherwise `portmap` has nothing to do.
pub(crate) fn bridge_chain(host: &Host, publish: bool) -> Chain {
    let bridge = json!({
        "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "ipam": ipam(host, false),
    });
    let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
    let tuning = json!({ "type": "tuning", "sysctl": { "net.core.somaxconn": "500" } });
    Chain { plugins: vec![bridge, portmap, tuning], publish }
}

/// Leases lie in memory: on a disk they would be slower.
fn ipam(host: &Host, dual: bool) -> Value {
    let v4 = json!([{ "subnet": "10.202.0.0/16" }]);
    let v6 = json!([{ "subnet": "fd00:f200::/64" }]);
    let ranges = if dual { json!([v4, v6]) } else { json!([v4]) };
    let mut routes = vec![json!({ "dst": "0.0.0.0/0" })];
    if dual {
        routes.push(json!({ "dst": "::/0" }));
    }
    json!({ "type": "host-local", "ranges": ranges, "routes": routes, "dataDir": host.dir.join("leases") })
}

impl Chain {
    pub(super) fn publishes(&self) -> bool {
        self.publish
    }

    /// The configuration of one plugin, as libcni derives it.
    fn conf(&self, plugin: &Value, seat: &Seat, previous: &Value) -> Value {
        let mut conf = plugin.clone();
        conf["cniVersion"] = json!("1.0.0");
        conf["name"] = json!("bench");
        if !previous.is_null() {
            conf["prevResult"] = previous.clone();
        }
        if self.publish && plugin["type"] == "portmap" {
            conf["runtimeConfig"] = json!({ "portMappings": [mapping(seat)] });
        }
        conf
    }

    pub(super) fn add(&self, seat: &Seat) -> Result<(Duration, Value)> {
        let (mut whole, mut previous) = (Duration::ZERO, Value::Null);
        for plugin in &self.plugins {
            let (took, result) =
                program::cni(&path(plugin), "ADD", seat, &self.conf(plugin, seat, &previous))?;
            whole += took;
            previous = result;
        }
        Ok((whole, previous))
    }

    pub(super) fn del(&self, seat: &Seat, result: &Value) -> Result<Duration> {
        let mut whole = Duration::ZERO;
        for plugin in self.plugins.iter().rev() {
            whole += program::cni(&path(plugin), "DEL", seat, &self.conf(plugin, seat, result))?.0;
        }
        Ok(whole)
    }
}

/// A container's port 80, published at a port of the host that no other seat has.
pub(super) fn mapping(seat: &Seat) -> Value {
    json!({ "hostPort": published_port(seat), "containerPort": 80, "protocol": "tcp" })
}

/// The port of the host that is published for a container.
pub(crate) fn published_port(seat: &Seat) -> u16 {
    10_000 + seat.number
}

fn path(plugin: &Value) -> std::path::PathBuf {
    Path::new(FOLDER).join(plugin["type"].as_str().unwrap_or_default())
}
