//! Wires by hand.

use std::os::fd::AsFd;

use anyhow::Result;
use weft_kernel::netlink::Messages;
use weft_kernel::netns::Netns;
use weft_kernel::rtnl::link;
use weft_lab::Links;
use weft_model::Mac;

use crate::packets::script;

/// A wire from one namespace into another, whose end is `eth0`.
pub(crate) fn wire(outer: &Netns, host: &str, inner: &Netns) -> Result<()> {
    let mut messages = Messages::default();
    let pair = link::Pair {
        host: &host.parse()?,
        host_mac: Mac([2, 0, 0, 0, 0, 1]),
        master: None,
        inner: &"eth0".parse()?,
        inner_mac: Mac([2, 0, 0, 0, 0, 2]),
        group: 0,
        mtu: 1500,
    };
    link::create_pair(&mut messages, &pair, inner.as_fd());
    Links::of(outer)?.send("make a wire", &messages)?;
    script(outer, "sh -e", &format!("ip link set {host} up; ip link set lo up"))?;
    script(inner, "sh -e", "ip link set eth0 up; ip link set lo up")
}
