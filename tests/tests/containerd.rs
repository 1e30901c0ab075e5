//! Networks under `ctr run --cni`, the shortest way through containerd.

use anyhow::Result;
use weft_tests::containerd::{Containerd, Release};
use weft_tests::weft::Mode;
use weft_tests::{Network, Sandbox, suite};

fn run_suite(network: &Network, release: Release) -> Result<()> {
    let sandbox = Sandbox::new()?;
    suite::run(&sandbox, network, &Containerd::start(&sandbox, network, release)?)
}

#[test]
fn suite_with_the_reference_network() -> Result<()> {
    run_suite(&Network::reference(), Release::installed()?)
}

#[test]
fn suite_with_the_reference_network_in_containerd_2() -> Result<()> {
    run_suite(&Network::reference(), Release::two()?)
}

#[test]
fn suite_with_weft_routed() -> Result<()> {
    run_suite(&Network::weft(Mode::Routed)?, Release::installed()?)
}

#[test]
fn suite_with_weft_bridge_in_containerd_2() -> Result<()> {
    run_suite(&Network::weft(Mode::Bridge)?, Release::two()?)
}
