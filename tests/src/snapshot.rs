//! What a host's network holds, to be the same before the first container and after the last.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::{Network, Sandbox};

/// Links, addresses, routes, rules, firewall, named namespaces and open leases of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Reads all of it, leaving out what belongs to interfaces that the network keeps by design.
    ///
    /// # Errors
    /// If `ip` or `nft` cannot be run.
    pub fn take(sandbox: &Sandbox, network: &Network) -> Result<Snapshot> {
        // -s leaves out counters. A bridge has no carrier once its last port is gone, which it had when new.
        // Kernel-made entries of the loopback are the same throughout.
        let script = "ip -o link | sed 's/^[0-9]*: /link /; s/@.*//; s/: .*//'
            ip -o addr | awk '{ print \"address\", $2, $3, $4 }'
            ip route show table all | sed 's/^/route /; s/ linkdown//'
            ip -6 route show table all | sed 's/^/route6 /; s/ linkdown//'
            ip rule | sed 's/^/rule /'; ip -6 rule | sed 's/^/rule6 /'
            nft -s list ruleset | sed 's/^/nft /'
            ls /run/netns | sed 's/^/namespace /'";
        let text = sandbox.sh(script)?;
        let kept = |line: &str| {
            line.split_whitespace().any(|word| network.kept_links().iter().any(|link| link == word))
        };
        let mut lines: BTreeSet<String> =
            text.lines().filter(|line| !kept(line)).map(|line| line.trim_end().to_owned()).collect();
        lines.extend(network.leaked(sandbox)?.into_iter().map(|leak| format!("leak {leak}")));
        Ok(Snapshot(lines))
    }

    /// Fails with the difference, if there is one.
    ///
    /// # Errors
    /// `+` marks what has come, `-` what has gone.
    pub fn same_as(&self, before: &Snapshot) -> Result<()> {
        let come = self.0.difference(&before.0).map(|line| format!("+ {line}"));
        let gone = before.0.difference(&self.0).map(|line| format!("- {line}"));
        let changes: Vec<String> = come.chain(gone).collect();
        ensure!(changes.is_empty(), "the host is not as it was before:\n{}", changes.join("\n"));
        Ok(())
    }
}
