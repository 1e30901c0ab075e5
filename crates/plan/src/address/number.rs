//! Addresses as numbers, so that both families share one arithmetic.
//!
//! Never mixes families: a number means nothing without its [`Family`].

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// 32 bits.
    V4,
    /// 128 bits.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The length of a host prefix, in bits.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// The address with this number. Numbers of IPv4 addresses come from IPv4 addresses only.
    pub(super) fn address(self, number: u128) -> IpAddr {
        match self {
            Family::V4 => {
                IpAddr::V4(u32::try_from(number).expect("the number came from an IPv4 address").into())
            }
            Family::V6 => IpAddr::V6(number.into()),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// The number of an address.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u32::from(a).into(),
        IpAddr::V6(a) => a.into(),
    }
}

/// The first and last number of a subnet, both inclusive.
pub(super) fn bounds(subnet: IpNet) -> (u128, u128) {
    (number(subnet.network()), number(subnet.broadcast()))
}
