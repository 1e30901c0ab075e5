//! Which subnets a network may have, and which ones the default network takes.
//!
//! Never asks the host what is in use: the caller brings the routes.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use weft_model::api::{self, ErrorKind};

use super::number::Family;

/// Why a subnet cannot be a network's. One line each; [`SubnetError::hint`] says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// Bits after the prefix are set.
    #[error("{given} has host bits set")]
    HostBits {
        /// As it was given.
        given: IpNet,
        /// With the bits cleared.
        corrected: IpNet,
    },
    /// The addresses mean something else.
    #[error("{subnet} overlaps {reserved} ({meaning})")]
    Forbidden {
        /// As it was given.
        subnet: IpNet,
        /// What it overlaps.
        reserved: IpNet,
        /// What that is for.
        meaning: &'static str,
    },
    /// No room for a gateway and a workload.
    #[error("{subnet} has no room for a gateway and a workload")]
    TooSmall {
        /// As it was given.
        subnet: IpNet,
        /// The longest prefix that would do, in bits.
        longest: u8,
    },
    /// Every candidate overlaps something.
    #[error(
        "no free {0} subnet was found for the default network: all candidates overlap routes or networks"
    )]
    NoneFree(Family),
}

impl SubnetError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            SubnetError::HostBits { corrected, .. } => format!("did you mean {corrected}?"),
            SubnetError::Forbidden { subnet, .. } if subnet.addr().is_ipv4() => {
                "take a private subnet, such as one of 10.0.0.0/8 (RFC 1918)".into()
            }
            SubnetError::Forbidden { .. } => {
                "take a unique local subnet, a /64 of fd00::/8 (RFC 4193)".into()
            }
            SubnetError::TooSmall { longest, .. } => format!("take a /{longest} or larger"),
            SubnetError::NoneFree(_) => "choose one yourself: weft network create NAME --subnet CIDR".into(),
        }
    }
}

impl From<SubnetError> for api::Error {
    fn from(error: SubnetError) -> api::Error {
        api::Error::new(ErrorKind::Invalid, error.to_string()).hint(error.hint())
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

const fn v6(address: u128, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(address), length))
}

/// Addresses that workloads cannot have, by the IANA special-purpose registries (RFC 6890).
const FORBIDDEN: [(IpNet, &str); 10] = [
    (v4(0, 0, 0, 0, 8), "this host, RFC 1122"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(169, 254, 0, 0, 16), "link-local, RFC 3927"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(240, 0, 0, 0, 4), "reserved and broadcast, RFC 1112"),
    (v6(0, 128), "the unspecified address"),
    (v6(1, 128), "loopback"),
    (v6(0xffff << 32, 96), "IPv4-mapped, RFC 4291"),
    (v6(0xfe80 << 112, 10), "link-local"),
    (v6(0xff00 << 112, 8), "multicast"),
];

/// Whether two subnets have an address in common.
#[must_use]
pub fn overlaps(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// Whether a network can have this subnet.
///
/// # Errors
/// `HostBits`, `Forbidden`, `TooSmall`.
pub fn validate_subnet(subnet: IpNet) -> Result<(), SubnetError> {
    let corrected = subnet.trunc();
    if corrected != subnet {
        return Err(SubnetError::HostBits { given: subnet, corrected });
    }
    if let Some((reserved, meaning)) = FORBIDDEN.into_iter().find(|(net, _)| overlaps(*net, subnet)) {
        return Err(SubnetError::Forbidden { subnet, reserved, meaning });
    }
    // Both families need four addresses: the subnet's own, the gateway, a workload, and IPv4's broadcast.
    let longest = Family::of(subnet.addr()).bits() - 2;
    if subnet.prefix_len() > longest {
        return Err(SubnetError::TooSmall { subnet, longest });
    }
    Ok(())
}

/// Subnets for the default network that overlap none of `taken` (the host's routes, other networks): the
/// first free /16 of 10.119.0.0, 10.120.0.0, … and, should all of 10/8 be routed elsewhere, of the other
/// private and shared blocks; a unique local /64 whose global ID is `seed` (RFC 4193, 3.2: random, once
/// per site). Routes that are a default in all but name (IPv4 shorter than /8, IPv6 up to /8) take nothing.
///
/// # Errors
/// [`SubnetError::NoneFree`].
pub fn choose_subnets(taken: &[IpNet], seed: [u8; 5]) -> Result<(Ipv4Net, Ipv6Net), SubnetError> {
    let counts = |net: &&IpNet| net.prefix_len() >= if net.addr().is_ipv4() { 8 } else { 9 };
    let taken: Vec<IpNet> = taken.iter().filter(counts).copied().collect();
    let free = |net: IpNet| !taken.iter().any(|other| overlaps(*other, net));
    let ipv4 =
        ipv4_candidates().find(|net| free(IpNet::V4(*net))).ok_or(SubnetError::NoneFree(Family::V4))?;
    let ipv6 =
        ipv6_candidates(seed).find(|net| free(IpNet::V6(*net))).ok_or(SubnetError::NoneFree(Family::V6))?;
    Ok((ipv4, ipv6))
}

fn ipv4_candidates() -> impl Iterator<Item = Ipv4Net> {
    let ten = (119..=255).chain(0..119).map(|b| (10, b));
    let others = (16..=31).map(|b| (172, b)).chain([(192, 168)]).chain((64..=127).map(|b| (100, b)));
    ten.chain(others).map(|(a, b)| Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), 16))
}

/// The seed's own /64 first, then its neighbours with other subnet ids: 256 tries are plenty, because
/// only this host's own routes can be in the way.
fn ipv6_candidates(seed: [u8; 5]) -> impl Iterator<Item = Ipv6Net> {
    (0..=255u8).map(move |subnet| {
        let mut octets = [0; 16];
        octets[0] = 0xfd;
        octets[1..6].copy_from_slice(&seed);
        octets[7] = subnet;
        Ipv6Net::new_assert(Ipv6Addr::from(octets), 64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_that_can_be_networks_pass() {
        for good in
            ["10.0.0.0/8", "10.1.2.0/30", "100.64.0.0/10", "192.0.2.0/24", "fd00::/64", "2001:db8::/126"]
        {
            assert_eq!(validate_subnet(net(good)), Ok(()), "{good}");
        }
    }

    #[test]
    fn refusals_say_what_is_wrong_and_what_to_do() {
        let said = |text: &str| {
            let error = api::Error::from(validate_subnet(net(text)).unwrap_err());
            assert_eq!(error.kind, ErrorKind::Invalid);
            format!("{}; {}", error.message, error.hint.unwrap())
        };
        assert_eq!(said("10.1.2.3/16"), "10.1.2.3/16 has host bits set; did you mean 10.1.0.0/16?");
        assert_eq!(said("fd00::1/64"), "fd00::1/64 has host bits set; did you mean fd00::/64?");
        assert_eq!(
            said("10.1.0.0/31"),
            "10.1.0.0/31 has no room for a gateway and a workload; take a /30 or larger"
        );
        assert_eq!(
            said("169.254.4.0/24"),
            "169.254.4.0/24 overlaps 169.254.0.0/16 (link-local, RFC 3927); \
             take a private subnet, such as one of 10.0.0.0/8 (RFC 1918)"
        );
        for small in ["10.0.0.1/32", "10.0.0.0/31", "fd00::/127", "fd00::1/128"] {
            assert!(matches!(validate_subnet(net(small)), Err(SubnetError::TooSmall { .. })), "{small}");
        }
        let elsewhere = [
            "0.0.0.0/0",
            "0.1.0.0/16",
            "127.0.0.0/16",
            "224.1.0.0/16",
            "255.255.255.252/30",
            "::/0",
            "::/64",
            "fe80::/64",
            "ff02::/64",
            "::ffff:10.0.0.0/120",
        ];
        for bad in elsewhere {
            assert!(matches!(validate_subnet(net(bad)), Err(SubnetError::Forbidden { .. })), "{bad}");
        }
    }

    #[test]
    fn overlap_is_containment_either_way() {
        assert!(overlaps(net("10.0.0.0/8"), net("10.1.0.0/16")));
        assert!(overlaps(net("10.1.0.0/16"), net("10.0.0.0/8")));
        assert!(!overlaps(net("10.1.0.0/16"), net("10.2.0.0/16")));
        assert!(!overlaps(net("0.0.0.0/0"), net("::/0")));
    }

    #[test]
    fn the_default_network_avoids_what_is_taken() {
        let choose = |taken: &[&str]| {
            let taken: Vec<IpNet> = taken.iter().map(|t| net(t)).collect();
            let (v4, v6) = choose_subnets(&taken, [1, 2, 3, 4, 5]).unwrap();
            assert_eq!((validate_subnet(v4.into()), validate_subnet(v6.into())), (Ok(()), Ok(())));
            format!("{v4} {v6}")
        };
        let usual = "10.119.0.0/16 fd01:203:405::/64";
        assert_eq!(choose(&[]), usual);
        assert_eq!(choose(&["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "::/0", "2000::/3", "fc00::/7"]), usual);
        assert_eq!(choose(&["10.119.7.9/32"]), "10.120.0.0/16 fd01:203:405::/64");
        assert_eq!(choose(&["10.0.0.0/8", "172.16.0.0/12"]), "192.168.0.0/16 fd01:203:405::/64");
        assert_eq!(choose(&["fd01:203:405::5/128"]), "10.119.0.0/16 fd01:203:405:1::/64");
        let all = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"].map(net);
        assert_eq!(choose_subnets(&all, [0; 5]), Err(SubnetError::NoneFree(Family::V4)));
    }
}
