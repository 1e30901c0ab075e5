//! Elements of sets on the wire, both ways.
//!
//! Three shapes: hash sets have keys; interval sets of one part have a start and, as another element, the
//! first value behind the end; interval sets of several parts have a first and a last key.

use super::decode::read_verdict;
use super::encode::write_verdict;
use super::model::{Data, Declaration};
use super::types::Type;
use super::value::{Datum, Elements, Item, Key, Value};
use super::wire::{LIST_ELEMENT, table};
use crate::netlink::{Attributes, attributes};

const INTERVAL_END: u32 = 1; // NFT_SET_ELEM_INTERVAL_END
/// An attribute has at most 65,535 bytes; an element has far fewer than this leaves.
const CHUNK: usize = 60_000;

/// Writes as many elements as fit into one attribute (`NFTA_SET_ELEM_LIST_ELEMENTS`); returns how many.
pub(super) fn write<'a>(
    to: &mut Attributes<'_>,
    interval: bool,
    elements: impl Iterator<Item = (&'a Key, Option<&'a Datum>)>,
) -> usize {
    let mut written = 0;
    to.nest(3, |list| {
        let start = list.position();
        for (key, datum) in elements {
            element(list, interval, key, datum);
            written += 1;
            if list.position() - start > CHUNK {
                break;
            }
        }
    });
    written
}

fn element(list: &mut Attributes<'_>, interval: bool, key: &Key, datum: Option<&Datum>) {
    match key.0.as_slice() {
        [item] if interval => {
            let end = successor(&bytes(&[item.last()], true));
            one(list, &bytes(&[item.first()], true), None, 0, datum);
            if let Some(end) = end {
                one(list, &end, None, INTERVAL_END, None);
            }
        }
        items => {
            let first: Vec<Value> = items.iter().map(Item::first).collect();
            let last: Option<Vec<Value>> = interval.then(|| items.iter().map(Item::last).collect());
            one(list, &bytes(&first, interval), last.map(|last| bytes(&last, interval)).as_deref(), 0, datum);
        }
    }
}

fn one(list: &mut Attributes<'_>, key: &[u8], last: Option<&[u8]>, flags: u32, datum: Option<&Datum>) {
    list.nest(LIST_ELEMENT, |element| {
        if flags != 0 {
            element.be32(3, flags);
        }
        element.nest(1, |n| {
            n.bytes(1, key);
        });
        if let Some(last) = last {
            element.nest(10, |n| {
                n.bytes(1, last);
            });
        }
        match datum {
            None => {}
            Some(Datum::Verdict(verdict)) => {
                element.nest(2, |n| write_verdict(n, verdict));
            }
            Some(Datum::Values(values)) => {
                element.nest(2, |n| {
                    n.bytes(1, &bytes(values, false));
                });
            }
        }
    });
}

/// A key's or datum's bytes: each part but a lone one is padded to four.
pub(super) fn bytes(values: &[Value], interval: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    for value in values {
        value.write(&mut bytes, interval);
        if values.len() > 1 {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
    }
    bytes
}

/// The next key; `None` behind the last one.
fn successor(key: &[u8]) -> Option<Vec<u8>> {
    let mut next = key.to_vec();
    for byte in next.iter_mut().rev() {
        let (sum, carry) = byte.overflowing_add(1);
        *byte = sum;
        if !carry {
            return Some(next);
        }
    }
    None
}

fn predecessor(key: &[u8]) -> Option<Vec<u8>> {
    let mut previous = key.to_vec();
    for byte in previous.iter_mut().rev() {
        let (difference, borrow) = byte.overflowing_sub(1);
        *byte = difference;
        if !borrow {
            return Some(previous);
        }
    }
    None
}

/// What the kernel gave of one element.
pub(super) struct Found {
    key: Vec<u8>,
    last: Option<Vec<u8>>,
    end: bool,
    datum: Option<Option<Datum>>,
}

/// Reads the elements of one message (`NFTA_SET_ELEM_LIST_ELEMENTS`); `None` stands for one that is not understood.
pub(super) fn read<'a>(
    list: &'a [u8],
    declaration: &'a Declaration,
) -> impl Iterator<Item = Option<Found>> + use<'a> {
    attributes(list).map(|element| {
        let a = table::<12>(element.value);
        let value = |kind: usize| {
            let [_, value] = table::<2>(a[kind]?.value);
            Some(value?.value.to_vec())
        };
        let flags = a[3].and_then(|flags| flags.be32()).unwrap_or(0);
        if flags & !INTERVAL_END != 0 {
            return None; // NFT_SET_ELEM_CATCHALL
        }
        let datum = match (&declaration.data, a[2]) {
            (None, None) => Some(None),
            (Some(data), Some(found)) => datum(data, found.value).map(Some),
            (Some(_), None) | (None, Some(_)) => None,
        };
        Some(Found { key: value(1)?, last: value(10), end: flags != 0, datum })
    })
}

impl Found {
    /// The raw key of an element of an anonymous set.
    pub(super) fn into_key(self) -> Vec<u8> {
        self.key
    }
}

fn datum(data: &Data, found: &[u8]) -> Option<Datum> {
    let [_, value, verdict] = table::<3>(found);
    match data {
        Data::Verdict => Some(Datum::Verdict(read_verdict(verdict?.value)?)),
        Data::Values(parts) => values(parts, value?.value, false).map(Datum::Values),
    }
}

fn values(parts: &[Type], mut bytes: &[u8], interval: bool) -> Option<Vec<Value>> {
    let mut values = Vec::with_capacity(parts.len());
    for part in parts {
        let padded = if parts.len() > 1 { part.size().next_multiple_of(4) } else { part.size() };
        values.push(Value::from_bytes(*part, bytes.get(..part.size())?, interval)?);
        bytes = bytes.get(padded..)?;
    }
    bytes.is_empty().then_some(values)
}

/// Puts together what the kernel gave; `None` if some of it is not understood.
pub(super) fn gather(declaration: &Declaration, found: Vec<Found>) -> Option<Elements> {
    if declaration.interval && declaration.key.len() == 1 {
        return pair(declaration, found);
    }
    let mut elements = Elements::new();
    for element in found {
        let first = values(&declaration.key, &element.key, declaration.interval)?;
        let items = match element.last {
            None => first.into_iter().map(Item::One).collect(),
            Some(last) => {
                let last = values(&declaration.key, &last, declaration.interval)?;
                first.into_iter().zip(last).map(|(first, last)| Item::range(first, last)).collect()
            }
        };
        elements.insert(Key(items), element.datum?);
    }
    Some(elements)
}

/// Starts and ends in any order, back into ranges.
fn pair(declaration: &Declaration, mut found: Vec<Found>) -> Option<Elements> {
    // An end comes before the start of the next range with the same key.
    found.sort_by(|a, b| (&a.key, !a.end).cmp(&(&b.key, !b.end)));
    let mut elements = Elements::new();
    for (index, start) in found.iter().enumerate().filter(|(_, element)| !element.end) {
        // A range without an end of its own goes up to the next one, the last of all to the highest value.
        let last = match found.get(index + 1) {
            Some(next) => predecessor(&next.key)?,
            None => vec![0xff; start.key.len()],
        };
        let kind = declaration.key[0];
        let item =
            Item::range(Value::from_bytes(kind, &start.key, true)?, Value::from_bytes(kind, &last, true)?);
        elements.insert(Key(vec![item]), start.datum.clone()?);
    }
    Some(elements)
}
