//! Ethernet addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A 48-bit Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// A string is not an Ethernet address a workload may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMac {
    /// Not six pairs of hexadecimal digits between colons.
    #[error("'{0}' is not an Ethernet address such as 02:42:ac:11:00:02")]
    Syntax(String),
    /// The multicast bit is set, or all bits are zero: no interface can have it.
    #[error("{0} cannot be an interface's address: it is multicast or zero")]
    NotUnicast(Mac),
}

impl Mac {
    /// The address that every host end of a routed wire bears. It can be the same on all of them
    /// because no two share a segment; workloads hold it as a permanent neighbour.
    pub const HOST_END: Mac = Mac([0x02, 0x77, 0x65, 0x66, 0x74, 0x01]);

    /// The Ethernet address of a bridge port whose workload has this one. It must differ from its
    /// neighbours', and never shows on the wire.
    #[must_use]
    pub fn port(self) -> Mac {
        let [a, b, c, d, e, f] = self.0;
        Mac([if a == 0xfe { 0xfa } else { 0xfe }, b, c, d, e, f])
    }

    /// Whether weft gives host ends such addresses: [`HOST_END`](Self::HOST_END), or a [`port`](Self::port)'s.
    #[must_use]
    pub fn is_host_end(self) -> bool {
        self == Mac::HOST_END || matches!(self.0[0], 0xfe | 0xfa)
    }

    /// Whether one interface can bear this address: not multicast and not zero.
    #[must_use]
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }

    /// A locally administered unicast address that follows from an IP address: whoever remembers it for that address
    /// remembers rightly, whoever holds the address. Two of IPv4 never share one, two of IPv6 by chance only.
    #[must_use]
    pub fn of_address(address: IpAddr) -> Mac {
        match address {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                Mac([0x06, 0x77, a, b, c, d])
            }
            IpAddr::V6(v6) => {
                // FNV-1a, 64 bits.
                let hash = v6.octets().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                    (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
                });
                let [_, _, _, a, b, c, d, e] = hash.to_be_bytes();
                Mac([0x06, a, b, c, d, e])
            }
        }
    }

    /// A locally administered unicast address from a 64-bit seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Mac {
        let b = seed.to_be_bytes();
        Mac([(b[2] & 0xfc) | 0x02, b[3], b[4], b[5], b[6], b[7]])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = InvalidMac;
    fn from_str(value: &str) -> Result<Self, InvalidMac> {
        let syntax =
            || InvalidMac::Syntax(value.chars().take(40).collect::<String>().escape_default().to_string());
        let mut octets = [0; 6];
        let mut parts = value.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *octet = part.and_then(|p| u8::from_str_radix(p, 16).ok()).ok_or_else(syntax)?;
        }
        if parts.next().is_some() {
            return Err(syntax());
        }
        let mac = Mac(octets);
        if mac.is_unicast() { Ok(mac) } else { Err(InvalidMac::NotUnicast(mac)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = InvalidMac;
    fn try_from(value: String) -> Result<Self, InvalidMac> {
        value.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let mac: Mac = "02:42:AC-11:00:02".parse().unwrap();
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!(mac.to_string().parse(), Ok(mac));
    }

    #[test]
    fn nonsense_multicast_and_zero_are_refused() {
        for bad in [
            "",
            "02:42",
            "02:42:ac:11:00:02:03",
            "0g:42:ac:11:00:02",
            "+2:42:ac:11:00:02",
            "02:42:ac:11:00:2",
        ] {
            assert!(matches!(bad.parse::<Mac>(), Err(InvalidMac::Syntax(_))), "{bad}");
        }
        for bad in ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00"] {
            assert!(matches!(bad.parse::<Mac>(), Err(InvalidMac::NotUnicast(_))), "{bad}");
        }
    }

    #[test]
    fn an_address_gives_its_own() {
        let of = |text: &str| Mac::of_address(text.parse().unwrap());
        assert_eq!(of("10.88.0.7").to_string(), "06:77:0a:58:00:07");
        assert_eq!(of("fd00::7"), of("fd00:0::7"));
        assert_ne!(of("fd00::7"), of("fd00::8"));
        assert_ne!(of("fd00::7"), of("fd00:0:0:1::7"));
        for mac in [of("10.88.0.7"), of("fd00::7")] {
            assert!(mac.is_unicast() && mac.0[0] & 2 != 0 && !mac.is_host_end(), "{mac}");
        }
    }

    #[test]
    fn a_seed_gives_a_local_unicast_address() {
        for seed in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            let mac = Mac::from_seed(seed);
            assert!(mac.is_unicast() && mac.0[0] & 2 != 0, "{mac}");
        }
    }
}
