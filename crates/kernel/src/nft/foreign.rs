//! Tables of other people's: which chains stand in whose way, read without touching anything.

use std::collections::BTreeMap;

use super::batch::Error;
use super::decode::{self, Glance};
use super::model::{Base, Family, TableName};
use super::read::{chains, request, rules, sets, steady};
use super::wire::{DUMP, message, table};
use crate::netlink::{self, Socket};

/// A table, as far as it matters to whoever's packets pass through it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForeignTable {
    /// Its chains by name.
    pub chains: BTreeMap<String, ForeignChain>,
}

/// A chain of such a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForeignChain {
    /// Where packets enter it; `None` if only other chains lead to it.
    pub base: Option<Base>,
    /// Its rules, in order.
    pub rules: Vec<Glance>,
}

/// Reads all tables but those named. Dormant ones, which do nothing, are left out.
///
/// # Errors
/// [`Error::Unsteady`] if nftables did not hold still for long enough, [`Error::Netlink`].
pub fn foreign(
    socket: &mut Socket,
    except: &[TableName],
) -> Result<BTreeMap<TableName, ForeignTable>, Error> {
    steady(socket, |socket| {
        let names = names(socket)?.into_iter().filter(|name| !except.contains(name));
        names.map(|name| Ok((name.clone(), one(socket, &name)?))).collect()
    })
}

fn names(socket: &mut Socket) -> Result<Vec<TableName>, netlink::Error> {
    const DORMANT: u32 = 1; // NFT_TABLE_F_DORMANT
    let mut all = Vec::new();
    for family in Family::ALL {
        let list = request(family, message::GET_TABLE, DUMP, |_| ());
        all.extend(socket.dump(&list, |found: &mut Vec<TableName>, message| {
            let [_, name, flags] = table::<3>(message.body(4));
            let dormant = flags.and_then(|f| f.be32()).is_some_and(|f| f & DORMANT != 0);
            let name = name.and_then(|n| n.text()).filter(|_| !dormant);
            found.extend(name.map(|name| TableName::new(family, name)));
        })?);
    }
    Ok(all)
}

fn one(socket: &mut Socket, name: &TableName) -> Result<ForeignTable, netlink::Error> {
    let (_, anonymous) = sets(socket, name, &mut Vec::new())?;
    let found = chains(socket, name, &mut Vec::new())?;
    let chain = |(name, chain): (String, super::model::Chain)| {
        (name, ForeignChain { base: chain.base, rules: Vec::new() })
    };
    let mut foreign = ForeignTable { chains: found.into_iter().map(chain).collect() };
    for raw in rules(socket, name)? {
        let glance = decode::glance(name.family, &raw.expressions, &anonymous);
        if let Some(chain) = foreign.chains.get_mut(&raw.chain) {
            chain.rules.push(Glance { comment: raw.comment, ..glance });
        }
    }
    Ok(foreign)
}
