//! Tables without a kernel: steps are interpreted, and refused where Linux refuses them.
//!
//! Packets do not exist here. Error numbers are those of kernel 6.18; that it and the interpreter agree is tested
//! by running the same cases against both (`tests/refusals.rs`).

use std::collections::BTreeMap;

use super::depend::canonical;
use super::expression::{Expr, MarkSource, NatTarget, Operand, Right};
use super::model::{Base, Chain, Data, Declaration, Rule, Set, Table, TableName, Tables};
use super::op::Op;
use super::types::width;
use super::validate;
use super::value::{Datum, Item, Key, Value};

/// Applies all steps or none.
///
/// # Errors
/// The step that is refused, by its place, and the error number with which Linux refuses it.
pub fn apply(tables: &mut Tables, ops: &[Op]) -> Result<(), (usize, i32)> {
    let mut new = tables.clone();
    for (index, op) in ops.iter().enumerate() {
        apply_op(&mut new, op).map_err(|errno| (index, errno))?;
    }
    *tables = new;
    Ok(())
}

/// Applies one step.
///
/// # Errors
/// The error number with which Linux refuses it (`libc::ENOENT`, …); `EINVAL` also for what
/// [`apply`](super::apply()) would not send at all.
pub fn apply_op(tables: &mut Tables, op: &Op) -> Result<(), i32> {
    validate::op(op).map_err(|_| libc::EINVAL)?;
    let name = op.table();
    if let Op::AddTable(_) = op {
        tables.entry(name.clone()).or_default();
        return Ok(());
    }
    let table = tables.get_mut(name).ok_or(libc::ENOENT)?;
    match op {
        Op::AddTable(_) => Ok(()),
        Op::DeleteTable(_) => {
            tables.remove(name);
            Ok(())
        }
        Op::AddChain { chain, base, .. } => add_chain(table, chain, base.as_ref()),
        Op::DeleteChain { chain, .. } => {
            let used = |other: &&String| *other != chain;
            table.chains.get(chain).ok_or(libc::ENOENT)?;
            if leads_to(table, chain, used) {
                return Err(libc::EBUSY);
            }
            table.chains.remove(chain);
            Ok(())
        }
        Op::FlushChain { chain, .. } => {
            table.chains.get_mut(chain).ok_or(libc::ENOENT)?.rules.clear();
            Ok(())
        }
        Op::AddRule { chain, rule, .. } => add_rule(table, name, chain, rule),
        Op::AddSet { set, declaration, .. } => match table.sets.get(set) {
            None => {
                table.sets.insert(set.clone(), declaration.clone().empty());
                Ok(())
            }
            Some(old) if old.declaration == *declaration => Ok(()),
            Some(_) => Err(libc::EEXIST),
        },
        Op::DeleteSet { set, .. } => {
            table.sets.get(set).ok_or(libc::ENOENT)?;
            let rules = table.chains.values().flat_map(|chain| &chain.rules);
            let mut expressions = rules.flat_map(|rule| &rule.expressions);
            if expressions.any(|expression| expression.set().is_some_and(|used| used.name == *set)) {
                return Err(libc::EBUSY);
            }
            table.sets.remove(set);
            Ok(())
        }
        Op::AddElements { set, elements, .. } => {
            elements.iter().try_for_each(|(key, datum)| add_element(table, set, key, datum.as_ref()))
        }
        Op::DeleteElements { set, keys, .. } => {
            let set = table.sets.get_mut(set).ok_or(libc::ENOENT)?;
            keys.iter().try_for_each(|key| delete_element(set, key))
        }
    }
}

fn add_chain(table: &mut Table, chain: &str, base: Option<&Base>) -> Result<(), i32> {
    let Some(old) = table.chains.get_mut(chain) else {
        table.chains.insert(chain.to_owned(), Chain { base: base.cloned(), rules: Vec::new() });
        return Ok(());
    };
    match (&mut old.base, base) {
        (_, None) => Ok(()),
        (Some(old), Some(new)) if (Base { policy: new.policy, ..old.clone() }) == *new => {
            old.policy = new.policy;
            Ok(())
        }
        (Some(old), Some(new)) if old.kind != new.kind => Err(libc::EEXIST),
        _ => Err(libc::EOPNOTSUPP),
    }
}

/// Whether a rule of another chain or an element leads to the chain.
fn leads_to(table: &Table, chain: &str, of: impl Fn(&&String) -> bool) -> bool {
    let rules = table.chains.iter().filter(|(name, _)| of(name)).flat_map(|(_, chain)| &chain.rules);
    let mut jumps = rules.flat_map(|rule| &rule.expressions).filter_map(|expression| match expression {
        Expr::Verdict(verdict) => verdict.chain(),
        _ => None,
    });
    let elements = table.sets.values().flat_map(|set| set.elements.values().flatten());
    let mut verdicts = elements.filter_map(leads);
    jumps.any(|to| to == chain) || verdicts.any(|to| to == chain)
}

fn add_rule(table: &mut Table, name: &TableName, chain: &str, rule: &Rule) -> Result<(), i32> {
    table.chains.get(chain).ok_or(libc::ENOENT)?;
    for expression in &rule.expressions {
        check(table, expression)?;
    }
    for expression in &rule.expressions {
        if let Expr::Update { set, .. } = expression
            && let Some(set) = table.sets.get_mut(&set.name)
        {
            set.declaration.size.get_or_insert(DYNAMIC_SIZE);
        }
    }
    let rule = canonical(name.family, rule);
    if let Some(chain) = table.chains.get_mut(chain) {
        chain.rules.push(rule);
    }
    too_deep(table)
}

/// The size that the kernel gives a set without one as soon as a rule updates it (nft_dynset.c).
const DYNAMIC_SIZE: u32 = 65535;

/// The most jumps one after the other (NFT_JUMP_STACK_SIZE); a circle has more.
const JUMPS: usize = 16;

/// Whether jumps and verdict maps lead deeper than the kernel allows; chains that no packet enters are not looked at.
fn too_deep(table: &Table) -> Result<(), i32> {
    let hooked = table.chains.iter().filter(|(_, chain)| chain.base.is_some());
    let mut open: Vec<(&str, usize)> = hooked.map(|(name, _)| (name.as_str(), 0)).collect();
    let mut deepest = BTreeMap::new();
    while let Some((chain, level)) = open.pop() {
        if level == JUMPS {
            return Err(libc::EMLINK);
        }
        let rules = table.chains.get(chain).map_or(&[][..], |chain| &chain.rules);
        for target in rules.iter().flat_map(|rule| &rule.expressions).flat_map(|e| targets(table, e)) {
            if deepest.get(target).is_none_or(|seen| *seen < level + 1) {
                deepest.insert(target, level + 1);
                open.push((target, level + 1));
            }
        }
    }
    Ok(())
}

/// The chains to which an expression can lead.
fn targets<'a>(table: &'a Table, expression: &'a Expr) -> Vec<&'a str> {
    match expression {
        Expr::Verdict(verdict) => verdict.chain().into_iter().collect(),
        Expr::VerdictMap { map, .. } => {
            let elements =
                table.sets.get(&map.name).into_iter().flat_map(|set| set.elements.values().flatten());
            elements.filter_map(leads).collect()
        }
        _ => Vec::new(),
    }
}

/// The chain to which an element leads.
fn leads(datum: &Datum) -> Option<&str> {
    match datum {
        Datum::Verdict(verdict) => verdict.chain(),
        Datum::Values(_) => None,
    }
}

fn target(table: &Table, chain: &str) -> Result<(), i32> {
    match table.chains.get(chain) {
        None => Err(libc::ENOENT),
        Some(Chain { base: Some(_), .. }) => Err(libc::EOPNOTSUPP),
        Some(_) => Ok(()),
    }
}

/// What the kernel checks of one expression: references, and the width of keys and data.
fn check(table: &Table, expression: &Expr) -> Result<(), i32> {
    if let Expr::Verdict(verdict) = expression {
        verdict.chain().map_or(Ok(()), |chain| target(table, chain))?;
    }
    let Some(reference) = expression.set() else {
        return match expression {
            Expr::Match { right: Right::OneOf(values), .. } if values.is_empty() => Err(libc::EINVAL),
            _ => Ok(()),
        };
    };
    let set = &table.sets.get(&reference.name).ok_or(libc::ENOENT)?.declaration;
    let key: Vec<&Operand> = match expression {
        Expr::Update { key, .. } => key.iter().collect(),
        _ => expression.operands().collect(),
    };
    let bytes: usize = key.iter().map(|part| part.field.kind().size().next_multiple_of(4)).sum();
    let data = match &set.data {
        None => None,
        Some(Data::Verdict) => Some(16),
        Some(Data::Values(values)) => Some(width(values)),
    };
    let map_fits = match expression {
        Expr::VerdictMap { .. } => matches!(set.data, Some(Data::Verdict)),
        Expr::SetMark { to: MarkSource::Map { .. }, .. } => data == Some(4),
        Expr::Nat { to: NatTarget::Map { port, .. }, ipv6, .. } => {
            let address = if *ipv6 { 16 } else { 4 };
            data == Some(if *port { address + 4 } else { address })
        }
        Expr::Update { data: operands, .. } => operands.is_empty() == data.is_none(),
        _ => true,
    };
    // The kernel loads whole registers: a key of one byte is as wide as one of four.
    let key_fits = bytes >= width(&set.key);
    if let Expr::Update { timeout, .. } = expression
        && (!can_update(set) || (timeout.is_some() && set.timeout.is_none()))
    {
        return Err(libc::EOPNOTSUPP);
    }
    match (map_fits && reference.interval == set.interval, key_fits) {
        (true, true) => Ok(()),
        (true, false) => Err(libc::ENODATA), // a register that was never loaded (kernel ≥ 6.4)
        (false, _) => Err(libc::EINVAL),
    }
}

/// Whether the kernel picks a kind of set that rules can change: the growing hash table.
fn can_update(set: &Declaration) -> bool {
    let grows = set.size.is_none() && width(&set.key) > 2;
    !set.interval && (set.dynamic || set.timeout.is_some() || grows)
}

fn check_key(declaration: &Declaration, key: &Key) -> Result<(), i32> {
    let kinds: Vec<_> = key.0.iter().map(|item| item.first().kind()).collect();
    if width(&kinds) == width(&declaration.key) { Ok(()) } else { Err(libc::EINVAL) }
}

fn add_element(table: &mut Table, set: &str, key: &Key, datum: Option<&Datum>) -> Result<(), i32> {
    let found = table.sets.get(set).ok_or(libc::ENOENT)?;
    check_key(&found.declaration, key)?;
    match (&found.declaration.data, datum) {
        (None, None) => {}
        (Some(Data::Verdict), Some(Datum::Verdict(verdict))) => {
            verdict.chain().map_or(Ok(()), |chain| target(table, chain))?;
        }
        (Some(Data::Values(parts)), Some(Datum::Values(values))) => {
            let kinds: Vec<_> = values.iter().map(Value::kind).collect();
            if width(&kinds) != width(parts) {
                return Err(libc::EINVAL);
            }
        }
        _ => return Err(libc::EINVAL),
    }
    let Set { declaration, elements } = table.sets.get_mut(set).ok_or(libc::ENOENT)?;
    match elements.get(key) {
        Some(old) if old.as_ref() == datum => return Ok(()),
        Some(_) => return Err(libc::EEXIST),
        None => {}
    }
    if declaration.interval && elements.keys().any(|old| old.overlaps(key)) {
        return Err(libc::EEXIST);
    }
    if declaration.size.is_some_and(|size| elements.len() >= size as usize) {
        return Err(libc::ENFILE);
    }
    elements.insert(key.clone(), datum.cloned());
    if datum.and_then(leads).is_some() { too_deep(table) } else { Ok(()) }
}

fn delete_element(set: &mut Set, key: &Key) -> Result<(), i32> {
    check_key(&set.declaration, key)?;
    let areas = set.declaration.interval && set.declaration.key.len() > 1;
    let found = if areas {
        // The kernel takes away the area in which the key's first value lies (nft_set_pipapo.c).
        let first = Key(key.0.iter().map(|item| Item::One(item.first())).collect());
        set.elements.keys().find(|area| area.overlaps(&first)).cloned()
    } else {
        Some(key.clone())
    };
    let removed = found.and_then(|key| set.elements.remove(&key));
    removed.map(|_| ()).ok_or(libc::ENOENT)
}
