//! What a container is called: its name is its identity, also in `ip netns list`, in `weft status` and as a cgroup.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use weft_model::{ContainerId, InvalidName};

/// A host name has no more bytes (Linux `__NEW_UTS_LEN` is 64), and the name is the default one.
const LIMIT: usize = 63;

/// A container's name: `^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`, at most 63 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "ContainerId", into = "ContainerId")]
pub struct Name(ContainerId);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// What the agent calls the container: the same.
    #[must_use]
    pub fn id(&self) -> ContainerId {
        self.0.clone()
    }

    /// A name for a container that got none: a weaver's word and a random number.
    ///
    /// # Panics
    /// Never: the words are short and plain.
    #[must_use]
    pub fn random() -> Name {
        const WORDS: [&str; 16] = [
            "twill", "satin", "plain", "felt", "linen", "serge", "tweed", "damask", "calico", "denim",
            "velvet", "muslin", "canvas", "poplin", "chintz", "gauze",
        ];
        let random = random();
        let word = WORDS[usize::from(random[0]) % WORDS.len()];
        let number = u32::from_ne_bytes([random[1], random[2], random[3], 0]);
        format!("{word}-{number:06x}").parse().expect("a word and a number are a name")
    }
}

/// Random enough for a name: nothing depends on nobody guessing it.
fn random() -> [u8; 4] {
    use std::hash::{BuildHasher, Hasher};
    let hash = std::collections::hash_map::RandomState::new().build_hasher().finish();
    let hash = hash ^ u64::from(std::process::id()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    [hash as u8, (hash >> 8) as u8, (hash >> 16) as u8, (hash >> 24) as u8]
}

impl TryFrom<ContainerId> for Name {
    type Error = InvalidName;
    fn try_from(id: ContainerId) -> Result<Name, InvalidName> {
        let length = id.as_str().len();
        if length > LIMIT {
            return Err(InvalidName::TooLong { kind: "container name", length, limit: LIMIT });
        }
        Ok(Name(id))
    }
}

impl FromStr for Name {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Name, InvalidName> {
        text.parse::<ContainerId>()?.try_into()
    }
}

impl From<Name> for ContainerId {
    fn from(name: Name) -> ContainerId {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_safe_as_a_folder_and_a_host_name() {
        for good in ["web", "a", "Web_1.x-y", &"x".repeat(63)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "-x", "a b", "a\0", &"x".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn random_names_differ() {
        let names: std::collections::BTreeSet<Name> = (0..100).map(|_| Name::random()).collect();
        assert!(names.len() > 95);
    }
}
