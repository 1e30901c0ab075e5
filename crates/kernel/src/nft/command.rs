//! Steps as commands: as a line for `nft -f`, and as what a person would type into a shell.

use std::fmt;

use super::declaration::{needs_typeof, typeof_words};
use super::model::{Base, Data, Declaration, Family, Policy, TableName};
use super::op::Op;
use super::text::{datum, join, key, quoted, rule, span};
use super::types::Type;

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Inet => "inet",
            Family::Ip => "ip",
            Family::Arp => "arp",
            Family::Netdev => "netdev",
            Family::Bridge => "bridge",
            Family::Ip6 => "ip6",
        })
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

/// The command for a shell: in single quotes where the shell would read something in it as its own.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statement = of(self);
        let plain = |c: char| c.is_ascii_alphanumeric() || " .:,/{}@_-+%".contains(c);
        if statement.chars().all(plain) {
            write!(f, "nft {statement}")
        } else {
            write!(f, "nft '{}'", statement.replace('\'', r"'\''"))
        }
    }
}

/// The command without `nft`.
pub(super) fn of(op: &Op) -> String {
    match op {
        Op::AddTable(table) => format!("add table {table}"),
        Op::DeleteTable(table) => format!("delete table {table}"),
        Op::AddChain { table, chain, base: None } => format!("add chain {table} {chain}"),
        Op::AddChain { table, chain, base: Some(base) } => {
            format!("add chain {table} {chain} {{ {} }}", self::base(base))
        }
        Op::DeleteChain { table, chain } => format!("delete chain {table} {chain}"),
        Op::FlushChain { table, chain } => format!("flush chain {table} {chain}"),
        Op::AddRule { table, chain, rule: added } => format!("add rule {table} {chain} {}", rule(added)),
        Op::AddSet { table, set, declaration } => {
            let word = if declaration.is_map() { "map" } else { "set" };
            format!("add {word} {table} {set} {{ {} }}", self::declaration(declaration))
        }
        Op::DeleteSet { table, set } => format!("delete set {table} {set}"),
        Op::AddElements { table, set, elements, .. } => {
            let elements = join(elements, ", ", |(k, d)| match d {
                None => key(k),
                Some(d) => format!("{} : {}", key(k), datum(d)),
            });
            format!("add element {table} {set} {{ {elements} }}")
        }
        Op::DeleteElements { table, set, keys, .. } => {
            format!("delete element {table} {set} {{ {} }}", join(keys, ", ", key))
        }
    }
}

fn base(base: &Base) -> String {
    let device = base.device.map_or_else(String::new, |name| format!(" device {}", quoted(name.as_str())));
    let policy = match base.policy {
        Policy::Accept => "accept",
        Policy::Drop => "drop",
    };
    let (kind, hook, priority) = (base.kind.name(), base.hook.name(), base.priority);
    format!("type {kind} hook {hook}{device} priority {priority}; policy {policy};")
}

fn declaration(declaration: &Declaration) -> String {
    let by_example = needs_typeof(&declaration.key, declaration.data.as_ref());
    let types = |types: &[Type]| match by_example {
        true => typeof_words(types),
        false => join(types, " . ", |part| part.name().to_owned()),
    };
    let mut words = format!("{} {}", if by_example { "typeof" } else { "type" }, types(&declaration.key));
    match &declaration.data {
        None => {}
        Some(Data::Verdict) => words.push_str(" : verdict"),
        Some(Data::Values(values)) => words.push_str(&format!(" : {}", types(values))),
    }
    words.push(';');
    let flags: Vec<&str> = [
        (declaration.interval, "interval"),
        (declaration.dynamic, "dynamic"),
        (declaration.timeout.is_some(), "timeout"),
    ]
    .into_iter()
    .filter_map(|(set, word)| set.then_some(word))
    .collect();
    if !flags.is_empty() {
        words.push_str(&format!(" flags {};", flags.join(",")));
    }
    if let Some(timeout) = declaration.timeout.filter(|timeout| !timeout.is_zero()) {
        words.push_str(&format!(" timeout {};", span(timeout.as_millis())));
    }
    if let Some(size) = declaration.size {
        words.push_str(&format!(" size {size};"));
    }
    words
}
