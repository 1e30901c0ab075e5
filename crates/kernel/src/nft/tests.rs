//! Tests that speak to a real kernel in private namespaces, and the ruleset that they share.

mod cases;
mod decoding;
mod differences;
mod measures;
mod oracle;
mod random;
mod refusals;
mod roundtrip;
mod samples;
mod sets;
mod words;

use super::*;
use crate::netlink::{Family as Protocol, Socket};
use crate::netns::Netns;

/// Runs with a socket in a fresh namespace. Needs root; without, the test fails rather than being skipped.
fn in_netns<T>(work: impl FnOnce(&mut Socket, &Netns) -> T) -> T {
    let netns = Netns::anonymous().expect("root is needed");
    netns.run(|| work(&mut Socket::open(Protocol::Netfilter).unwrap(), &netns)).unwrap()
}

fn names(tables: &Tables) -> Vec<TableName> {
    tables.keys().cloned().collect()
}

/// The steps that make tables where there are none.
fn install(tables: &Tables) -> Vec<Op> {
    diff(tables, &Tables::new()).install
}

fn explain(error: &Error) -> String {
    use std::error::Error as _;
    format!("{error}: {:?}", error.source().map(ToString::to_string))
}

fn applied(socket: &mut Socket, ops: &[Op]) {
    if let Err(error) = apply(socket, ops) {
        panic!("{}", explain(&error));
    }
}
