//! Networks under podman with its CNI backend: containers, and a pod.

use anyhow::{Result, ensure};
use weft_tests::engine::{self, PORT};
use weft_tests::images::BUSYBOX;
use weft_tests::podman::{Podman, Runtime};
use weft_tests::snapshot::Snapshot;
use weft_tests::weft::Mode;
use weft_tests::{Network, Sandbox, suite, wait};

fn run_suite(network: &Network, runtime: Runtime) -> Result<()> {
    let sandbox = Sandbox::new()?;
    suite::run(&sandbox, network, &Podman::start(&sandbox, network, runtime)?)
}

/// Two containers of a pod share one attachment, which goes with the pod and not with a container.
fn pod(network: &Network) -> Result<()> {
    let sandbox = Sandbox::new()?;
    let podman = Podman::start(&sandbox, network, Runtime::Crun)?;
    let before = Snapshot::take(&sandbox, network)?;
    podman.podman(&["pod", "create", "--name", "pod", "--network", network.name()])?;
    let [shell, flag, script] = engine::server("served");
    podman.podman(&["run", "--detach", "--pod=pod", "--name=server", BUSYBOX, &shell, &flag, &script])?;
    podman.podman(&["run", "--detach", "--pod=pod", "--name=client", BUSYBOX, "sleep", "1000"])?;
    let infra = podman.podman(&["pod", "inspect", "--format", "{{.InfraContainerID}}", "pod"])?;
    let addresses = podman.addresses(infra.trim())?;
    ensure!(!addresses.is_empty(), "no address reported for the pod");
    let answers = || -> Result<()> {
        for address in &addresses {
            ensure!(sandbox.http_get(*address, PORT)? == "served", "another page");
        }
        Ok(())
    };
    wait::until("the pod's page", wait::LONG / 2, &answers)?;
    let url = format!("http://127.0.0.1:{PORT}/");
    let page = podman.podman(&["exec", "client", "timeout", "20", "wget", "-q", "-O", "-", &url])?;
    ensure!(page.trim() == "served", "the neighbour in the pod got {page:?}");
    podman.podman(&["rm", "--force", "--time=0", "client"])?;
    wait::until("the page of the pod without its client", wait::LONG / 2, &answers)?;
    podman.podman(&["pod", "rm", "--force", "--time=0", "pod"])?;
    wait::until("a clean host", wait::LONG / 4, || Snapshot::take(&sandbox, network)?.same_as(&before))
}

#[test]
fn suite_with_the_reference_network_and_crun() -> Result<()> {
    run_suite(&Network::reference(), Runtime::Crun)
}

#[test]
fn suite_with_the_reference_network_and_runc() -> Result<()> {
    run_suite(&Network::reference(), Runtime::Runc)
}

#[test]
fn pod_in_the_reference_network() -> Result<()> {
    pod(&Network::reference())
}

#[test]
fn suite_with_weft_routed() -> Result<()> {
    run_suite(&Network::weft(Mode::Routed)?, Runtime::Crun)
}

#[test]
fn suite_with_weft_bridge() -> Result<()> {
    run_suite(&Network::weft(Mode::Bridge)?, Runtime::Runc)
}

#[test]
fn pod_in_weft() -> Result<()> {
    pod(&Network::weft(Mode::Routed)?)
}
