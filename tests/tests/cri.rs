//! Networks under containerd's CRI, as a kubelet calls it.

use anyhow::{Result, ensure};
use weft_tests::containerd::{Containerd, Release, SOCKET};
use weft_tests::cri::message::RuntimeCondition;
use weft_tests::cri::{Cri, pod_config};
use weft_tests::weft::Mode;
use weft_tests::{Network, Sandbox, suite, wait};

fn network_ready(cri: &Cri, wanted: bool) -> Result<RuntimeCondition> {
    wait::until("NetworkReady to change", wait::LONG, || {
        let ready = cri.condition("NetworkReady")?;
        ensure!(
            ready.status == wanted,
            "NetworkReady is {}: {} {}",
            ready.status,
            ready.reason,
            ready.message
        );
        Ok(ready)
    })
}

fn run_suite(network: &Network, release: Release) -> Result<()> {
    let sandbox = Sandbox::new()?;
    let _containerd = Containerd::start(&sandbox, network, release)?;
    let cri = Cri::connect(&sandbox, SOCKET)?;
    network_ready(&cri, true)?;
    suite::run(&sandbox, network, &cri)
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
fn suite_with_the_routed_reference_network() -> Result<()> {
    run_suite(&Network::reference_routed(), Release::installed()?)
}

/// Speaks CNI 1.1; STATUS answers by whether a file is there, ADD always refuses.
const STATUS_PLUGIN: &str = r#"#!/bin/sh
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}' ;;
STATUS) [ -e /run/agent-is-up ] || { echo '{"cniVersion":"1.1.0","code":50,"msg":"the agent is down"}'; exit 1; } ;;
ADD) echo '{"cniVersion":"1.1.0","code":11,"msg":"try again later"}'; exit 1 ;;
esac
"#;

/// containerd 2 asks every few seconds, and the node is ready exactly while the answer is good.
#[test]
fn network_ready_follows_status_in_containerd_2() -> Result<()> {
    let conflist = r#"{"cniVersion":"1.1.0","name":"told","plugins":[{"type":"told"}]}"#;
    let sandbox = Sandbox::new()?;
    sandbox.write("/run/plugins/told", STATUS_PLUGIN)?;
    sandbox.run(&["chmod", "755", "/run/plugins/told"])?;
    let network = Network::new(sandbox.path("/run/plugins"), conflist)?;
    let _containerd = Containerd::start(&sandbox, &network, Release::two()?)?;
    let cri = Cri::connect(&sandbox, SOCKET)?;
    let told = network_ready(&cri, false)?;
    ensure!(told.message.contains("the agent is down"), "the plugin's words are lost: {told:?}");
    sandbox.write("/run/agent-is-up", "")?;
    network_ready(&cri, true)?;
    // A refused ADD reaches whoever asked for the pod, in the plugin's words.
    let refused = cri.run_pod_sandbox(&pod_config("refused"));
    ensure!(refused.as_ref().is_err_and(|e| format!("{e:#}").contains("try again later")), "{refused:?}");
    sandbox.run(&["rm", "/run/agent-is-up"])?;
    network_ready(&cri, false).map(|_| ())
}

#[test]
fn suite_with_weft_routed() -> Result<()> {
    run_suite(&Network::weft(Mode::Routed)?, Release::installed()?)
}

#[test]
fn suite_with_weft_bridge() -> Result<()> {
    run_suite(&Network::weft(Mode::Bridge)?, Release::installed()?)
}

#[test]
fn suite_with_weft_routed_in_containerd_2() -> Result<()> {
    run_suite(&Network::weft(Mode::Routed)?, Release::two()?)
}
