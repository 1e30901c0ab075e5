//! Declarations of sets on the wire, both ways.
//!
//! The kernel knows widths and flags; the types' names are `nft`'s business, which it keeps in
//! numbers and notes ("user data") that are written here too, so that `nft list` shows what was meant.

use std::time::Duration;

use super::model::{Data, Declaration};
use super::types::{self, Order, Type};
use super::wire::{LIST_ELEMENT, flag, table};
use crate::netlink::Attributes;

/// `NFT_DATA_VERDICT` as a map's type of data.
const VERDICT: u32 = 0xffff_ff00;

/// Writes the attributes of `NFT_MSG_NEWSET` behind table and name. `id` names the set within its batch.
pub(super) fn write(to: &mut Attributes<'_>, declaration: &Declaration, id: u32) {
    write_with(to, declaration, id, 0);
}

/// The same for a set that lives and dies with a rule.
pub(super) fn write_anonymous(to: &mut Attributes<'_>, declaration: &Declaration, id: u32) {
    write_with(to, declaration, id, flag::ANONYMOUS | flag::CONSTANT);
}

fn write_with(to: &mut Attributes<'_>, declaration: &Declaration, id: u32, more: u32) {
    let Declaration { key, data, interval, dynamic, timeout, size } = declaration;
    let concatenated = *interval && key.len() > 1;
    let bit = |condition: bool, bit: u32| if condition { bit } else { 0 };
    let flags = more
        | bit(*interval, flag::INTERVAL)
        | bit(data.is_some(), flag::MAP)
        | bit(timeout.is_some(), flag::TIMEOUT)
        | bit(*dynamic, flag::DYNAMIC)
        | bit(concatenated, flag::CONCAT);
    to.be32(3, flags).be32(4, types::number(key)).be32(5, width(key));
    match data {
        None => {}
        Some(Data::Verdict) => {
            to.be32(6, VERDICT).be32(7, 16);
        }
        Some(Data::Values(parts)) => {
            to.be32(6, types::number(parts)).be32(7, width(parts));
        }
    }
    if size.is_some() || concatenated {
        to.nest(9, |description| {
            if let Some(size) = size {
                description.be32(1, *size);
            }
            if concatenated {
                description.nest(2, |fields| {
                    for part in key {
                        fields.nest(LIST_ELEMENT, |field| {
                            field.be32(1, u32::try_from(part.size()).unwrap_or(0));
                        });
                    }
                });
            }
        });
    }
    to.be32(10, id);
    if let Some(timeout) = timeout.filter(|timeout| !timeout.is_zero()) {
        to.be64(11, u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    }
    to.bytes(13, &notes(key, data.as_ref()));
}

fn width(parts: &[Type]) -> u32 {
    u32::try_from(types::width(parts)).unwrap_or(0)
}

/// Reads the attributes of a set; `None` if it is not of a kind that can be declared here.
pub(super) fn read(body: &[u8]) -> Option<Declaration> {
    let a = table::<20>(body);
    let word = |kind: usize| a[kind].and_then(|a| a.be32());
    let flags = word(3).unwrap_or(0);
    let known = flag::INTERVAL
        | flag::MAP
        | flag::TIMEOUT
        | flag::DYNAMIC
        | flag::CONCAT
        | flag::ANONYMOUS
        | flag::CONSTANT;
    if flags & !known != 0 || a[15].is_some() || a[17].is_some() || a[18].is_some() {
        return None; // objects or expressions as data
    }
    let key = types::parts(word(4)?, usize::try_from(word(5)?).ok()?);
    let data = match word(6) {
        _ if flags & flag::MAP == 0 => None,
        Some(VERDICT) => Some(Data::Verdict),
        Some(number) => Some(Data::Values(types::parts(number, usize::try_from(word(7)?).ok()?))),
        None => return None,
    };
    let expires = a[11].and_then(|t| t.be64()).map_or(Duration::ZERO, Duration::from_millis);
    let [_, size] = a[9].map_or([None; 2], |description| table::<2>(description.value));
    Some(Declaration {
        key,
        data,
        interval: flags & flag::INTERVAL != 0,
        dynamic: flags & flag::DYNAMIC != 0,
        timeout: (flags & flag::TIMEOUT != 0).then_some(expires),
        size: size.and_then(|size| size.be32()),
    })
}

/// The notes of `nft` (libnftnl `udata.h`): bytes in the host's order; records of type, length, value.
///
/// Integers have no byte order by themselves, so those sets are noted as `typeof` some expression.
fn notes(key: &[Type], data: Option<&Data>) -> Vec<u8> {
    let mut notes = Vec::new();
    let values = match data {
        Some(Data::Values(values)) => values.as_slice(),
        _ => &[],
    };
    record(&mut notes, 0, &byteorder(key).to_ne_bytes());
    if !values.is_empty() {
        record(&mut notes, 1, &byteorder(values).to_ne_bytes());
    }
    if needs_typeof(key, data) {
        record(&mut notes, 3, &typeof_all(key));
        if !values.is_empty() {
            record(&mut notes, 4, &typeof_all(values));
        }
    }
    notes
}

fn record(to: &mut Vec<u8>, kind: u8, value: &[u8]) {
    to.extend([kind, u8::try_from(value.len()).unwrap_or(u8::MAX)]);
    to.extend(value);
}

/// Whether the declaration can only be written with `typeof`.
pub(super) fn needs_typeof(key: &[Type], data: Option<&Data>) -> bool {
    let values = match data {
        Some(Data::Values(values)) => values.as_slice(),
        _ => &[],
    };
    key.iter().chain(values).any(|part| matches!(*part, Type::Integer | Type::TARGET))
}

/// `enum byteorder` of `nft`: unknown, host, network. Concatenations have none, nor have some single bytes.
fn byteorder(parts: &[Type]) -> u32 {
    match parts {
        [Type::Protocol | Type::NfProto | Type::CtDirection] => 0,
        [Type::IfName | Type::PacketType] => 1,
        [one] if one.order() == Order::Host => 1,
        [_] => 2,
        _ => 0,
    }
}

/// An expression as `nft` notes it: its number (`enum expr_types`) and its own records.
fn noted(kind: u32, body: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    record(&mut note, 0, &kind.to_ne_bytes());
    record(&mut note, 1, body);
    note
}

fn typeof_all(parts: &[Type]) -> Vec<u8> {
    if let [one] = parts {
        return typeof_one(*one);
    }
    let mut all = Vec::new();
    for (index, part) in (0_u8..).zip(parts) {
        record(&mut all, index, &typeof_one(*part));
    }
    noted(13, &all)
}

fn typeof_one(part: Type) -> Vec<u8> {
    let mut body = Vec::new();
    let mut words = |words: &[u32]| {
        for (index, word) in (0_u8..).zip(words) {
            record(&mut body, index, &word.to_ne_bytes());
        }
    };
    match typeof_of(part).1 {
        Note::Meta(key) => words(&[key]),
        Note::Payload(protocol, field) => words(&[protocol, field]),
        Note::Raw(base, offset, length) => words(&[0, 0, base, offset, length]),
        Note::Random => words(&[1, RANDOM, 0]),
    }
    let kind = match typeof_of(part).1 {
        Note::Meta(_) => 9,
        Note::Payload(..) | Note::Raw(..) => 7,
        Note::Random => 23,
    };
    noted(kind, &body)
}

/// An expression that stands for a type.
enum Note {
    /// `enum nft_meta_keys`.
    Meta(u32),
    /// `enum proto_desc_id` of `nft`, and the field's index in the protocol's template.
    Payload(u32, u32),
    /// `enum proto_bases`, offset and length in bits.
    Raw(u32, u32, u32),
    Random,
}

/// Any modulus does: the type is the same.
const RANDOM: u32 = 65536;

/// The words of an expression of that type, and its note.
fn typeof_of(part: Type) -> (&'static str, Note) {
    match part {
        Type::Ipv4 => ("ip daddr", Note::Payload(12, 12)),
        Type::Ipv6 => ("ip6 daddr", Note::Payload(13, 7)),
        Type::Mac => ("ether daddr", Note::Payload(17, 1)),
        Type::EtherType => ("ether type", Note::Payload(17, 3)),
        Type::Port => ("th dport", Note::Payload(11, 2)),
        Type::IfName => ("iifname", Note::Meta(6)),
        Type::IfIndex => ("iif", Note::Meta(4)),
        Type::IfGroup => ("iifgroup", Note::Meta(21)),
        Type::Mark => ("meta mark", Note::Meta(3)),
        Type::Protocol => ("meta l4proto", Note::Meta(16)),
        Type::NfProto => ("meta nfproto", Note::Meta(15)),
        Type::PacketType => ("meta pkttype", Note::Meta(19)),
        Type::LinkType => ("meta iiftype", Note::Meta(8)),
        Type::TARGET => ("@th,64,128", Note::Raw(3, 64, 128)),
        _ => ("numgen random mod 65536", Note::Random),
    }
}

/// `typeof` words for a whole key or datum.
pub(super) fn typeof_words(parts: &[Type]) -> String {
    parts.iter().map(|part| typeof_of(*part).0).collect::<Vec<_>>().join(" . ")
}
