//! The nftables driver: what the tables named `weft` hold.
//!
//! Few static chains over sets: a workload comes and goes with elements, never with rules, and no
//! lookup's cost grows with their number.
//!
//! | table | sees | holds |
//! |---|---|---|
//! | `inet weft` | IP of routed wires, of bridges, and of the host | source guard, policy, isolation, services, published ports, masquerade |
//! | `arp weft` | ARP of routed wires | sender guard |
//! | `bridge weft` | frames from bridge ports | source, ARP and ND guard by port |

mod arp;
mod bridge;
mod guard;
mod host;
mod inet;
mod overlay;
pub mod policy;
pub(crate) mod ports;
pub mod services;

use weft_kernel::nft::{Family, Table, TableName, Tables};
use weft_plan::Plan;

pub(crate) use guard::guarded_address;
pub use guard::{guard, guarded};
pub use overlay::peer;
pub use ports::{is_of_ports, ports, published_to};

fn name(family: Family) -> TableName {
    TableName::new(family, weft_kernel::ours::TABLE)
}

/// The tables of a plan, without the elements that belong to workloads.
#[must_use]
pub fn ruleset(plan: &Plan) -> Tables {
    let mut tables = declarations();
    let mut fill = |family, fill: &dyn Fn(&mut Table)| fill(tables.entry(name(family)).or_default());
    fill(Family::Inet, &|table| {
        inet::fill(plan, table);
        ports::fill(table);
        services::fill(plan, table);
    });
    fill(Family::Arp, &arp::fill);
    fill(Family::Bridge, &bridge::fill);
    policy::fill(&plan.policy, &mut tables);
    tables
}

/// The table with nothing but the declarations of the sets that other hosts have elements in.
#[must_use]
pub(crate) fn peer_declarations() -> Tables {
    let sets = overlay::declarations().map(|(set, declared)| (set.to_owned(), declared.empty()));
    let table = Table { sets: sets.collect(), ..Table::default() };
    Tables::from([(name(Family::Inet), table)])
}

/// The tables with nothing but the declarations of the sets that workloads have elements in.
#[must_use]
pub fn declarations() -> Tables {
    let mut tables = Tables::default();
    for (family, sets) in guard::sets() {
        let table: &mut Table = tables.entry(name(family)).or_default();
        table.sets.extend(sets.into_iter().map(|(set, declared)| (set.to_owned(), declared.empty())));
    }
    let table: &mut Table = tables.entry(name(Family::Inet)).or_default();
    table.sets.extend(ports::sets().into_iter().map(|(set, declared)| (set.to_owned(), declared.empty())));
    tables
}
