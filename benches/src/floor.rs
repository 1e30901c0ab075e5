//! The floor: the least that attaching a workload asks of the kernel, in as few messages as netlink allows.
//!
//! A veth pair whose peer is born in the namespace, both ends up, addresses, a host route and a default
//! route of each family. No allocation of addresses, no record, no settings, no guard, no answer: whatever
//! does those needs longer, and by how much is the price of having them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use ipnet::IpNet;
use weft_kernel::netlink::{Family, Messages, Socket};
use weft_kernel::netns::{Netns, index_of};
use weft_kernel::ours::ROUTE_PROTOCOL;
use weft_kernel::rtnl::{address, link, route};
use weft_model::{IfName, Mac};

const LOOPBACK: u32 = 1; // LOOPBACK_IFINDEX, the same in every namespace
const GATEWAY4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
const GATEWAY6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// One attachment of the floor.
#[derive(Clone, Debug)]
pub struct Wire {
    /// The host's end.
    pub host_end: IfName,
    /// The workload's end.
    pub inner: IfName,
    /// Makes Ethernet addresses and IP addresses unlike those of other wires; at most 65,000.
    pub number: u16,
}

impl Wire {
    /// A wire of that number with names of its own.
    #[must_use]
    pub fn new(number: u16) -> Wire {
        let host_end = format!("floor{number}").parse().expect("a word and a number of five digits");
        Wire { host_end, inner: "eth0".parse().expect("eth0 is a valid name"), number }
    }

    fn addresses(&self) -> [IpNet; 2] {
        let [high, low] = self.number.to_be_bytes();
        let v6 = Ipv6Addr::new(0xfd00, 0xf100, 0, 0, 0, 0, 1, self.number);
        [IpAddr::V4(Ipv4Addr::new(10, 201, high, low)), IpAddr::V6(v6)].map(IpNet::from)
    }
}

/// Attaches from the calling thread's namespace to the one whose file is `netns`.
///
/// # Errors
/// The kernel's.
pub fn add(wire: &Wire, netns: &Path) -> Result<()> {
    let netns = Netns::open(netns)?;
    let mut socket = Socket::open(Family::Route)?;
    let mut messages = Messages::default();
    let seed = u64::from(wire.number) << 1;
    let pair = link::Pair {
        host: &wire.host_end,
        host_mac: Mac::from_seed(seed),
        master: None,
        inner: &wire.inner,
        inner_mac: Mac::from_seed(seed | 1),
        group: 0,
        mtu: 1500,
    };
    link::create_pair(&mut messages, &pair, netns.as_fd());
    send(&mut socket, &messages)?;

    let index = index_of(wire.host_end.as_str()).context("the pair was not made")?;
    let mut messages = Messages::default();
    link::change(&mut messages, index, &up());
    for destination in wire.addresses() {
        route::add(&mut messages, &described(destination, index, None));
    }
    send(&mut socket, &messages)?;

    let _inside = netns.enter()?;
    let mut socket = Socket::open(Family::Route)?;
    let index = index_of(wire.inner.as_str()).context("the peer was not made")?;
    let mut messages = Messages::default();
    link::change(&mut messages, LOOPBACK, &up());
    link::change(&mut messages, index, &up());
    wire.addresses().into_iter().for_each(|to| address::add(&mut messages, index, to));
    for (all, gateway) in [("0.0.0.0/0", GATEWAY4), ("::/0", GATEWAY6)] {
        let all = all.parse().expect("a default route");
        route::add(&mut messages, &described(all, index, Some(gateway)));
    }
    send(&mut socket, &messages)
}

/// Deletes the wire, and with it all that hangs on it.
///
/// # Errors
/// The kernel's.
pub fn delete(wire: &Wire) -> Result<()> {
    let index = index_of(wire.host_end.as_str()).context("there is no such wire")?;
    let mut messages = Messages::default();
    link::delete(&mut messages, index);
    send(&mut Socket::open(Family::Route)?, &messages)
}

fn up() -> link::Change<'static> {
    link::Change { up: Some(true), ..link::Change::default() }
}

fn described(destination: IpNet, index: u32, gateway: Option<IpAddr>) -> route::Described {
    let (source, mtu, metric) = (None, None, None);
    route::Described { destination, index, gateway, source, protocol: ROUTE_PROTOCOL, mtu, metric }
}

fn send(socket: &mut Socket, messages: &Messages) -> Result<()> {
    for answer in socket.transact(messages)? {
        answer?;
    }
    Ok(())
}
