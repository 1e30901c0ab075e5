//! Names that come from outside, checked once at the door.
//!
//! A value of one of these types is safe in a path, a log line, an nftables comment and a
//! netlink attribute: parsing refuses everything that is not (BAR.md, security row 2).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a string is not acceptable as a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The string is empty.
    #[error("{kind} is empty")]
    Empty {
        /// What the string was meant to be.
        kind: &'static str,
    },
    /// The string is longer than allowed.
    #[error("{kind} has {length} bytes, at most {limit} are allowed")]
    TooLong {
        /// What the string was meant to be.
        kind: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The longest allowed, in bytes.
        limit: usize,
    },
    /// A character is not allowed, or not at this place.
    #[error("{kind} '{value}' has {found:?} at byte {at}; allowed is {allowed}")]
    Character {
        /// What the string was meant to be.
        kind: &'static str,
        /// The string, with control characters escaped.
        value: String,
        /// The offending character.
        found: char,
        /// Its byte offset.
        at: usize,
        /// What would have been allowed, in words.
        allowed: &'static str,
    },
    /// The name means something else to Linux.
    #[error("{kind} '{value}' is reserved")]
    Reserved {
        /// What the string was meant to be.
        kind: &'static str,
        /// The string.
        value: String,
    },
}

/// The rule one kind of name follows.
struct Rule {
    kind: &'static str,
    limit: usize,
    allowed: &'static str,
    first: fn(char) -> bool,
    rest: fn(char) -> bool,
    last: fn(char) -> bool,
}

impl Rule {
    fn check(&self, value: &str) -> Result<(), InvalidName> {
        let kind = self.kind;
        if value.is_empty() {
            return Err(InvalidName::Empty { kind });
        }
        if value.len() > self.limit {
            return Err(InvalidName::TooLong { kind, length: value.len(), limit: self.limit });
        }
        let end = value.len();
        let bad = |(at, c): &(usize, char)| {
            let inner = if *at == 0 { self.first } else { self.rest };
            !inner(*c) || (at + c.len_utf8() == end && !(self.last)(*c))
        };
        match value.char_indices().find(bad) {
            None => Ok(()),
            Some((at, found)) => Err(InvalidName::Character {
                kind,
                value: value.escape_default().to_string(),
                found,
                at,
                allowed: self.allowed,
            }),
        }
    }
}

fn lower_or_digit(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn any(_: char) -> bool {
    true
}

const NAMESPACE: Rule = Rule {
    kind: "namespace name",
    limit: 63,
    allowed: "[a-z0-9] at both ends, [a-z0-9-] between",
    first: lower_or_digit,
    rest: |c| lower_or_digit(c) || c == '-',
    last: lower_or_digit,
};
const OBJECT: Rule = Rule {
    kind: "object name",
    limit: 253,
    allowed: "[a-z0-9] at both ends, [a-z0-9.-] between",
    first: lower_or_digit,
    rest: |c| lower_or_digit(c) || matches!(c, '.' | '-'),
    last: lower_or_digit,
};
const PORT: Rule = Rule {
    kind: "port name",
    limit: 15,
    allowed: "[a-z0-9] at both ends, [a-z0-9-] between",
    first: lower_or_digit,
    rest: |c| lower_or_digit(c) || c == '-',
    last: lower_or_digit,
};
const NETWORK: Rule = Rule {
    kind: "network name",
    limit: 63,
    allowed: "[a-z0-9] first, then [a-z0-9._-]",
    first: lower_or_digit,
    rest: |c| lower_or_digit(c) || matches!(c, '.' | '_' | '-'),
    last: any,
};

const NODE: Rule = Rule { kind: "node name", limit: 253, ..NETWORK };

// CNI SPEC.md 1.1.0, "Parameters": starts with an alphanumeric, then alphanumerics, '_', '.', '-'.
const CONTAINER: Rule = Rule {
    kind: "container id",
    limit: 128,
    allowed: "[a-zA-Z0-9] first, then [a-zA-Z0-9_.-]",
    first: |c| c.is_ascii_alphanumeric(),
    rest: |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'),
    last: any,
};

// Linux dev_valid_name() refuses '/', ':' and white space, "." and ".."; 15 bytes fit IFNAMSIZ.
// The rest is ours: quotes, '%' (kernel name templates) and control characters help nobody.
const INTERFACE: Rule = Rule {
    kind: "interface name",
    limit: 15,
    allowed: "[a-zA-Z0-9_] first, then [a-zA-Z0-9_.@-]",
    first: |c| c.is_ascii_alphanumeric() || c == '_',
    rest: |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '@' | '-'),
    last: any,
};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $rule:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(value: &str) -> Result<Self, InvalidName> {
                $rule.check(value)?;
                Ok(Self(value.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(value: String) -> Result<Self, InvalidName> {
                $rule.check(&value)?;
                Ok(Self(value.into_boxed_str()))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.into_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a weft network: `^[a-z0-9][a-z0-9._-]*$`, at most 63 bytes.
    NetworkName, NETWORK
);
name!(
    /// The name of a namespace: a DNS label (RFC 1123), at most 63 bytes.
    NamespaceName, NAMESPACE
);
name!(
    /// The name of an object: a DNS subdomain in lower case, at most 253 bytes.
    ObjectName, OBJECT
);
name!(
    /// The name of a workload's port (RFC 6335, section 5.1), at most 15 bytes.
    PortName, PORT
);
name!(
    /// The name of a host: `^[a-z0-9][a-z0-9._-]*$`, at most 253 bytes.
    NodeName, NODE
);
name!(
    /// What a runtime calls a container: `^[a-zA-Z0-9][a-zA-Z0-9_.-]*$` (CNI SPEC.md 1.1.0), at most 128 bytes.
    ContainerId, CONTAINER
);
name!(
    /// The name of a network interface, at most 15 bytes (IFNAMSIZ - 1).
    IfName, INTERFACE
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_use_pass() {
        for name in ["default", "app-1", "a", "10.88_x"] {
            assert!(name.parse::<NetworkName>().is_ok(), "{name}");
        }
        for name in ["eth0", "net1", "eth0.100", "veth@x", "_x"] {
            assert!(name.parse::<IfName>().is_ok(), "{name}");
        }
        assert!("0a1B_c.d-e".parse::<ContainerId>().is_ok());
    }

    #[test]
    fn names_that_could_harm_are_refused() {
        let long = "a".repeat(300);
        for name in ["", "../x", "a/b", "a\0b", "-x", ".", "..", "a b", "a\nb", "é", "A", long.as_str()] {
            assert!(name.parse::<NetworkName>().is_err(), "{name:?}");
        }
        for name in ["", "../x", "a/b", "a\0b", "-x", ".", "..", "a b", "a:b", "veth%d", "sixteen-bytes-xx"] {
            assert!(name.parse::<IfName>().is_err(), "{name:?}");
        }
        for name in ["", "../x", "a/b", "a\0b", "-x", ".", "..", "a b", long.as_str()] {
            assert!(name.parse::<ContainerId>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_refusal_says_where_and_what_instead() {
        let error = "app/../../etc".parse::<NetworkName>().unwrap_err().to_string();
        assert_eq!(
            error,
            "network name 'app/../../etc' has '/' at byte 3; allowed is [a-z0-9] first, then [a-z0-9._-]"
        );
    }
}
