//! Connections that must not go on as they are, told from the changes that make them so.
//!
//! Nothing is remembered: whoever takes an element away, or puts one in, knows whom it concerns. So it is
//! right after a crash and after a foreign hand's flush, too.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weft_kernel::change::Stale;
use weft_kernel::nft::{Diff, Key, Op, Tables};
use weft_model::Protocol;

use crate::nft::{guarded_address, ports};

/// What has gone stale once these changes are made.
pub(crate) fn stale(changes: &Diff, wanted: &Tables, found: &Tables) -> Vec<Stale> {
    let mut all: Vec<Stale> = departed(&changes.remove, wanted).into_iter().map(Stale::Of).collect();
    all.extend(unled(&changes.install));
    let astray = crate::nft::services::touched(changes, wanted, found);
    all.extend((!astray.is_empty()).then_some(Stale::Astray(astray)));
    all
}

/// Addresses whose guard goes and that nobody else has: whatever was under way to or from them has lost its end,
/// and must not reach whoever gets the address next (BAR.md 25).
fn departed(removed: &[Op], wanted: &Tables) -> BTreeSet<IpAddr> {
    let keys = removed.iter().filter_map(|op| match op {
        Op::DeleteElements { keys, set, .. } => Some((set, keys)),
        _ => None,
    });
    let mut gone: BTreeSet<IpAddr> =
        keys.flat_map(|(set, keys)| keys.iter().filter_map(|key| guarded_address(set, key))).collect();
    if !gone.is_empty() {
        let sets = wanted.values().flat_map(|t| &t.sets);
        let kept =
            sets.flat_map(|(name, set)| set.elements.keys().filter_map(|key| guarded_address(name, key)));
        kept.for_each(|address| {
            gone.remove(&address);
        });
    }
    gone
}

/// Ports that are led elsewhere from now on. A client of TCP begins anew when it was refused; those of UDP and SCTP
/// go on in the connection that they have begun with the host itself.
fn unled(installed: &[Op]) -> Vec<Stale> {
    let mut found: BTreeMap<(bool, u8, Option<IpAddr>), BTreeSet<u16>> = BTreeMap::new();
    for op in installed {
        let Op::AddElements { set, elements, .. } = op else { continue };
        let Some(ipv4) = ports::is_ipv4_map(set) else { continue };
        let ports = elements.iter().filter_map(|(key, _): &(Key, _)| ports::read_key(key));
        for (at, protocol, port) in ports.filter(|(_, protocol, _)| *protocol != Protocol::Tcp) {
            found.entry((ipv4, protocol.number(), at)).or_default().insert(port);
        }
    }
    let one = |((ipv4, protocol, at), ports)| Stale::Unled { ipv4, protocol, at, ports };
    found.into_iter().map(one).collect()
}
