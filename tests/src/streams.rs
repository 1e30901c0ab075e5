//! Traffic that runs while hosts fail, and must lose nothing.

#![allow(clippy::print_stdout, reason = "measured figures belong into a test's output")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};
use weft_lab::traffic::Pulse;

use crate::scene::Workload;

/// Streams between workloads, each with its name.
pub struct Streams(Vec<(String, Pulse)>);

impl Streams {
    /// Between these pairs of workloads: datagrams of both families and a connection, a hundred packets a second
    /// each.
    ///
    /// # Errors
    /// Those of sockets.
    pub fn between(talkers: &[Workload], pairs: &[(usize, usize)]) -> Result<Streams> {
        let mut streams = Vec::new();
        for (from, to) in pairs {
            let (a, b) = (talkers[*from].namespace.netns(), talkers[*to].namespace.netns());
            for like in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
                let address = talkers[*to].address(like)?;
                streams.push((format!("datagrams {from} to {address}"), Pulse::datagrams(a, b, address)?));
            }
            let address = talkers[*to].address(IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
            streams.push((format!("connection {from} to {address}"), Pulse::connection(a, b, address)?));
        }
        Ok(Streams(streams))
    }

    /// Ends all; prints one line of figures, and fails if anything was lost.
    ///
    /// # Errors
    /// Names the streams that lost something.
    pub fn lost_nothing(self, during: &str) -> Result<()> {
        let (count, mut sent, mut gap) = (self.0.len(), 0, std::time::Duration::ZERO);
        let mut bad = Vec::new();
        for (what, stream) in self.0 {
            let figures = stream.finish().with_context(|| format!("{what}, {during}"))?;
            if figures.lost() > 0 {
                bad.push(format!("{what}: {figures:?}"));
            }
            (sent, gap) = (sent + figures.sent, gap.max(figures.gap));
        }
        println!(
            "{during}: {count} streams, {sent} packets sent, longest gap {} ms, bad: {}",
            gap.as_millis(),
            bad.len()
        );
        ensure!(bad.is_empty(), "{during}: {bad:#?}");
        Ok(())
    }
}
