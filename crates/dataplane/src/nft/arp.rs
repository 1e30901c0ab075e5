//! The table `arp weft`: a routed workload speaks ARP only for itself.

use weft_kernel::nft::{Base, Chain, Expr, Field, Hook, Kind, Rule, SetRef, Table};

use super::guard::GUARD4;
use super::inet::{from_a_wire, refuse};

pub(super) fn fill(table: &mut Table) {
    let sender = [Field::IifName, Field::ArpSaddrEther, Field::ArpSaddrIp];
    let from_wire = vec![
        Rule::new([Expr::lookup(&sender, SetRef::hash(GUARD4)), Expr::accept()]),
        refuse([], Expr::drop(), "ARP for an address that is not the workload's"),
    ];
    let input = vec![Rule::new([from_a_wire(), Expr::jump("from_wire")])];
    let base = Some(Base::new(Kind::Filter, Hook::Input, 0));
    table.chains.insert("input".to_owned(), Chain { base, rules: input });
    table.chains.insert("from_wire".to_owned(), Chain { base: None, rules: from_wire });
}
