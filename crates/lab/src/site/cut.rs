//! Cutting hosts off from each other: the segments' bridges drop what one sends to the other.

use weft_kernel::netlink::{Family as Conversation, Socket};
use weft_kernel::netns::Netns;
use weft_kernel::nft::{
    Base, Chain, Expr, Family, Field, Hook, IfName, Kind, Rule, Table, TableName, Tables, Value,
    apply as send, diff, read,
};

use super::record::{Member, Record};
use crate::{Error, Underlay};

/// Before anything else in a bridge.
const FIRST: i32 = -300;

/// Makes the router's namespace drop exactly what is cut.
pub(super) fn apply(router: &Netns, record: &Record) -> Result<(), Error> {
    let name = TableName::new(Family::Bridge, "lab");
    let mut wanted = Tables::new();
    if !record.cuts.is_empty() {
        let find = |host: &str| record.members.iter().find(|m| m.name == host);
        let pairs = record.cuts.iter().filter_map(|(a, b)| Some((find(a)?, find(b)?)));
        let rules = pairs.flat_map(|(a, b)| drops(a, b).chain(drops(b, a)).collect::<Vec<_>>()).collect();
        let base = Some(Base::new(Kind::Filter, Hook::Prerouting, FIRST));
        let mut table = Table::default();
        table.chains.insert("cut".to_owned(), Chain { base, rules });
        wanted.insert(name.clone(), table);
    }
    let refused = |e: &dyn std::fmt::Display| Error::Answer(format!("failed to cut: {e}"));
    router.run(|| {
        let mut socket = Socket::open(Conversation::Netfilter).map_err(|e| refused(&e))?;
        let found = read(&mut socket, &[name]).map_err(|e| refused(&e))?;
        let difference = diff(&wanted, &found);
        let ops: Vec<_> = difference.install.into_iter().chain(difference.remove).collect();
        if ops.is_empty() { Ok(()) } else { send(&mut socket, &ops).map_err(|e| refused(&e)) }
    })?
}

fn drops<'a>(from: &Member, to: &'a Member) -> impl Iterator<Item = Rule> + use<'a> {
    let port = IfName::new(&Underlay::port(from.number));
    to.addresses.iter().filter_map(move |address| {
        let field = if address.addr().is_ipv4() { Field::IpDaddr } else { Field::Ip6Daddr };
        Some(Rule::new([
            Expr::name(Field::IifName, port?),
            Expr::eq(field, Value::ip(address.addr())),
            Expr::drop(),
        ]))
    })
}
