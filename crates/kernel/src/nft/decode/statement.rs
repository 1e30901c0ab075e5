//! Statements that use no registers, as the kernel gives them.

use super::number;
use crate::netlink::Attribute;
use crate::nft::encode::{FULLY_RANDOM, LOG_INFO};
use crate::nft::expression::{Expr, Reject, Unit};
use crate::nft::field::Net;

/// One statement; `None` if it is not understood.
pub(super) fn statement(name: &str, a: &[Option<Attribute<'_>>; 10], network: Option<Net>) -> Option<Expr> {
    Some(match name {
        "counter" => Expr::Counter,
        "notrack" => Expr::NoTrack,
        "masq" if a[2].is_none() => match number(a[1]).unwrap_or(0) {
            0 => Expr::Masquerade { fully_random: false },
            FULLY_RANDOM => Expr::Masquerade { fully_random: true },
            _ => return None,
        },
        "reject" => {
            let code = a[2].and_then(|code| code.u8()).unwrap_or(0);
            Expr::Reject(match (number(a[1])?, network) {
                (0, Some(Net::Ip4)) => Reject::Icmp(code),
                (0, Some(Net::Ip6)) => Reject::Icmpv6(code),
                (1, _) => Reject::TcpReset,
                (2, _) => Reject::Icmpx(code),
                _ => return None,
            })
        }
        "log" => {
            let prefix = a[2].map_or(Some(""), |prefix| prefix.text())?.to_owned();
            let group = a[1].and_then(|group| group.value.try_into().ok()).map(u16::from_be_bytes);
            let plain = a[3].is_none() && a[4].is_none() && number(a[6]).unwrap_or(0) == 0;
            if !plain || (group.is_none() && number(a[5])? != LOG_INFO) {
                return None;
            }
            Expr::Log { group, prefix }
        }
        "limit" => {
            let unit = match a[2]?.be64()? {
                1 => Unit::Second,
                60 => Unit::Minute,
                3600 => Unit::Hour,
                86400 => Unit::Day,
                _ => return None,
            };
            if number(a[4])? != 0 {
                return None; // bytes
            }
            let over = number(a[5]).unwrap_or(0) & 1 != 0;
            Expr::Limit { rate: a[1]?.be64()?, unit, burst: number(a[3])?, over }
        }
        _ => return None,
    })
}
