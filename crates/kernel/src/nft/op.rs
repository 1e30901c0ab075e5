//! The steps that change tables. Each prints as the command that a person would type.
//!
//! What a step means is the interpreter's ([`fake`](super::fake)) and the kernel's business.

use super::command;
use super::model::{Base, Chain, Declaration, Rule, Set, Table, TableName};
use super::value::{Datum, Key};

/// One step. Several make a batch, which the kernel takes as a whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Makes a table; does nothing if it is there.
    AddTable(TableName),
    /// Takes a table away with everything in it.
    DeleteTable(TableName),
    /// Makes a chain; if it is there, sets its policy.
    AddChain {
        /// In this table.
        table: TableName,
        /// Its name.
        chain: String,
        /// How it hangs in the network stack.
        base: Option<Base>,
    },
    /// Takes a chain and its rules away; nothing may lead to it.
    DeleteChain {
        /// In this table.
        table: TableName,
        /// Its name.
        chain: String,
    },
    /// Takes a chain's rules away.
    FlushChain {
        /// In this table.
        table: TableName,
        /// Its name.
        chain: String,
    },
    /// Adds a rule at a chain's end.
    AddRule {
        /// In this table.
        table: TableName,
        /// In this chain.
        chain: String,
        /// The rule.
        rule: Rule,
    },
    /// Makes a set without elements; does nothing if there is one with this declaration.
    AddSet {
        /// In this table.
        table: TableName,
        /// Its name.
        set: String,
        /// What it can hold.
        declaration: Declaration,
    },
    /// Takes a set away; no rule may use it.
    DeleteSet {
        /// In this table.
        table: TableName,
        /// Its name.
        set: String,
    },
    /// Adds elements; those that are there with the same data stay.
    AddElements {
        /// In this table.
        table: TableName,
        /// To this set.
        set: String,
        /// Whether the set is declared with `interval`: its elements lie differently on the wire.
        interval: bool,
        /// The elements.
        elements: Vec<(Key, Option<Datum>)>,
    },
    /// Takes elements away; all must be there.
    DeleteElements {
        /// In this table.
        table: TableName,
        /// From this set.
        set: String,
        /// Whether the set is declared with `interval`.
        interval: bool,
        /// Their keys, exactly as they were added.
        keys: Vec<Key>,
    },
}

impl Op {
    /// The table that it changes.
    #[must_use]
    pub fn table(&self) -> &TableName {
        match self {
            Op::AddTable(table) | Op::DeleteTable(table) => table,
            Op::AddChain { table, .. }
            | Op::DeleteChain { table, .. }
            | Op::FlushChain { table, .. }
            | Op::AddRule { table, .. }
            | Op::AddSet { table, .. }
            | Op::DeleteSet { table, .. }
            | Op::AddElements { table, .. }
            | Op::DeleteElements { table, .. } => table,
        }
    }

    /// The step as a line of a file for `nft -f`: the command without `nft`, and without a shell's quotes.
    #[must_use]
    pub fn statement(&self) -> String {
        command::of(self)
    }
}

/// A whole table as a file for `nft -f`.
#[must_use]
pub fn script(name: &TableName, table: &Table) -> String {
    let mut script = String::new();
    for op in creation(name, table) {
        script.push_str(&op.statement());
        script.push('\n');
    }
    script
}

/// The steps that make a table, in an order that the kernel accepts: what is referred to comes first.
pub(super) fn creation(name: &TableName, table: &Table) -> Vec<Op> {
    let mut ops = vec![Op::AddTable(name.clone())];
    for (chain, Chain { base, .. }) in &table.chains {
        ops.push(Op::AddChain { table: name.clone(), chain: chain.clone(), base: base.clone() });
    }
    for (set, Set { declaration, elements }) in &table.sets {
        ops.push(Op::AddSet { table: name.clone(), set: set.clone(), declaration: declaration.clone() });
        if !elements.is_empty() {
            ops.push(Op::AddElements {
                table: name.clone(),
                set: set.clone(),
                interval: declaration.interval,
                elements: elements.iter().map(|(key, datum)| (key.clone(), datum.clone())).collect(),
            });
        }
    }
    for (chain, Chain { rules, .. }) in &table.chains {
        ops.extend(rules.iter().map(|rule| Op::AddRule {
            table: name.clone(),
            chain: chain.clone(),
            rule: rule.clone(),
        }));
    }
    ops
}
