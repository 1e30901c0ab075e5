//! A link's IPv6 settings, which the kernel sends along with its description (linux/if_link.h `IFLA_AF_SPEC`).
//!
//! They are the files below `/proc/sys/net/ipv6/conf/LINK`. To open those of a thousand links takes most
//! of a second on a host with as many namespaces: all namespaces' folders named `net` share one hash
//! bucket in the kernel's cache of names (fs/proc/proc_sysctl.c `proc_sys_compare`).

use weft_model::IfName;

use super::{DUMP, REQUEST};
use crate::netlink::{Attribute, Message, Messages, find};

const AF_INET6: u16 = libc::AF_INET6 as u16;
const HEADER: usize = 16; // struct ifinfomsg
const INET6_CONF: u16 = 2; // IFLA_INET6_CONF: an array of 32-bit numbers

/// Names of the files and places in the array (linux/ipv6.h `DEVCONF_*`, which never change).
const PLACES: [(&str, usize); 6] = [
    ("accept_ra", 3),
    ("accept_redirects", 4),
    ("autoconf", 5),
    ("disable_ipv6", 26),
    ("accept_dad", 27),
    ("addr_gen_mode", 47),
];

/// What weft wants to know of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    values: [Option<i32>; PLACES.len()],
}

impl Settings {
    /// Reads `IFLA_AF_SPEC`. Links without IPv6 have none.
    pub(super) fn read(families: &Attribute<'_>) -> Settings {
        find(families.value, AF_INET6).map_or(Settings::default(), |ipv6| Settings::of_ipv6(&ipv6))
    }

    fn of_ipv6(ipv6: &Attribute<'_>) -> Settings {
        let conf = find(ipv6.value, INET6_CONF).map_or(&[][..], |a| a.value);
        let at =
            |place: usize| Some(i32::from_ne_bytes(conf.get(place * 4..place * 4 + 4)?.try_into().ok()?));
        Settings { values: PLACES.map(|(_, place)| at(place)) }
    }

    /// The setting of that name, as its file would show it; `None` if it is not known from here.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        let index = PLACES.iter().position(|(known, _)| *known == name)?;
        self.values[index].map(|value| value.to_string())
    }
}

/// Asks for the IPv6 settings of all links, and little else of them (net/ipv6/addrconf.c
/// `inet6_dump_ifinfo`): unlike a list of links this costs the same for each, however many there are.
#[must_use]
pub fn list() -> Messages {
    let mut header = [0; HEADER];
    header[0] = AF_INET6.to_le_bytes()[0];
    let mut messages = Messages::default();
    messages.push(libc::RTM_GETLINK, REQUEST | DUMP, &header, |_| ());
    messages
}

/// Reads one link's settings from the answer to [`list`].
#[must_use]
pub fn read(message: &Message<'_>) -> Option<(IfName, Settings)> {
    if message.kind != libc::RTM_NEWLINK || message.structure::<HEADER>()?[0] != AF_INET6.to_le_bytes()[0] {
        return None;
    }
    let find = |kind: u16| message.attributes(HEADER).find(|a| a.kind == kind);
    let name = find(libc::IFLA_IFNAME)?.text()?.parse().ok()?;
    Some((name, Settings::of_ipv6(&find(libc::IFLA_PROTINFO)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Family, Messages, Socket};
    use crate::netns::Netns;
    use crate::rtnl::link;
    use crate::state::Sysctl;
    use crate::sysctl;

    /// In a namespace of its own: each file, set to an unusual value, shows up here as it reads.
    #[test]
    fn what_comes_along_is_what_the_files_say() {
        let netns = Netns::anonymous().unwrap();
        netns
            .run(|| {
                let name = "br0".parse().unwrap();
                let mut socket = Socket::open(Family::Route).unwrap();
                let mut messages = Messages::default();
                link::create_bridge(&mut messages, &name, "02:00:00:00:00:01".parse().unwrap(), 1500, 7);
                socket.transact(&messages).unwrap()[0].clone().unwrap();
                for round in [["0", "1", "0", "1", "0", "1"], ["2", "0", "1", "0", "2", "3"]] {
                    let mut writer = sysctl::Writer::default();
                    for ((key, _), value) in PLACES.iter().zip(round) {
                        writer.write(&Sysctl::of_link("ipv6", &name, key), value).unwrap();
                    }
                    let links =
                        socket.dump(&link::list(), |all: &mut Vec<_>, m| all.extend(link::read(m))).unwrap();
                    let found = links.iter().find(|l| l.name.as_ref() == Some(&name)).unwrap();
                    let looked: Vec<_> =
                        socket.dump(&list(), |all: &mut Vec<_>, m| all.extend(read(m))).unwrap();
                    let looked = looked.iter().find(|(n, _)| *n == name).unwrap();
                    assert_eq!(looked.1, found.ipv6);
                    for ((key, _), value) in PLACES.iter().zip(round) {
                        let file = sysctl::read(&Sysctl::of_link("ipv6", &name, key)).unwrap();
                        assert_eq!(
                            (found.ipv6.get(key), file.as_deref()),
                            (file.clone(), Some(value)),
                            "{key}"
                        );
                    }
                }
            })
            .unwrap();
    }
}
