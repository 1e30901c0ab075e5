//! Whether a container starts again when its process ends, and when.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What `--restart` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// It does not.
    #[default]
    No,
    /// When it ended with another code than 0, at most so many times in a row.
    OnFailure(Option<u32>),
    /// However it ended, unless somebody stopped it; after a boot of the host in any case.
    Always,
    /// The same, but not after a boot if somebody had stopped it.
    UnlessStopped,
}

/// A container that lived this long is healthy: what went before no longer counts.
const HEALTHY: Duration = Duration::from_secs(10);
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);

/// How a policy stands after some ends: pure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Ends in a row since it was healthy.
    row: u32,
}

impl Restart {
    /// After an end with `code`, having lived `lived`: how long to wait before the next start, or `None` for the end.
    pub fn next(self, attempts: &mut Attempts, code: i32, lived: Duration) -> Option<Duration> {
        if lived >= HEALTHY {
            attempts.row = 0;
        }
        let again = match self {
            Restart::No => false,
            Restart::OnFailure(None) => code != 0,
            Restart::OnFailure(Some(most)) => code != 0 && attempts.row < most,
            Restart::Always | Restart::UnlessStopped => true,
        };
        let wait = FIRST.saturating_mul(1 << attempts.row.min(16)).min(LONGEST);
        attempts.row += 1;
        again.then_some(wait)
    }
}

impl Restart {
    /// Whether it starts again when the host has booted; `stopped` if somebody had stopped it.
    #[must_use]
    pub fn after_boot(self, stopped: bool) -> bool {
        match self {
            Restart::Always => true,
            Restart::UnlessStopped => !stopped,
            Restart::No | Restart::OnFailure(_) => false,
        }
    }
}

impl FromStr for Restart {
    type Err = String;
    fn from_str(text: &str) -> Result<Restart, String> {
        let wrong = || {
            format!("'{text}' is no restart policy; there are no, on-failure[:TIMES], always, unless-stopped")
        };
        match text.split_once(':') {
            None => match text {
                "no" => Ok(Restart::No),
                "on-failure" => Ok(Restart::OnFailure(None)),
                "always" => Ok(Restart::Always),
                "unless-stopped" => Ok(Restart::UnlessStopped),
                _ => Err(wrong()),
            },
            Some(("on-failure", times)) => {
                let times = times.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
                Ok(Restart::OnFailure(Some(times)))
            }
            Some(_) => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(5);

    #[test]
    fn as_it_is_typed() {
        assert_eq!("always".parse(), Ok(Restart::Always));
        assert_eq!("unless-stopped".parse(), Ok(Restart::UnlessStopped));
        assert_eq!("on-failure:3".parse(), Ok(Restart::OnFailure(Some(3))));
        for text in ["", "Always", "on-failure:", "on-failure:0", "on-failure:-1", "always:2"] {
            assert!(text.parse::<Restart>().is_err(), "{text}");
        }
    }

    #[test]
    fn failures_are_counted_in_a_row() {
        let mut attempts = Attempts::default();
        let policy = Restart::OnFailure(Some(2));
        assert_eq!(policy.next(&mut attempts, 1, SHORT), Some(Duration::from_millis(100)));
        assert_eq!(policy.next(&mut attempts, 1, SHORT), Some(Duration::from_millis(200)));
        assert_eq!(policy.next(&mut attempts, 1, SHORT), None);
        let mut attempts = Attempts { row: 2 };
        assert_eq!(policy.next(&mut attempts, 1, HEALTHY), Some(FIRST), "it had been healthy");
        assert_eq!(policy.next(&mut attempts, 0, SHORT), None, "no failure");
    }

    #[test]
    fn who_starts_again_after_a_boot() {
        assert!(Restart::Always.after_boot(true) && Restart::Always.after_boot(false));
        assert!(!Restart::UnlessStopped.after_boot(true) && Restart::UnlessStopped.after_boot(false));
        assert!(!Restart::No.after_boot(false) && !Restart::OnFailure(None).after_boot(false));
    }

    #[test]
    fn the_wait_has_an_upper_end() {
        let mut attempts = Attempts::default();
        let waits: Vec<_> = (0..40).filter_map(|_| Restart::Always.next(&mut attempts, 0, SHORT)).collect();
        assert_eq!(waits.len(), 40);
        assert_eq!(waits.last(), Some(&LONGEST));
        assert!(waits.is_sorted());
        assert_eq!(Restart::No.next(&mut Attempts::default(), 1, SHORT), None);
    }
}
