//! The elements of the programs' two maps, which have one shape.
//!
//! | bytes | key | value |
//! |---|---|---|
//! | 8 | number of the namespace (`ports`) or socket (`flows`) | |
//! | 16 | address; IPv4 as `::ffff:a.b.c.d` | the same |
//! | 2 | port, in network order | the same |
//! | 1 | protocol (`ports`), 0 (`flows`) | |
//! | 5 or 2 | nothing | nothing |

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::state::LocalPort;

/// Bytes of a key.
pub(super) const KEY: usize = 32;
/// Bytes of a value.
pub(super) const VALUE: usize = 20;

/// Where in a key, and in a value, the parts begin.
pub(super) const ADDRESS: i16 = 8;
pub(super) const PORT: i16 = 24;
pub(super) const PROTOCOL: i16 = 26;
pub(super) const VALUE_PORT: i16 = 16;

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn unmapped(bytes: [u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
}

pub(super) fn key(port: &LocalPort, cookie: u64) -> [u8; KEY] {
    let mut bytes = [0; KEY];
    bytes[..8].copy_from_slice(&cookie.to_ne_bytes());
    bytes[8..24].copy_from_slice(&mapped(port.at.ip()));
    bytes[24..26].copy_from_slice(&port.at.port().to_be_bytes());
    bytes[26] = port.protocol;
    bytes
}

/// The port, if it is one of that namespace's.
pub(super) fn read_key(bytes: &[u8; KEY], cookie: u64) -> Option<LocalPort> {
    let (own, rest) = bytes.split_first_chunk::<8>()?;
    let (address, rest) = rest.split_first_chunk::<16>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let at = SocketAddr::new(unmapped(*address), u16::from_be_bytes(*port));
    (u64::from_ne_bytes(*own) == cookie).then(|| LocalPort { protocol: rest[0], at })
}

pub(super) fn value(to: SocketAddr) -> [u8; VALUE] {
    let mut bytes = [0; VALUE];
    bytes[..16].copy_from_slice(&mapped(to.ip()));
    bytes[16..18].copy_from_slice(&to.port().to_be_bytes());
    bytes
}

pub(super) fn read_value(bytes: &[u8; VALUE]) -> SocketAddr {
    let mut address = [0; 16];
    address.copy_from_slice(&bytes[..16]);
    SocketAddr::new(unmapped(address), u16::from_be_bytes([bytes[16], bytes[17]]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn elements_round_trip(v4: [u8; 4], v6: [u8; 16], is_v4: bool, port: u16, protocol: u8, cookie: u64) {
            let address = if is_v4 { IpAddr::from(v4) } else { IpAddr::from(v6).to_canonical() };
            let at = SocketAddr::new(address, port);
            let local = LocalPort { protocol, at };
            prop_assert_eq!(read_key(&key(&local, cookie), cookie), Some(local));
            prop_assert_eq!(read_key(&key(&local, cookie), cookie ^ 1), None);
            prop_assert_eq!(read_value(&value(at)), at);
        }
    }
}
