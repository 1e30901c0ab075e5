//! Networks under cnitool: ADD, CHECK, DEL, and from CNI 1.1 on STATUS and GC.

use anyhow::{Result, ensure};
use weft_tests::cnitool::CniTool;
use weft_tests::engine::Engine;
use weft_tests::snapshot::Snapshot;
use weft_tests::weft::Mode;
use weft_tests::{Network, Sandbox, suite, wait};

/// `repairs`: whether the network makes good what others delete, so that CHECK may find nothing wrong any more.
fn verbs(network: &Network, repairs: bool) -> Result<()> {
    let sandbox = Sandbox::new()?;
    let tool = CniTool::start(&sandbox, network)?;
    let before = Snapshot::take(&sandbox, network)?;
    let clean = || {
        wait::until("a clean host", wait::LONG / 6, || Snapshot::take(&sandbox, network)?.same_as(&before))
    };
    tool.call("status", "none")?;

    tool.start("one")?;
    tool.call("check", "one")?;
    let again = tool.call("add", "one");
    ensure!(again.is_err(), "ADD of an interface that exists must fail, and gave {again:?}");
    tool.call("check", "one")?; // and must not have harmed it
    sandbox.run(&["ip", "-n", "one", "link", "delete", "eth0"])?;
    if repairs {
        wait::until("the repair", wait::LONG / 6, || tool.call("check", "one").map(|_| ()))?;
    } else {
        ensure!(tool.call("check", "one").is_err(), "CHECK must miss a deleted interface");
    }
    tool.remove("one")?;
    clean()?;

    // A DEL whose namespace is gone, as after a crash.
    tool.start("two")?;
    tool.unmake("two")?;
    tool.call("del", "two")?;
    clean()?;

    // cnitool's GC names no attachment as valid.
    tool.start("three")?;
    tool.unmake("three")?;
    tool.call("gc", "three")?;
    clean()
}

#[test]
fn verbs_of_the_reference_network() -> Result<()> {
    verbs(&Network::reference(), false)
}

#[test]
fn suite_with_the_reference_network() -> Result<()> {
    let network = Network::reference();
    let sandbox = Sandbox::new()?;
    suite::run(&sandbox, &network, &CniTool::start(&sandbox, &network)?)
}

#[test]
fn verbs_of_weft() -> Result<()> {
    verbs(&Network::weft(Mode::Routed)?, true)
}

#[test]
fn suite_with_weft_routed() -> Result<()> {
    let network = Network::weft(Mode::Routed)?;
    let sandbox = Sandbox::new()?;
    suite::run(&sandbox, &network, &CniTool::start(&sandbox, &network)?)
}

#[test]
fn suite_with_weft_bridge() -> Result<()> {
    let network = Network::weft(Mode::Bridge)?;
    let sandbox = Sandbox::new()?;
    suite::run(&sandbox, &network, &CniTool::start(&sandbox, &network)?)
}
