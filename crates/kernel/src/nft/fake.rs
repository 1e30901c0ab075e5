//! Tables without a kernel: steps are interpreted, and refused where Linux refuses them.
//!
//! Packets do not exist here. That the interpreter and Linux agree is tested by running the same cases
//! against both (`tests/refusals.rs`).

use super::depend::canonical;
use super::expression::{Expr, MarkSource, NatTarget, Operand, Right};
use super::model::{Base, Chain, Data, Declaration, Rule, Set, Table, TableName, Tables};
use super::op::Op;
use super::types::width;
use super::validate;
use super::value::{Datum, Key, Value};

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
            for key in keys {
                check_key(&set.declaration, key)?;
                set.elements.remove(key).ok_or(libc::ENOENT)?;
            }
            Ok(())
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
        _ => Err(libc::EEXIST),
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
    let mut verdicts = elements.filter_map(|datum| match datum {
        Datum::Verdict(verdict) => verdict.chain(),
        Datum::Values(_) => None,
    });
    jumps.any(|to| to == chain) || verdicts.any(|to| to == chain)
}

fn add_rule(table: &mut Table, name: &TableName, chain: &str, rule: &Rule) -> Result<(), i32> {
    table.chains.get(chain).ok_or(libc::ENOENT)?;
    for expression in &rule.expressions {
        check(table, expression)?;
    }
    let rule = canonical(name.family, rule);
    if let Some(chain) = table.chains.get_mut(chain) {
        chain.rules.push(rule);
    }
    if circles(table, chain) { Err(libc::ELOOP) } else { Ok(()) }
}

/// Whether jumps lead from a chain back to it.
fn circles(table: &Table, from: &str) -> bool {
    let mut open = vec![from];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(chain) = open.pop() {
        let rules = table.chains.get(chain).map_or(&[][..], |chain| &chain.rules);
        for expression in rules.iter().flat_map(|rule| &rule.expressions) {
            let mut targets: Vec<&str> = Vec::new();
            match expression {
                Expr::Verdict(verdict) => targets.extend(verdict.chain()),
                Expr::VerdictMap { map, .. } => {
                    let data = table.sets.get(&map.name).map(|set| set.elements.values().flatten());
                    targets.extend(data.into_iter().flatten().filter_map(|datum| match datum {
                        Datum::Verdict(verdict) => verdict.chain(),
                        Datum::Values(_) => None,
                    }));
                }
                _ => {}
            }
            if targets.contains(&from) {
                return true;
            }
            open.extend(targets.into_iter().filter(|target| seen.insert(*target)));
        }
    }
    false
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
    let dynamic = set.dynamic || !matches!(expression, Expr::Update { .. });
    if !dynamic {
        return Err(libc::EOPNOTSUPP);
    }
    if map_fits && key_fits && reference.interval == set.interval { Ok(()) } else { Err(libc::EINVAL) }
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
        Some(_) => return Err(libc::EBUSY),
        None => {}
    }
    if declaration.interval && elements.keys().any(|old| old.overlaps(key)) {
        return Err(libc::EEXIST);
    }
    if declaration.size.is_some_and(|size| elements.len() >= size as usize) {
        return Err(libc::ENFILE);
    }
    elements.insert(key.clone(), datum.cloned());
    Ok(())
}
