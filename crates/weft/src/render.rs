//! The agent's answers as text for people.

pub(crate) mod image;
mod peer;
mod status;

use std::path::Path;

use weft_model::AttachmentId;
use weft_model::api::{Attached, NetworkStatus, PoolStatus};

use crate::cli::Session;
use crate::output::{Output, entry};
use crate::table::Table;

pub(crate) use peer::{explanation, peers};
pub(crate) use status::{members, status, workloads};

mod bandwidth;
mod doctor;
pub(crate) use bandwidth::limits;
pub(crate) use doctor::findings;

/// Equivalent commands as a shell script. It says of itself that nothing has been changed, so that
/// it can be kept in a file.
pub(crate) fn script(session: &Session, what: &str, commands: &[String]) -> anyhow::Result<()> {
    session.output.show(
        || entry("commands", commands),
        || {
            let body: String = match commands {
                [] => "# nothing to do\n".to_owned(),
                all => all.iter().map(|c| format!("{c}\n")).collect(),
            };
            format!("#!/bin/sh\n# To {}. Nothing was changed.\nset -e\n{body}", one_line(what))
        },
    )
}

/// A path may hold any byte; in a comment of a script it must not begin a new line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A fresh interface.
pub(crate) fn attached(output: Output, id: &AttachmentId, netns: &Path, attached: &Attached) -> String {
    let mut table = Table::plain();
    let mut row = |key: &str, value: String| table.row([key.to_owned(), value]);
    row("network", id.network.to_string());
    row("container", id.container.to_string());
    row("namespace", netns.display().to_string());
    row("interface", format!("{}  {}  mtu {}", id.ifname, attached.mac, attached.mtu));
    for address in &attached.addresses {
        row("address", format!("{}  gateway {}", address.address, address.gateway));
    }
    row("host end", format!("{}  {}", attached.host_ifname, attached.host_mac));
    if let Some((name, mac)) = &attached.bridge {
        row("bridge", format!("{name}  {mac}"));
    }
    table.render(output)
}

/// One line per network.
pub(crate) fn networks(output: Output, networks: &[NetworkStatus]) -> String {
    let mut table =
        Table::new(["NETWORK", "MODE", "SUBNETS", "MTU", "DEVICE", "WORKLOADS", "FREE"]).right(3).right(5);
    for status in networks {
        let network = &status.network;
        table.row([
            network.name.to_string(),
            network.mode.as_str().to_owned(),
            list(network.subnets()),
            status.effective_mtu.to_string(),
            status.device.to_string(),
            status.workloads.to_string(),
            list(status.pools.iter().map(|p| count(p.usable.saturating_sub(p.used)))),
        ]);
    }
    table.render(output)
}

/// One network in full.
pub(crate) fn network(output: Output, status: &NetworkStatus) -> String {
    let network = &status.network;
    let mut table = Table::plain();
    let mut row = |key: &str, value: String| table.row([key.to_owned(), value]);
    row("network", network.name.to_string());
    row("mode", network.mode.as_str().to_owned());
    row("device", status.device.to_string());
    let asked = if network.mtu.is_some() { "as declared" } else { "from the uplink" };
    row("mtu", format!("{}  {asked}", status.effective_mtu));
    row("masquerade", if network.masquerade { "yes" } else { "no" }.to_owned());
    if let Some(vni) = network.vni {
        row("other hosts", format!("{}  number {}", network.encapsulation.as_str(), vni.get()));
    }
    row("workloads", status.workloads.to_string());
    for PoolStatus { subnet, used, resting, usable } in &status.pools {
        row("subnet", format!("{subnet}  {used} used, {resting} resting, {} usable", count(*usable)));
    }
    table.render(output)
}

pub(crate) fn list(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|i| i.to_string()).collect::<Vec<_>>().join(", ")
}

/// A number of addresses; beyond some size nobody counts.
fn count(n: u64) -> String {
    if n >= 1 << 32 { "plenty".to_owned() } else { n.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_break_out_of_the_comment() {
        assert_eq!(one_line("/x\nrm -rf y"), "/x?rm -rf y");
    }

    #[test]
    fn large_pools_are_plenty() {
        assert_eq!((count(253).as_str(), count(u64::MAX).as_str()), ("253", "plenty"));
    }
}
