//! Networks under cnitool: ADD, CHECK, DEL, and from CNI 1.1 on STATUS and GC.

use anyhow::{Result, ensure};
use weft_tests::cnitool::CniTool;
use weft_tests::engine::Engine;
use weft_tests::snapshot::Snapshot;
use weft_tests::{Network, Sandbox, suite};

fn verbs(network: &Network) -> Result<()> {
    let sandbox = Sandbox::new()?;
    let tool = CniTool::start(&sandbox, network)?;
    let before = Snapshot::take(&sandbox, network)?;
    tool.call("status", "none")?;

    tool.start("one")?;
    tool.call("check", "one")?;
    let again = tool.call("add", "one");
    ensure!(again.is_err(), "ADD of an interface that exists must fail, and gave {again:?}");
    tool.call("check", "one")?; // and must not have harmed it
    sandbox.run(&["ip", "-n", "one", "link", "delete", "eth0"])?;
    ensure!(tool.call("check", "one").is_err(), "CHECK must miss a deleted interface");
    tool.remove("one")?;
    Snapshot::take(&sandbox, network)?.same_as(&before)?;

    // A DEL whose namespace is gone, as after a crash.
    tool.start("two")?;
    tool.unmake("two")?;
    tool.call("del", "two")?;
    Snapshot::take(&sandbox, network)?.same_as(&before)?;

    // cnitool's GC names no attachment as valid.
    tool.start("three")?;
    tool.unmake("three")?;
    tool.call("gc", "three")?;
    Snapshot::take(&sandbox, network)?.same_as(&before)
}

#[test]
fn verbs_of_the_reference_network() -> Result<()> {
    verbs(&Network::reference())
}

#[test]
fn suite_with_the_reference_network() -> Result<()> {
    let network = Network::reference();
    let sandbox = Sandbox::new()?;
    suite::run(&sandbox, &network, &CniTool::start(&sandbox, &network)?)
}
