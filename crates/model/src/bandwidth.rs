//! Limits of bandwidth: how much may flow to a workload, and how much from it.
//!
//! Rates are in bits per second and bursts in bits, as CNI has them (CONVENTIONS.md, "bandwidth").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The limits of one interface. The words are CNI's and Kubernetes': seen from the workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bandwidth {
    /// What the workload receives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Limit>,
    /// What the workload sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Limit>,
}

/// The limit of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Limit {
    rate: u64,
    burst: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    rate: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    burst: Option<u64>,
}

/// A limit that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBandwidth {
    /// Not a number with a unit.
    #[error("'{0}' is not an amount such as 100M (bits; k, M, G and T are powers of 1000)")]
    Amount(String),
    /// Nothing is limited.
    #[error("'{0}' limits neither direction")]
    Nothing(String),
    /// Nothing would get through.
    #[error("a rate of 0 would let nothing through")]
    Zero,
    /// A full packet would not fit what the kernel can keep of a rate.
    #[error("{} bit/s is too low: the lowest rate is {}", amount(*.0), amount(Limit::LOWEST))]
    TooLow(u64),
    /// No interface is so fast.
    #[error("{} bit/s is too high: the highest rate is {}", amount(*.0), amount(Limit::HIGHEST))]
    TooHigh(u64),
    /// A burst of nothing.
    #[error("a burst of 0 would let nothing through; leave it out for one that suits the rate")]
    NoBurst,
    /// The kernel keeps a burst as a time, and not a longer one.
    #[error(
        "a burst of {} bits lasts more than {} seconds at {} bit/s: the largest is {}",
        amount(*burst), Limit::LONGEST, amount(*rate), amount(rate.saturating_mul(Limit::LONGEST))
    )]
    BurstTooLong {
        /// The burst, in bits.
        burst: u64,
        /// The rate, in bits per second.
        rate: u64,
    },
}

impl Limit {
    /// The lowest rate, in bits per second. A token bucket is kept as a time of at most 4.29 s
    /// (net/sched/sch_tbf.c `tbf_change`), and a packet of 65,535 bytes must fit into it.
    pub const LOWEST: u64 = 128_000;
    /// The highest rate, in bits per second: a terabit. More is a mistake in the unit.
    pub const HIGHEST: u64 = 1_000_000_000_000;
    /// The longest time a burst may stand for, in seconds.
    pub const LONGEST: u64 = 4;

    /// A limit of `rate` bits per second; without a burst (in bits) one that suits the rate is used.
    ///
    /// # Errors
    /// [`InvalidBandwidth`], naming what would be possible.
    pub fn new(rate: u64, burst: Option<u64>) -> Result<Limit, InvalidBandwidth> {
        match rate {
            0 => return Err(InvalidBandwidth::Zero),
            1..Self::LOWEST => return Err(InvalidBandwidth::TooLow(rate)),
            _ if rate > Self::HIGHEST => return Err(InvalidBandwidth::TooHigh(rate)),
            _ => {}
        }
        match burst {
            Some(0) => Err(InvalidBandwidth::NoBurst),
            Some(burst) if burst > rate * Self::LONGEST => {
                Err(InvalidBandwidth::BurstTooLong { burst, rate })
            }
            _ => Ok(Limit { rate, burst }),
        }
    }

    /// Bits per second.
    #[must_use]
    pub fn rate(self) -> u64 {
        self.rate
    }

    /// What may pass at once after a pause, in bits, if that was said.
    #[must_use]
    pub fn burst(self) -> Option<u64> {
        self.burst
    }
}

impl TryFrom<Raw> for Limit {
    type Error = InvalidBandwidth;
    fn try_from(raw: Raw) -> Result<Limit, InvalidBandwidth> {
        Limit::new(raw.rate, raw.burst)
    }
}

impl From<Limit> for Raw {
    fn from(limit: Limit) -> Raw {
        Raw { rate: limit.rate, burst: limit.burst }
    }
}

impl Bandwidth {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        *self == Bandwidth::default()
    }
}

/// `RATE[:BURST]`.
impl FromStr for Limit {
    type Err = InvalidBandwidth;
    fn from_str(text: &str) -> Result<Limit, InvalidBandwidth> {
        let (rate, burst) = match text.split_once(':') {
            Some((rate, burst)) => (rate, Some(burst)),
            None => (text, None),
        };
        Limit::new(parse_amount(rate)?, burst.map(parse_amount).transpose()?)
    }
}

/// `LIMIT` for both directions, or `TO/FROM` with `-` where there is to be none.
impl FromStr for Bandwidth {
    type Err = InvalidBandwidth;
    fn from_str(text: &str) -> Result<Bandwidth, InvalidBandwidth> {
        let limit = |text: &str| if text == "-" { Ok(None) } else { text.parse().map(Some) };
        let (ingress, egress) = text.split_once('/').unwrap_or((text, text));
        let bandwidth = Bandwidth { ingress: limit(ingress)?, egress: limit(egress)? };
        if bandwidth.is_unlimited() { Err(InvalidBandwidth::Nothing(text.to_owned())) } else { Ok(bandwidth) }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&amount(self.rate))?;
        self.burst.map_or(Ok(()), |burst| write!(f, ":{}", amount(burst)))
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |limit: Option<Limit>| limit.map_or_else(|| "-".to_owned(), |l| l.to_string());
        match (self.ingress, self.egress) {
            (ingress, egress) if ingress == egress => f.write_str(&word(ingress)),
            (ingress, egress) => write!(f, "{}/{}", word(ingress), word(egress)),
        }
    }
}

const UNITS: [(char, u64); 4] =
    [('T', 1_000_000_000_000), ('G', 1_000_000_000), ('M', 1_000_000), ('k', 1000)];

/// `100M`, `1.5G`, `128000`. `m` is not taken for `M`: in Kubernetes it is a thousandth.
fn parse_amount(text: &str) -> Result<u64, InvalidBandwidth> {
    let bad = || InvalidBandwidth::Amount(text.chars().take(40).flat_map(char::escape_debug).collect());
    let last = text.chars().last().map(|c| if c == 'K' { 'k' } else { c });
    let unit = UNITS.into_iter().find(|(c, _)| Some(*c) == last);
    let (number, unit) = match unit {
        Some((_, unit)) => (&text[..text.len() - 1], unit),
        None => (text, 1),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |d: &str| !d.is_empty() && d.len() <= 20 && d.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 12 {
        return Err(bad());
    }
    let parse = |d: &str| d.parse::<u128>().map_err(|_| bad());
    let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| bad())?);
    let bits = parse(whole)? * u128::from(unit) + parse(fraction)? * u128::from(unit) / scale;
    u64::try_from(bits).map_err(|_| bad())
}

/// An amount in the largest unit that leaves it whole.
fn amount(bits: u64) -> String {
    match UNITS.into_iter().find(|(_, unit)| bits >= *unit && bits.is_multiple_of(*unit)) {
        Some((letter, unit)) => format!("{}{letter}", bits / unit),
        None => bits.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limit(rate: u64, burst: Option<u64>) -> Option<Limit> {
        Some(Limit::new(rate, burst).unwrap())
    }

    #[test]
    fn what_people_type_is_understood() {
        let both = |l| Bandwidth { ingress: l, egress: l };
        for (text, wanted) in [
            ("100M", both(limit(100_000_000, None))),
            ("1.5G", both(limit(1_500_000_000, None))),
            ("128000", both(limit(128_000, None))),
            ("200K", both(limit(200_000, None))),
            ("100M/50M", Bandwidth { ingress: limit(100_000_000, None), egress: limit(50_000_000, None) }),
            ("-/1G", Bandwidth { ingress: None, egress: limit(1_000_000_000, None) }),
            ("10M:1M/-", Bandwidth { ingress: limit(10_000_000, Some(1_000_000)), egress: None }),
        ] {
            assert_eq!(text.parse(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (text, wanted) in [
            ("", "'' is not an amount such as 100M (bits; k, M, G and T are powers of 1000)"),
            ("100m", "'100m' is not an amount such as 100M (bits; k, M, G and T are powers of 1000)"),
            ("-1M", "'-1M' is not an amount such as 100M (bits; k, M, G and T are powers of 1000)"),
            ("1e9", "'1e9' is not an amount such as 100M (bits; k, M, G and T are powers of 1000)"),
            ("1M/2M/3M", "'2M/3M' is not an amount such as 100M (bits; k, M, G and T are powers of 1000)"),
            (
                "99999999999999999999T",
                "'99999999999999999999T' is not an amount such as 100M (bits; k, M, G and T are powers of 1000)",
            ),
            ("-", "'-' limits neither direction"),
            ("0", "a rate of 0 would let nothing through"),
            ("1k", "1k bit/s is too low: the lowest rate is 128k"),
            ("1000000000000000000", "1000000T bit/s is too high: the highest rate is 1T"),
            ("1M:0", "a burst of 0 would let nothing through; leave it out for one that suits the rate"),
            ("1M:1G", "a burst of 1G bits lasts more than 4 seconds at 1M bit/s: the largest is 4M"),
        ] {
            assert_eq!(text.parse::<Bandwidth>().unwrap_err().to_string(), wanted, "{text}");
        }
        assert!(serde_json::from_str::<Limit>(r#"{"rate":0}"#).is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(
            ingress in prop::option::of((Limit::LOWEST..=Limit::HIGHEST, prop::option::of(1_u64..512_000))),
            egress in prop::option::of((Limit::LOWEST..=Limit::HIGHEST, prop::option::of(1_u64..512_000))),
        ) {
            let limit = |l: Option<(u64, Option<u64>)>| l.map(|(r, b)| Limit::new(r, b).unwrap());
            let bandwidth = Bandwidth { ingress: limit(ingress), egress: limit(egress) };
            prop_assume!(!bandwidth.is_unlimited());
            prop_assert_eq!(bandwidth.to_string().parse(), Ok(bandwidth));
            let json = serde_json::to_string(&bandwidth).unwrap();
            prop_assert_eq!(serde_json::from_str::<Bandwidth>(&json).unwrap(), bandwidth);
        }

        #[test]
        fn rubbish_never_panics(text in "[0-9a-zA-Z.:/µ-]{0,40}") {
            let _ = text.parse::<Bandwidth>();
        }
    }
}
