//! What the kernel holds: tables read back into the data of `model`.
//!
//! Only tables asked for are read. What is not understood is marked as foreign and never fails.

use std::collections::BTreeMap;

use super::batch::Error;
use super::declaration;
use super::decode::{self, Anonymous};
use super::depend::canonical;
use super::elements;
use super::model::{
    Base, Chain, Declaration, Family, Hook, Kind, Policy, Rule, Set, Table, TableName, Tables,
};
use super::value::IfName;
use super::wire::{ACK, DUMP, REQUEST, flag, header, kind, message, table};
use crate::netlink::{self, Attribute, Attributes, Message, Messages, Socket};

/// How often a read is begun anew because somebody changed something meanwhile.
const ATTEMPTS: usize = 20;

/// Reads the named tables as they were at one moment; those that are not there are absent from the result.
/// Rules come in their [`canonical`] form.
///
/// # Errors
/// [`Error::Unsteady`] if nftables did not hold still for long enough, [`Error::Netlink`].
pub fn read(socket: &mut Socket, names: &[TableName]) -> Result<Tables, Error> {
    steady(socket, |socket| {
        let mut tables = Tables::new();
        for name in names {
            if let Some(table) = one(socket, name)? {
                tables.insert(name.clone(), table);
            }
        }
        Ok(tables)
    })
}

/// Repeats `work` until the generation of nftables is the same before and after.
pub(super) fn steady<T>(
    socket: &mut Socket,
    work: impl Fn(&mut Socket) -> Result<T, netlink::Error>,
) -> Result<T, Error> {
    let mut before = generation(socket)?;
    for _ in 0..ATTEMPTS {
        let result = work(socket);
        let after = generation(socket)?;
        match result {
            // A set or table can vanish between two requests: only a steady read's failure counts.
            Ok(value) if before == after => return Ok(value),
            Err(error) if before == after => return Err(error.into()),
            _ => before = after,
        }
    }
    Err(Error::Unsteady(ATTEMPTS))
}

/// The number that every transaction raises (`NFTA_GEN_ID`).
fn generation(socket: &mut Socket) -> Result<u32, netlink::Error> {
    let request = request(Family::Inet, message::GET_GENERATION, ACK, |_| ());
    socket.dump(&request, |generation: &mut u32, message| {
        let [_, id] = table::<2>(message.body(4));
        *generation = id.and_then(|id| id.be32()).unwrap_or(*generation);
    })
}

pub(super) fn request(
    family: Family,
    message: u16,
    flags: u16,
    body: impl FnOnce(&mut Attributes<'_>),
) -> Messages {
    let mut messages = Messages::default();
    messages.push(kind(message), REQUEST | flags, &header(family as u8, 0), body);
    messages
}

fn one(socket: &mut Socket, name: &TableName) -> Result<Option<Table>, netlink::Error> {
    let mut found = Table::default();
    let get = request(name.family, message::GET_TABLE, ACK, |a| {
        a.text(1, &name.name);
    });
    let flags = socket.dump(&get, |flags: &mut u32, message| {
        *flags = table::<3>(message.body(4))[2].and_then(|flags| flags.be32()).unwrap_or(0);
    });
    match flags {
        Err(netlink::Error::Refused(refusal)) if refusal.errno == libc::ENOENT => return Ok(None),
        Err(error) => return Err(error),
        Ok(0) => {}
        Ok(flags) => found.foreign.push(format!("table with flags {flags:#x}")),
    }
    let (sets, anonymous) = sets(socket, name, &mut found.foreign)?;
    found.sets = sets;
    found.chains = chains(socket, name, &mut found.foreign)?;
    for raw in rules(socket, name)? {
        let mut rule = Rule {
            expressions: decode::expressions(name.family, &raw.expressions, &anonymous),
            comment: raw.comment,
        };
        for set in rule.expressions.iter_mut().filter_map(super::Expr::set_mut) {
            // Keys without numbers look the same in both kinds of lookup: the set knows.
            set.interval = found.sets.get(&set.name).map_or(set.interval, |s| s.declaration.interval);
        }
        if let Some(chain) = found.chains.get_mut(&raw.chain) {
            chain.rules.push(canonical(name.family, &rule));
        }
    }
    Ok(Some(found))
}

/// The text of attribute `kind`, if the message is about our table.
fn named<'a>(attributes: &[Option<Attribute<'a>>], name: &TableName, kind: usize) -> Option<&'a str> {
    let of_table = attributes[1]?.text()? == name.name;
    of_table.then(|| attributes[kind]?.text()).flatten()
}

fn in_table(name: &TableName) -> impl Fn(&mut Attributes<'_>) + use<'_> {
    |a| {
        a.text(1, &name.name);
    }
}

pub(super) type Sets = BTreeMap<String, Set>;

pub(super) fn sets(
    socket: &mut Socket,
    name: &TableName,
    foreign: &mut Vec<String>,
) -> Result<(Sets, Anonymous), netlink::Error> {
    let list = request(name.family, message::GET_SET, DUMP, in_table(name));
    let found: Vec<(String, u32, Option<Declaration>)> =
        socket.dump(&list, |found: &mut Vec<_>, message| {
            let a = table::<20>(message.body(4));
            if let Some(set) = named(&a, name, 2) {
                let flags = a[3].and_then(|flags| flags.be32()).unwrap_or(0);
                found.push((set.to_owned(), flags, declaration::read(message.body(4))));
            }
        })?;
    let (mut sets, mut anonymous) = (Sets::new(), Anonymous::new());
    for (set, flags, declaration) in found {
        let Some(declaration) = declaration else {
            foreign.push(format!("set {set} with flags {flags:#x}"));
            continue;
        };
        let list = request(name.family, message::GET_ELEMENT, DUMP, |a| {
            a.text(1, &name.name).text(2, &set);
        });
        let elements: Vec<Option<elements::Found>> = socket.dump(&list, |all: &mut Vec<_>, message| {
            if let [_, _, _, Some(list)] = table::<4>(message.body(4)) {
                all.extend(elements::read(list.value, &declaration));
            }
        })?;
        let elements: Option<Vec<_>> = elements.into_iter().collect();
        if flags & flag::ANONYMOUS != 0 {
            // Only plain ones can be wanted; rules with others stay foreign because their set is unknown.
            if let Some(elements) = elements.filter(|_| !declaration.interval && !declaration.is_map()) {
                let keys = elements.into_iter().map(elements::Found::into_key).collect();
                anonymous.insert(set, keys);
            }
            continue;
        }
        match elements.and_then(|elements| elements::gather(&declaration, elements)) {
            Some(elements) => {
                sets.insert(set, Set { declaration, elements });
            }
            None => {
                foreign.push(format!("elements of set {set}"));
                sets.insert(set, declaration.empty());
            }
        }
    }
    Ok((sets, anonymous))
}

pub(super) fn chains(
    socket: &mut Socket,
    name: &TableName,
    foreign: &mut Vec<String>,
) -> Result<BTreeMap<String, Chain>, netlink::Error> {
    let list = request(name.family, message::GET_CHAIN, DUMP, |_| ());
    let found = socket.dump(&list, |found: &mut BTreeMap<_, _>, message| {
        let a = table::<13>(message.body(4));
        if let Some(chain) = named(&a, name, 3) {
            found.insert(chain.to_owned(), base(name.family, &a));
        }
    })?;
    let mut chains = BTreeMap::new();
    for (chain, base) in found {
        if base.is_none() {
            foreign.push(format!("chain {chain}"));
        }
        chains.insert(chain, Chain { base: base.flatten(), rules: Vec::new() });
    }
    Ok(chains)
}

/// How a chain hangs in the stack, if it does; `None` if that is not understood.
fn base(family: Family, a: &[Option<Attribute<'_>>; 13]) -> Option<Option<Base>> {
    let word = |a: Option<Attribute<'_>>| a.and_then(|a| a.be32());
    if word(a[10]).unwrap_or(0) & !1 != 0 {
        return None; // hardware offload, or a chain bound to a rule
    }
    let Some(hook) = a[4] else { return Some(None) };
    let [_, number, priority, device, devices] = table::<5>(hook.value);
    let device = match (device, devices) {
        (Some(device), _) => Some(IfName::new(device.text()?)?),
        (None, Some(_)) => return None, // several, or its only one is gone
        (None, None) => None,
    };
    let index = usize::try_from(word(number)?).ok()?;
    let kind = a[7]?.text()?;
    Some(Some(Base {
        kind: Kind::ALL.iter().find(|known| known.1 == kind)?.0,
        hook: *Hook::of(family).get(index)?,
        priority: word(priority)?.cast_signed(),
        policy: match word(a[5])? {
            0 => Policy::Drop,
            1 => Policy::Accept,
            _ => return None,
        },
        device,
    }))
}

/// A rule as the kernel gives it.
pub(super) struct RawRule {
    pub(super) chain: String,
    pub(super) handle: u64,
    pub(super) expressions: Vec<u8>,
    pub(super) comment: Option<String>,
}

pub(super) fn rules(socket: &mut Socket, name: &TableName) -> Result<Vec<RawRule>, netlink::Error> {
    let list = request(name.family, message::GET_RULE, DUMP, in_table(name));
    socket.dump(&list, |found: &mut Vec<_>, message| found.extend(rule(message, name)))
}

fn rule(message: &Message<'_>, name: &TableName) -> Option<RawRule> {
    let a = table::<8>(message.body(4));
    Some(RawRule {
        chain: named(&a, name, 2)?.to_owned(),
        handle: a[3].and_then(|handle| handle.be64()).unwrap_or(0),
        expressions: a[4].map_or_else(Vec::new, |list| list.value.to_vec()),
        comment: a[7].and_then(|notes| comment(notes.value)),
    })
}

/// The comment among libnftnl's notes: records of type, length and value; type 0 is the comment.
fn comment(mut notes: &[u8]) -> Option<String> {
    loop {
        let (kind, length) = (*notes.first()?, usize::from(*notes.get(1)?));
        let value = notes.get(2..2 + length)?;
        if kind == 0 {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        notes = notes.get(2 + length..)?;
    }
}

/// What a rule's counter says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterValue {
    /// The rule's chain.
    pub chain: String,
    /// The rule's comment.
    pub comment: String,
    /// Packets since the rule was made.
    pub packets: u64,
    /// Their bytes, network header and payload.
    pub bytes: u64,
}

/// The counters of a table's rules that have a comment, in the rules' order. A missing table has none.
///
/// # Errors
/// [`Error::Netlink`].
pub fn counters(socket: &mut Socket, name: &TableName) -> Result<Vec<CounterValue>, Error> {
    let rules = match rules(socket, name) {
        Err(netlink::Error::Refused(refusal)) if refusal.errno == libc::ENOENT => Vec::new(),
        rules => rules?,
    };
    let counter = |rule: RawRule| {
        let (packets, bytes) = netlink::attributes(&rule.expressions).find_map(|element| {
            let [_, name, data] = table::<3>(element.value);
            let [_, bytes, packets] =
                table::<3>(data.filter(|_| name.and_then(|name| name.text()) == Some("counter"))?.value);
            Some((packets?.be64()?, bytes?.be64()?))
        })?;
        Some(CounterValue { chain: rule.chain, comment: rule.comment?, packets, bytes })
    };
    Ok(rules.into_iter().filter_map(counter).collect())
}

/// What the tests of rubbish call of the private readers.
#[cfg(test)]
pub(super) fn fuzz(message: &Message<'_>, name: &TableName) -> bool {
    let a = table::<13>(message.body(4));
    let bases = Family::ALL.map(|family| base(family, &a).is_some());
    rule(message, name).is_some() || bases.contains(&true) || comment(message.payload).is_some()
}
