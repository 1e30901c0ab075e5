//! A link's IPv6 settings, which the kernel sends along with its description (linux/if_link.h `IFLA_AF_SPEC`).
//!
//! They are the files below `/proc/sys/net/ipv6/conf/LINK`. To open those of a thousand links takes most
//! of a second on a host with as many namespaces: all namespaces' folders named `net` share one hash
//! bucket in the kernel's cache of names (fs/proc/proc_sysctl.c `proc_sys_compare`).

use crate::netlink::{Attribute, find};

const AF_INET6: u16 = libc::AF_INET6 as u16;
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
        let Some(ipv6) = find(families.value, AF_INET6) else { return Settings::default() };
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
