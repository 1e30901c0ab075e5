//! What words silently imply: `ip saddr` in an inet table means `meta nfproto ipv4` first.
//!
//! `nft` adds such matches and hides them when it lists; so does this, with the same choices (tried
//! with nft 1.0.6), because a rule without them would read an IPv6 header as if it were IPv4.

use super::expression::{Compare, Expr, Operand, Reject, Right};
use super::field::{Field, Needs, Net, TCP};
use super::model::{Family, Rule};
use super::types::Type;
use super::value::Value;

const ETHERNET: u32 = 1; // ARPHRD_ETHER

/// What is known of a packet at one point of a rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    family: Family,
    ether: bool,
    network: Option<Net>,
    transport: Option<u8>,
}

impl Context {
    pub(super) fn new(family: Family) -> Context {
        let network = match family {
            Family::Ip => Some(Net::Ip4),
            Family::Ip6 => Some(Net::Ip6),
            Family::Arp => Some(Net::Arp),
            _ => None,
        };
        let ether = family == Family::Bridge;
        Context { family, ether, network, transport: None }
    }

    pub(super) fn network(&self) -> Option<Net> {
        self.network
    }

    /// Takes in what is known behind an expression.
    pub(super) fn learn(&mut self, expression: &Expr) {
        let Expr::Match { left: Operand { field, mask: None }, compare: Compare::Eq, right } = expression
        else {
            return;
        };
        let Right::Value(Value::Number(_, number)) = right else { return };
        match field {
            Field::IifType if *number == ETHERNET => self.ether = true,
            Field::NfProto => {
                self.network = match number {
                    2 => Some(Net::Ip4),
                    10 => Some(Net::Ip6),
                    _ => self.network,
                }
            }
            Field::EtherType | Field::Protocol => {
                self.network = match number {
                    0x0800 => Some(Net::Ip4),
                    0x86dd => Some(Net::Ip6),
                    0x0806 => Some(Net::Arp),
                    _ => self.network,
                }
            }
            Field::L4Proto | Field::IpProtocol => self.transport = u8::try_from(*number).ok(),
            _ => {}
        }
    }

    /// Whether a field with such needs can be meant here.
    pub(super) fn satisfies(&self, needs: Needs) -> bool {
        let transport = needs.transport.is_none() || needs.transport == self.transport;
        // Behind a match of ICMPv6 as transport `nft` asks for no network protocol.
        let network = needs.network.is_none()
            || needs.network == self.network
            || (needs.transport.is_some() && transport);
        (!needs.ether || self.ether) && network && transport
    }

    /// The matches to put before something with such needs.
    fn missing(&self, needs: Needs) -> Vec<Expr> {
        let mut missing = Vec::new();
        if needs.ether && !self.ether {
            missing.push(Expr::number(Field::IifType, ETHERNET));
        }
        let transport = needs.transport.filter(|wanted| self.transport != Some(*wanted));
        if let Some(net) = needs.network
            && self.network != Some(net)
            && (needs.transport.is_none() || transport.is_some())
        {
            missing.push(self.is(net, transport.is_some()));
        }
        missing.extend(transport.map(|protocol| Expr::number(Field::L4Proto, protocol.into())));
        missing
    }

    fn is(&self, net: Net, transport: bool) -> Expr {
        let (protocol, number) = match net {
            Net::Ip4 => (0x0800, 2),
            Net::Ip6 => (0x86dd, 10),
            Net::Arp => return Expr::number(Field::EtherType, 0x0806),
        };
        match self.family {
            Family::Inet if !self.ether => Expr::number(Field::NfProto, number),
            Family::Inet => Expr::number(Field::EtherType, protocol),
            Family::Bridge if transport => Expr::number(Field::EtherType, protocol),
            _ => Expr::number(Field::Protocol, protocol),
        }
    }
}

/// What an expression needs, one after the other.
fn needs(expression: &Expr) -> Vec<Needs> {
    let mut needs: Vec<Needs> = expression.operands().map(|operand| operand.field.needs()).collect();
    match expression {
        Expr::Reject(Reject::TcpReset) => needs.push(Needs { transport: Some(TCP), ..Needs::default() }),
        Expr::Reject(Reject::Icmp(_)) => needs.push(Needs { network: Some(Net::Ip4), ..Needs::default() }),
        Expr::Reject(Reject::Icmpv6(_)) => needs.push(Needs { network: Some(Net::Ip6), ..Needs::default() }),
        _ => {}
    }
    needs
}

/// The expressions with everything they imply spelled out: what the kernel is told.
pub(super) fn expand(family: Family, expressions: &[Expr]) -> Vec<Expr> {
    let mut context = Context::new(family);
    let mut expanded = Vec::with_capacity(expressions.len() + 2);
    for expression in expressions {
        for need in needs(expression) {
            for missing in context.missing(need) {
                context.learn(&missing);
                expanded.push(missing);
            }
        }
        let expression = simple(expression);
        context.learn(&expression);
        expanded.push(expression);
    }
    expanded
}

/// The first field that cannot be meant where it stands, because the packet is of another protocol.
pub(super) fn conflict(family: Family, expressions: &[Expr]) -> Option<Field> {
    let mut context = Context::new(family);
    for expression in expressions {
        for operand in expression.operands() {
            let needs = operand.field.needs();
            let network =
                context.network.is_some() && needs.network.is_some_and(|net| context.network != Some(net));
            let transport =
                context.transport.is_some() && needs.transport.is_some_and(|p| context.transport != Some(p));
            if network || transport {
                return Some(operand.field);
            }
            context.missing(needs).iter().for_each(|missing| context.learn(missing));
        }
        context.learn(expression);
    }
    None
}

/// One of one value is that value: `nft` loads it so.
fn simple(expression: &Expr) -> Expr {
    match expression {
        Expr::Match { left, compare, right: Right::OneOf(values) } if values.len() == 1 => {
            let right = values.first().map_or_else(|| Right::OneOf(values.clone()), |one| Right::Value(*one));
            Expr::Match { left: *left, compare: *compare, right }
        }
        _ => expression.clone(),
    }
}

/// The rule without matches that it implies anyway: the form in which [`read`](super::read()) gives rules.
#[must_use]
pub fn canonical(family: Family, rule: &Rule) -> Rule {
    let whole = expand(family, &rule.expressions);
    let mut short = whole.clone();
    let mut index = short.len();
    while index > 0 {
        index -= 1;
        if !could_be_implied(&short[index]) {
            continue;
        }
        let removed = short.remove(index);
        if expand(family, &short) == whole {
            index = short.len(); // one removal can make another possible
        } else {
            short.insert(index, removed);
        }
    }
    Rule { expressions: short, comment: rule.comment.clone() }
}

fn could_be_implied(expression: &Expr) -> bool {
    let Expr::Match { left: Operand { field, mask: None }, compare: Compare::Eq, right } = expression else {
        return false;
    };
    matches!(field.kind(), Type::LinkType | Type::NfProto | Type::EtherType | Type::Protocol)
        && matches!(right, Right::Value(_))
}
