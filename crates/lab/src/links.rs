//! Links, addresses, routes and neighbours of one namespace, by netlink.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use weft_kernel::netlink::{Family, Message, Messages, Socket};
use weft_kernel::netns::Netns;
use weft_kernel::rtnl::{address, link, neighbour, route};
use weft_model::Mac;

use crate::Error;

/// How long a link may take to become operational; microseconds are usual.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who made a route: an administrator (`RTPROT_STATIC`, linux/rtnetlink.h).
const STATIC: u8 = 4;

/// A conversation with the kernel about one namespace. It can be used from any thread.
pub struct Links {
    socket: Socket,
}

impl Links {
    /// Opens a namespace's.
    ///
    /// # Errors
    /// [`Error::Namespace`], [`Error::Netlink`].
    pub fn of(netns: &Netns) -> Result<Links, Error> {
        let socket = netns.run(|| Socket::open(Family::Route))?;
        let what = || "open a netlink socket".to_owned();
        Ok(Links { socket: socket.map_err(|source| Error::Netlink { what: what(), source })? })
    }

    /// Sends requests of which each must succeed; `what` completes "failed to".
    ///
    /// # Errors
    /// [`Error::Netlink`], [`Error::Refused`].
    pub fn send(&mut self, what: &str, messages: &Messages) -> Result<(), Error> {
        let what = || what.to_owned();
        let answers =
            self.socket.transact(messages).map_err(|source| Error::Netlink { what: what(), source })?;
        answers
            .into_iter()
            .try_for_each(|answer| answer.map_err(|source| Error::Refused { what: what(), source }))
    }

    fn list<T>(
        &mut self,
        what: &str,
        request: &Messages,
        read: fn(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let gather = |all: &mut Vec<T>, message: &Message<'_>| all.extend(read(message));
        self.socket
            .dump(request, gather)
            .map_err(|source| Error::Netlink { what: format!("list {what}"), source })
    }

    /// All links.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn links(&mut self) -> Result<Vec<link::Described>, Error> {
        self.list("links", &link::list(), link::read)
    }

    /// One link.
    ///
    /// # Errors
    /// [`Error::NoLink`], [`Error::Netlink`].
    pub fn link(&mut self, name: &str) -> Result<link::Described, Error> {
        let named = |l: &link::Described| l.name.as_ref().is_some_and(|n| n.as_str() == name);
        self.links()?.into_iter().find(named).ok_or_else(|| Error::NoLink(name.to_owned()))
    }

    /// The addresses of a link, link-local ones included.
    ///
    /// # Errors
    /// [`Error::NoLink`], [`Error::Netlink`].
    pub fn addresses(&mut self, name: &str) -> Result<Vec<IpNet>, Error> {
        let index = self.link(name)?.index;
        let all = self.list("addresses", &address::list(), address::read)?;
        Ok(all.into_iter().filter(|a| a.index == index).map(|a| a.address).collect())
    }

    /// The routes of the main table.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn routes(&mut self) -> Result<Vec<route::Described>, Error> {
        self.list("routes", &route::list(), route::read)
    }

    /// The Ethernet address that a link holds for a neighbour, however it came by it.
    ///
    /// # Errors
    /// [`Error::NoLink`], [`Error::Netlink`].
    pub fn neighbour(&mut self, name: &str, of: IpAddr) -> Result<Option<Mac>, Error> {
        let index = self.link(name)?.index;
        let all = self.list("neighbours", &neighbour::list(), learnt)?;
        Ok(all.into_iter().find(|n| n.0 == index && n.1 == of).map(|n| n.2))
    }

    /// Sets a link up or down.
    ///
    /// # Errors
    /// [`Error::NoLink`], [`Error::Netlink`], [`Error::Refused`].
    pub fn set_up(&mut self, name: &str, up: bool) -> Result<(), Error> {
        let index = self.link(name)?.index;
        let mut messages = Messages::default();
        link::change(&mut messages, index, &link::Change { up: Some(up), ..link::Change::default() });
        self.send(&format!("set {name} {}", if up { "up" } else { "down" }), &messages)
    }

    /// Waits until a link that is up carries packets.
    ///
    /// # Errors
    /// [`Error::NoLink`] if it never does, [`Error::Netlink`].
    pub fn wait_operational(&mut self, name: &str) -> Result<(), Error> {
        let begin = Instant::now();
        while !self.link(name)?.operational {
            if begin.elapsed() > PATIENCE {
                return Err(Error::NoLink(format!("{name} that carries packets")));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Gives a link an address, without asking around for duplicates.
    ///
    /// # Errors
    /// [`Error::NoLink`], [`Error::Netlink`], [`Error::Refused`].
    pub fn add_address(&mut self, name: &str, to_add: IpNet) -> Result<(), Error> {
        let index = self.link(name)?.index;
        let mut messages = Messages::default();
        address::add(&mut messages, index, to_add);
        self.send(&format!("add {to_add} to {name}"), &messages)
    }

    /// Sets a route by a link, with the protocol of hand-made ones.
    ///
    /// # Errors
    /// [`Error::NoLink`], [`Error::Netlink`], [`Error::Refused`].
    pub fn set_route(
        &mut self,
        destination: IpNet,
        name: &str,
        gateway: Option<IpAddr>,
    ) -> Result<(), Error> {
        let index = self.link(name)?.index;
        let (source, protocol, mtu, metric) = (None, STATIC, None, None);
        let wanted = route::Described { destination, index, gateway, source, protocol, mtu, metric };
        let mut messages = Messages::default();
        route::set(&mut messages, &wanted);
        self.send(&format!("set the route to {destination}"), &messages)
    }

    /// Deletes a link; a veth's other end goes with it.
    ///
    /// # Errors
    /// [`Error::NoLink`], [`Error::Netlink`], [`Error::Refused`].
    pub fn delete(&mut self, name: &str) -> Result<(), Error> {
        let index = self.link(name)?.index;
        let mut messages = Messages::default();
        link::delete(&mut messages, index);
        self.send(&format!("delete {name}"), &messages)
    }
}

/// Any neighbour with an Ethernet address; `weft_kernel` itself reads only permanent ones.
fn learnt(message: &Message<'_>) -> Option<(u32, IpAddr, Mac)> {
    const HEADER: usize = 12; // struct ndmsg, linux/neighbour.h
    const DESTINATION: u16 = 1; // NDA_DST
    const ETHERNET: u16 = 2; // NDA_LLADDR
    let head: [u8; HEADER] = message.structure()?;
    let find = |kind: u16| message.attributes(HEADER).find(|a| a.kind == kind);
    let mac = Mac(find(ETHERNET)?.value.try_into().ok()?);
    Some((u32::from_ne_bytes([head[4], head[5], head[6], head[7]]), find(DESTINATION)?.ip()?, mac))
}
