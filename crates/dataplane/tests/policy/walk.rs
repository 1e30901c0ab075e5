//! A walk through rendered rules with one packet: what nftables does, step by step, on plain data.
//!
//! It knows what the rules of policy consist of, and refuses whatever else it meets.

use std::net::IpAddr;

use weft_kernel::nft::{
    Compare, Datum, Expr, Field, IfName, Mark, MarkSource, Operand, PayloadBase, Raw, Right, Rule, Set,
    Table, Value, Verdict,
};
use weft_kernel::ours::GROUP;
use weft_plan::policy::Packet;

/// `ct state new` (linux/netfilter/nf_conntrack_common.h).
const NEW: u32 = 8;

/// A packet under way, with its mark.
pub(crate) struct Walk<'a> {
    table: &'a Table,
    packet: Packet,
    pub(crate) mark: u32,
    /// Whether it goes out by a workload's wire.
    pub(crate) to_wire: bool,
    /// From this lookup on sets are those of another table: a batch was committed in the middle of the walk.
    pub(crate) then: Option<(&'a Table, usize)>,
    /// Comments of the counters that it passed.
    pub(crate) counted: Vec<String>,
    /// So many maps and sets were asked.
    pub(crate) lookups: usize,
}

/// How a chain ended.
enum End {
    Fell,
    Returned,
    Final(bool),
}

impl<'a> Walk<'a> {
    pub(crate) fn new(table: &'a Table, packet: Packet, mark: u32) -> Walk<'a> {
        Walk { table, packet, mark, to_wire: false, then: None, counted: Vec::new(), lookups: 0 }
    }

    /// Whether the base chain lets it pass.
    pub(crate) fn passes(&mut self, base: &str) -> bool {
        match self.chain(base) {
            End::Fell | End::Returned => true,
            End::Final(passes) => passes,
        }
    }

    fn chain(&mut self, name: &str) -> End {
        let chain = match (self.table.chains.get(name), self.then) {
            (Some(chain), _) => chain,
            // Whoever walks by the rules of before finds a chain that is new without rules.
            (None, Some((after, _))) if after.chains.contains_key(name) => return End::Fell,
            _ => panic!("there is no chain {name}"),
        };
        for rule in &chain.rules {
            match self.rule(rule) {
                None | Some(Verdict::Continue) => {}
                Some(Verdict::Accept) => return End::Final(true),
                Some(Verdict::Drop) => return End::Final(false),
                Some(Verdict::Return) => return End::Returned,
                Some(Verdict::Jump(to)) => {
                    if let End::Final(passes) = self.chain(&to) {
                        return End::Final(passes);
                    }
                }
                // A chain gone to returns to whoever jumped here.
                Some(Verdict::Goto(to)) => {
                    return match self.chain(&to) {
                        End::Final(passes) => End::Final(passes),
                        _ => End::Returned,
                    };
                }
            }
        }
        End::Fell
    }

    fn rule(&mut self, rule: &Rule) -> Option<Verdict> {
        for expression in &rule.expressions {
            match expression {
                Expr::Match { left, compare, right } => {
                    let found = self.load(left)?;
                    let equal = match right {
                        Right::Value(value) => found == *value,
                        Right::OneOf(values) => values.contains(&found),
                    };
                    let holds = match compare {
                        Compare::Eq => equal,
                        Compare::Ne => !equal,
                        other => panic!("{other:?} is not walked"),
                    };
                    if !holds {
                        return None;
                    }
                }
                Expr::Lookup { key, set, negate } => {
                    if self.find(&set.name, key)?.is_some() == *negate {
                        return None;
                    }
                }
                Expr::VerdictMap { key, map } => match self.find(&map.name, key)? {
                    None => return None,
                    Some(Some(Datum::Verdict(verdict))) => return Some(verdict),
                    Some(other) => panic!("{other:?} in {}", map.name),
                },
                Expr::Verdict(verdict) => return Some(verdict.clone()),
                Expr::SetMark {
                    mark: Mark::Packet,
                    to: MarkSource::Bits { field: Field::Mark, mask, flip },
                } => {
                    self.mark = (self.mark & mask) ^ flip;
                }
                Expr::Counter => self.counted.extend(rule.comment.clone()),
                Expr::Limit { .. } | Expr::Log { .. } => {}
                other => panic!("{other:?} is not walked"),
            }
        }
        None
    }

    /// What the set holds for the packet; nothing at all if the packet has no such field.
    #[expect(clippy::option_option, reason = "no field, no element, an element without data")]
    fn find(&mut self, set: &str, key: &[Operand]) -> Option<Option<Option<Datum>>> {
        let values: Vec<Value> = key.iter().map(|operand| self.load(operand)).collect::<Option<_>>()?;
        self.lookups += 1;
        let then = self.then.filter(|(_, from)| self.lookups > *from);
        let later = then.and_then(|(after, _)| after.sets.get(set));
        // A set that has gone is still there for whoever walks by the rules of before.
        let set: &Set =
            later.or_else(|| self.table.sets.get(set)).unwrap_or_else(|| panic!("there is no set {set}"));
        if !set.declaration.interval {
            let key = weft_kernel::nft::Key(values.into_iter().map(Into::into).collect());
            return Some(set.elements.get(&key).cloned());
        }
        let inside = |key: &weft_kernel::nft::Key| {
            key.0.iter().zip(&values).all(|(item, value)| item.first() <= *value && *value <= item.last())
        };
        Some(set.elements.iter().find(|(key, _)| inside(key)).map(|(_, datum)| datum.clone()))
    }

    fn load(&self, Operand { field, mask }: &Operand) -> Option<Value> {
        let packet = &self.packet;
        let v4 = |address: IpAddr| address.is_ipv4().then(|| Value::ip(address));
        let v6 = |address: IpAddr| address.is_ipv6().then(|| Value::ip(address));
        let number = |number: u32| Some(Value::Number(field.kind(), number));
        let value = match field {
            Field::IpSaddr => v4(packet.source),
            Field::Ip6Saddr => v6(packet.source),
            Field::IpDaddr => v4(packet.destination),
            Field::Ip6Daddr => v6(packet.destination),
            Field::L4Proto => number(packet.protocol.into()),
            Field::ThDport => number(packet.port.into()),
            Field::CtState => number(NEW),
            Field::Mark => number(self.mark),
            Field::OifGroup => number(if self.to_wire { GROUP } else { 0 }),
            Field::IifName | Field::OifName => IfName::new("eth0").map(Value::IfName),
            // An echo request.
            Field::Icmpv6Type if packet.protocol == 58 => number(128),
            Field::Icmpv6Type => None,
            // The flags of a SYN.
            Field::Payload { base: PayloadBase::Transport, offset: 13, length: 1 } => {
                Raw::new(&[2]).map(Value::Raw)
            }
            other => panic!("{other:?} is not walked"),
        }?;
        Some(match (value, mask) {
            (value, None) => value,
            (Value::Number(kind, number), Some(Value::Number(_, mask))) => Value::Number(kind, number & mask),
            (Value::Raw(raw), Some(Value::Raw(mask))) => {
                let bytes: Vec<u8> = raw.as_bytes().iter().zip(mask.as_bytes()).map(|(a, b)| a & b).collect();
                Raw::new(&bytes).map(Value::Raw)?
            }
            (value, Some(mask)) => panic!("{value:?} & {mask:?} is not walked"),
        })
    }
}
