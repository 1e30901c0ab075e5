//! Networks under containerd's CRI, as a kubelet calls it.

use anyhow::{Context, Result, ensure};
use weft_tests::containerd::{Containerd, Release, SOCKET};
use weft_tests::cri::Cri;
use weft_tests::{Network, Sandbox, suite, wait};

fn run_suite(network: &Network, release: Release) -> Result<()> {
    let sandbox = Sandbox::new()?;
    let containerd = Containerd::start(&sandbox, network, release)?;
    let cri = Cri::connect(&sandbox, SOCKET)?;
    wait::until("NetworkReady", wait::LONG, || {
        let ready = cri.condition("NetworkReady")?;
        ensure!(ready.status, "{}: {}", ready.reason, ready.message);
        Ok(())
    })?;
    suite::run(&sandbox, network, &cri)
        .with_context(|| format!("the end of containerd's log:\n{}", containerd.log()))
}

#[test]
fn suite_with_the_reference_network() -> Result<()> {
    run_suite(&Network::reference(), Release::installed()?)
}

#[test]
fn suite_with_the_reference_network_in_containerd_2() -> Result<()> {
    run_suite(&Network::reference(), Release::two()?)
}
