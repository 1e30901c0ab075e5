//! Which numbers the users of a container have on the host.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What `--userns` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Users {
    /// The host's: root inside is root outside, with few capabilities.
    #[default]
    Host,
    /// A namespace of its own, with numbers that nobody else has. Before the container is made they are chosen.
    Auto,
    /// A namespace of its own, with these.
    Range(Range),
}

/// Numbers of users and groups of the host, in a row; the container counts them from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Who is root in the container.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

impl Users {
    /// True of the host's own users, which is the usual case.
    #[must_use]
    pub fn is_host(&self) -> bool {
        *self == Users::Host
    }

    /// The numbers of a namespace of its own.
    #[must_use]
    pub fn range(&self) -> Option<Range> {
        match self {
            Users::Range(range) => Some(*range),
            Users::Host | Users::Auto => None,
        }
    }
}

impl Range {
    /// What a number inside is outside.
    #[must_use]
    pub fn outside(&self, inside: u32) -> Option<u32> {
        (inside < self.count).then(|| self.first + inside)
    }

    /// Whether two have a number in common.
    #[must_use]
    pub fn overlaps(&self, other: &Range) -> bool {
        let end = |r: &Range| u64::from(r.first) + u64::from(r.count);
        u64::from(self.first) < end(other) && u64::from(other.first) < end(self)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.first, self.count)
    }
}

impl FromStr for Users {
    type Err = String;
    fn from_str(text: &str) -> Result<Users, String> {
        let (first, count) = match text {
            "host" => return Ok(Users::Host),
            "auto" => return Ok(Users::Auto),
            _ => text.split_once(':').unwrap_or((text, "")),
        };
        let (Ok(first), Ok(count)) = (first.parse::<u32>(), count.parse::<u32>()) else {
            return Err(format!(
                "'{text}' says nothing of users; host, auto and UID:SIZE such as 200000:65536 do"
            ));
        };
        if first == 0 {
            return Err(
                "root inside would be root outside; --userns host is that, without a namespace".to_owned()
            );
        }
        // The last number means "nobody in particular" to chown(2) and others.
        if count == 0 || first.checked_add(count).is_none() {
            return Err(format!("'{text}' leads beyond the last user, {}", u32::MAX - 1));
        }
        Ok(Users::Range(Range { first, count }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_it_is_typed() {
        assert_eq!("auto".parse(), Ok(Users::Auto));
        assert_eq!("host".parse(), Ok(Users::Host));
        let range = Range { first: 200_000, count: 65536 };
        assert_eq!("200000:65536".parse(), Ok(Users::Range(range)));
        for bad in
            ["", "Auto", "1", "1:", ":1", "0:65536", "5:0", "4294967295:1", "4294967000:296", "-1:5", "a:b"]
        {
            assert!(bad.parse::<Users>().is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_counted_from_the_first() {
        let range = Range { first: 1000, count: 10 };
        assert_eq!((range.outside(0), range.outside(9), range.outside(10)), (Some(1000), Some(1009), None));
        let touches = |first, count| range.overlaps(&Range { first, count });
        assert!(touches(1009, 1) && touches(1, 2000) && !touches(1010, 5) && !touches(990, 10));
    }
}
