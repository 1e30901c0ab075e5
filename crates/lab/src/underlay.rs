//! What hosts are connected to: one segment, its router, and the world behind it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering};

use ipnet::IpNet;
use weft_kernel::netlink::Messages;
use weft_kernel::netns::Netns;
use weft_kernel::rtnl::link;
use weft_model::{IfName, Mac};

use crate::{Error, Links};

/// The router's address on the segment (RFC 5737); also its prefix is 24.
pub const ROUTER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The router's address on the segment (RFC 3849); its prefix is 64.
pub const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
/// An address in the world behind the router.
pub const OUTSIDE4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// An address in the world behind the router.
pub const OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);

/// The router's link.
const LAN: &str = "lan";
/// Hosts get the addresses from `.11` on.
const FIRST: u8 = 10;
const ROOM: u8 = 200;

/// One segment with its router, which is also the outside. Hosts are neighbours of it and of each other.
pub struct Underlay {
    netns: Netns,
    mtu: u32,
    hosts: AtomicU8,
}

/// A host's place on the segment.
pub(crate) struct Place {
    pub(crate) number: u8,
    pub(crate) addresses: [IpNet; 2],
    pub(crate) mac: Mac,
}

impl Underlay {
    /// Makes an underlay whose largest packet has `mtu` bytes.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn new(mtu: u32) -> Result<Underlay, Error> {
        let netns = Netns::anonymous()?;
        let mut links = Links::of(&netns)?;
        links.set_up("lo", true)?;
        let mut messages = Messages::default();
        link::create_bridge(&mut messages, &LAN.parse()?, mac(FIRST), mtu, 0);
        links.send("make the segment", &messages)?;
        links.set_up(LAN, true)?;
        for (name, address, length) in [
            (LAN, IpAddr::V4(ROUTER4), 24),
            (LAN, IpAddr::V6(ROUTER6), 64),
            ("lo", IpAddr::V4(OUTSIDE4), 32),
            ("lo", IpAddr::V6(OUTSIDE6), 128),
        ] {
            links.add_address(name, net(address, length))?;
        }
        Ok(Underlay { netns, mtu, hosts: AtomicU8::new(0) })
    }

    /// Its namespace: the router and the outside in one.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The router's link on the segment.
    #[must_use]
    pub fn link(&self) -> &'static str {
        LAN
    }

    /// Its largest packet, in bytes.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Gives the outside one more address.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn add_outside(&self, address: IpAddr) -> Result<(), Error> {
        Links::of(&self.netns)?.add_address("lo", IpNet::from(address))
    }

    /// Routes a destination to a host or whatever else is on the segment.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn set_route(&self, destination: IpNet, gateway: IpAddr) -> Result<(), Error> {
        Links::of(&self.netns)?.set_route(destination, LAN, Some(gateway))
    }

    /// Plugs a namespace in, its end called `uplink`, with addresses and default routes.
    pub(crate) fn plug(&self, into: &Netns, uplink: &IfName) -> Result<Place, Error> {
        let number = self.hosts.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if number > ROOM {
            return Err(Error::Full(ROOM));
        }
        let last = FIRST + number;
        let place = Place {
            number,
            mac: mac(last),
            addresses: [
                net(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), 24),
                net(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last.into())), 64),
            ],
        };
        let mut links = Links::of(&self.netns)?;
        let port: IfName = format!("host{number}").parse()?;
        let pair = link::Pair {
            host: &port,
            host_mac: Mac([0x02, 0x6c, 0x61, 0x62, 1, last]),
            master: Some(links.link(LAN)?.index),
            inner: uplink,
            inner_mac: place.mac,
            group: 0,
            mtu: self.mtu,
        };
        let mut messages = Messages::default();
        link::create_pair(&mut messages, &pair, into.as_fd());
        links.send("make an uplink", &messages)?;
        let mut inside = Links::of(into)?;
        inside.set_up("lo", true)?;
        inside.set_up(uplink.as_str(), true)?;
        links.set_up(port.as_str(), true)?;
        links.wait_operational(port.as_str())?;
        inside.wait_operational(uplink.as_str())?;
        for address in place.addresses {
            inside.add_address(uplink.as_str(), address)?;
        }
        for (any, router) in [
            (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(ROUTER4)),
            (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(ROUTER6)),
        ] {
            inside.set_route(net(any, 0), uplink.as_str(), Some(router))?;
        }
        Ok(place)
    }
}

fn net(address: IpAddr, length: u8) -> IpNet {
    IpNet::new(address, length).expect("the lengths in this file are valid ones")
}

fn mac(last: u8) -> Mac {
    Mac([0x02, 0x6c, 0x61, 0x62, 0, last])
}
