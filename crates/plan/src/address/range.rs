//! The ranges of a request, checked and turned into bounds.
//!
//! Never looks at which addresses are free.

use weft_model::AddressRange;

use super::error::AddressError;
use super::number::{Family, bounds, number};
use super::pool::Pool;

/// One address wanted from any of these bounds, both ends inclusive.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) family: Family,
    pub(super) bounds: Vec<(u128, u128)>,
    /// The ranges as people gave them.
    pub(super) text: String,
}

/// Checks a list of alternatives for one address against the pools of a network.
pub(super) fn wanted(alternatives: &[AddressRange], pools: &[Pool]) -> Result<Wanted, AddressError> {
    let text = alternatives.iter().map(show).collect::<Vec<_>>().join(", ");
    let bad = |why: &str| AddressError::BadRange { range: text.clone(), why: why.to_owned() };
    let first = alternatives.first().ok_or_else(|| AddressError::BadRange {
        range: "(empty list)".into(),
        why: "a list of alternatives has no range in it".into(),
    })?;
    let family = Family::of(first.subnet.addr());
    if alternatives.iter().any(|range| Family::of(range.subnet.addr()) != family) {
        return Err(bad("alternatives for one address are IPv4 and IPv6"));
    }
    let bounds = alternatives.iter().map(|range| limits(range, pools)).collect::<Result<_, _>>()?;
    Ok(Wanted { family, bounds, text })
}

/// The first and last number of one range.
fn limits(range: &AddressRange, pools: &[Pool]) -> Result<(u128, u128), AddressError> {
    let bad = |why: String| AddressError::BadRange { range: show(range), why };
    if !pools.iter().any(|pool| pool.subnet().contains(&range.subnet)) {
        let subnets = pools.iter().map(|pool| pool.subnet().to_string()).collect::<Vec<_>>().join(", ");
        return Err(bad(format!("its subnet does not lie in the network's ({subnets})")));
    }
    if let Some(stray) = [range.start, range.end].into_iter().flatten().find(|a| !range.subnet.contains(a)) {
        return Err(bad(format!("{stray} does not lie in {}", range.subnet.trunc())));
    }
    let (first, last) = usable_bounds(range);
    if first > last {
        return Err(bad("it ends before it starts".into()));
    }
    Ok((first, last))
}

/// The given ends, or else the first and last usable address of the range's own subnet, as
/// host-local takes them: without the network and (IPv4) broadcast address.
fn usable_bounds(range: &AddressRange) -> (u128, u128) {
    let (mut first, mut last) = bounds(range.subnet);
    if last - first > 1 {
        first += 1;
        last -= u128::from(range.subnet.addr().is_ipv4());
    }
    (range.start.map_or(first, number), range.end.map_or(last, number))
}

/// A range as people write it.
fn show(range: &AddressRange) -> String {
    match (range.start, range.end) {
        (None, None) => range.subnet.to_string(),
        (start, end) => {
            let start = start.map_or_else(String::new, |a| a.to_string());
            let end = end.map_or_else(String::new, |a| a.to_string());
            format!("{start}-{end} in {}", range.subnet)
        }
    }
}
