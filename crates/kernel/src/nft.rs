//! nftables: tables as plain data, how to get from one state to another, and the kernel's netlink for both.
//!
//! Nothing here knows what a workload is, and the program `nft` is never executed: it is the words
//! ([`Op`] prints as the command a person would type) and the tests' oracle.
//!
//! `Tables` ──[`diff()`]──▶ `Op`s ──[`apply`]──▶ kernel ──[`read()`]──▶ `Tables`; [`fake`] stands in for the kernel.

mod batch;
mod command;
mod construct;
mod declaration;
mod decode;
mod depend;
mod diff;
mod elements;
mod encode;
mod events;
mod expression;
pub mod fake;
mod field;
mod foreign;
mod model;
mod op;
mod read;
mod text;
pub mod trace;
mod types;
mod validate;
mod value;
mod wire;

#[cfg(test)]
mod tests;

pub use batch::{Error, apply};
pub use decode::Glance;
pub use depend::canonical;
pub use diff::{Diff, diff};
pub use events::{GROUP, concerns};
pub use expression::{
    Compare, Expr, Mark, MarkSource, NatKind, NatTarget, Operand, Reject, Right, SetRef, Unit,
};
pub use field::{Base as PayloadBase, Field};
pub use foreign::{ForeignChain, ForeignTable, foreign};
pub use model::{
    Base, Chain, Data, Declaration, Family, Hook, Kind, Policy, Rule, Set, Table, TableName, Tables,
};
pub use op::{Op, script};
pub use read::{CounterValue, counters, read};
pub use types::Type;
pub use validate::Invalid;
pub use value::{Datum, IfName, Item, Key, Raw, Value, Verdict};
