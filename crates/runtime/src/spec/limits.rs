//! What a container may use, and how that is typed.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Processes and threads that a container may have unless something else is said: a fork bomb ends there.
pub const PIDS: u32 = 2048;

/// Limits of a container; `None` is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of memory; no swap beyond them.
    pub memory: Option<u64>,
    /// Thousandths of a processor.
    pub cpus: Option<Cpus>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

/// A size as it is typed: bytes, or with a letter `b`, `k`, `m`, `g`, `t` (powers of 1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Size, String> {
        let wrong = || format!("'{text}' is no size; such as 64m, 1g or 1048576 is");
        let lower = text.to_ascii_lowercase();
        let lower = lower.strip_suffix("ib").unwrap_or(&lower);
        let (digits, shift) = match lower.as_bytes().last() {
            Some(b'k') => (&lower[..lower.len() - 1], 10),
            Some(b'm') => (&lower[..lower.len() - 1], 20),
            Some(b'g') => (&lower[..lower.len() - 1], 30),
            Some(b't') => (&lower[..lower.len() - 1], 40),
            Some(b'b') => (&lower[..lower.len() - 1], 0),
            _ => (lower, 0),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        let size = number.checked_mul(1 << shift).filter(|n| *n <= i64::MAX.cast_unsigned());
        size.map(Size).ok_or_else(|| format!("'{text}' is more than any machine has"))
    }
}

/// The smallest limit of memory with which a program can start at all; Docker demands the same.
const LEAST_MEMORY: u64 = 6 << 20;

/// A limit of memory.
///
/// # Errors
/// What is wrong with it.
pub fn memory(text: &str) -> Result<u64, String> {
    let Size(bytes) = text.parse()?;
    if bytes < LEAST_MEMORY {
        return Err(format!("'{text}' is too little: nothing starts with less than 6m"));
    }
    Ok(bytes)
}

/// Thousandths of a processor, typed as a number with at most three decimals: `0.5`, `2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cpus(pub u32);

impl Cpus {
    /// Microseconds of computing time in each [`Cpus::PERIOD`].
    #[must_use]
    pub fn quota(self) -> u64 {
        u64::from(self.0) * Cpus::PERIOD / 1000
    }

    /// The kernel's default, in microseconds.
    pub const PERIOD: u64 = 100_000;
}

impl FromStr for Cpus {
    type Err = String;
    fn from_str(text: &str) -> Result<Cpus, String> {
        let wrong = || format!("'{text}' is no number of processors; such as 0.5 or 2 is");
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 3 || (whole.is_empty() && part.is_empty()) {
            return Err(wrong());
        }
        let number = format!("{}{part:0<3}", if whole.is_empty() { "0" } else { whole });
        let thousandths: u32 = number.parse().map_err(|_| wrong())?;
        // A quota below a millisecond is refused by the kernel (kernel/sched/core.c, min_cfs_quota_period).
        if !(10..=10_000_000).contains(&thousandths) {
            return Err(format!("'{text}' is not between 0.01 and 10000"));
        }
        Ok(Cpus(thousandths))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_as_people_type_them() {
        for (text, bytes) in [
            ("1", 1),
            ("512b", 512),
            ("64m", 64 << 20),
            ("64M", 64 << 20),
            ("2g", 2 << 30),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "m", "-1", "1.5g", "1 m", "99999999999999999999", "9999999t", "0x10", "1gg"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert!(memory("5m").is_err() && memory("6m") == Ok(6 << 20));
    }

    #[test]
    fn processors_as_people_type_them() {
        for (text, thousandths) in [("1", 1000), ("0.5", 500), (".25", 250), ("1.234", 1234), ("2.", 2000)] {
            assert_eq!(text.parse(), Ok(Cpus(thousandths)), "{text}");
        }
        for text in ["", ".", "0", "0.001", "-1", "1.2345", "1e3", "99999", "half"] {
            assert!(text.parse::<Cpus>().is_err(), "{text}");
        }
        assert_eq!(Cpus(500).quota(), 50_000);
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in "\\PC*") {
            let _ = text.parse::<Size>();
            let _ = text.parse::<Cpus>();
        }
    }
}
