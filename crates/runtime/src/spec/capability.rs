//! Capabilities: what root inside may do of what root may do (capabilities(7)).

use std::fmt;
use std::str::FromStr;

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

/// In the order of their numbers (linux/capability.h).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What Docker gives a container (moby, `oci/caps/defaults.go`).
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// One capability, or all of them, as it is typed: `net_admin`, `CAP_NET_ADMIN`, `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named(u64);

impl FromStr for Named {
    type Err = String;
    fn from_str(text: &str) -> Result<Named, String> {
        let upper = text.to_ascii_uppercase();
        if upper == "ALL" {
            return Ok(Named((1 << NAMES.len()) - 1));
        }
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let number = NAMES.iter().position(|known| *known == name);
        number.map(|n| Named(1 << n)).ok_or_else(|| format!("'{text}' is no capability; see capabilities(7)"))
    }
}

/// A set of capabilities; the default is Docker's.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Capabilities(u64);

impl Default for Capabilities {
    fn default() -> Capabilities {
        let of = |name: &&str| name.parse::<Named>().map_or(0, |n| n.0);
        Capabilities(DEFAULT.iter().map(of).fold(0, |all, one| all | one))
    }
}

impl Capabilities {
    /// The default with some more and some less; what is dropped is dropped even if it is also added,
    /// but `--cap-drop all --cap-add X` leaves X, as with Docker.
    #[must_use]
    pub fn with(add: &[Named], drop: &[Named]) -> Capabilities {
        let all = Named((1 << NAMES.len()) - 1);
        let sum = |named: &[Named]| named.iter().fold(0, |sum, n| sum | n.0);
        if drop.contains(&all) {
            return Capabilities(sum(add));
        }
        Capabilities((Capabilities::default().0 | sum(add)) & !sum(drop))
    }

    /// For the kernel.
    #[must_use]
    pub fn set(self) -> CapabilitySet {
        CapabilitySet::from_bits_retain(self.0)
    }

    /// Whether the capability of this name is among them.
    #[must_use]
    pub fn has(self, name: &str) -> bool {
        name.parse::<Named>().is_ok_and(|n| self.0 & n.0 == n.0)
    }

    /// Those that are not among them, by number, also such as this kernel may add later.
    pub fn missing(self) -> impl Iterator<Item = CapabilitySet> {
        (0..64).map(|n| 1_u64 << n).filter(move |bit| self.0 & bit == 0).map(CapabilitySet::from_bits_retain)
    }

    fn names(self) -> Vec<String> {
        let mine = NAMES.iter().enumerate().filter(|(n, _)| self.0 >> n & 1 == 1);
        mine.map(|(_, name)| (*name).to_owned()).collect()
    }
}

impl From<Capabilities> for Vec<String> {
    fn from(set: Capabilities) -> Vec<String> {
        set.names()
    }
}

impl TryFrom<Vec<String>> for Capabilities {
    type Error = String;
    fn try_from(names: Vec<String>) -> Result<Capabilities, String> {
        let each: Result<Vec<Named>, String> = names.iter().map(|name| name.parse()).collect();
        Ok(Capabilities(each?.iter().fold(0, |sum, n| sum | n.0)))
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(add: &[&str], drop: &[&str]) -> Vec<String> {
        let parse = |names: &[&str]| names.iter().map(|n| n.parse().unwrap()).collect::<Vec<Named>>();
        Capabilities::with(&parse(add), &parse(drop)).into()
    }

    #[test]
    fn the_numbers_are_the_kernels() {
        for (name, bit) in [
            ("CHOWN", CapabilitySet::CHOWN),
            ("SYS_ADMIN", CapabilitySet::SYS_ADMIN),
            ("BPF", CapabilitySet::BPF),
        ] {
            assert_eq!(name.parse::<Named>().unwrap().0, bit.bits(), "{name}");
        }
        assert_eq!("cap_checkpoint_restore".parse(), Ok(Named(CapabilitySet::CHECKPOINT_RESTORE.bits())));
        assert!("NET_ADMINS".parse::<Named>().is_err());
    }

    #[test]
    fn the_default_is_fourteen_and_can_be_changed() {
        assert_eq!(with(&[], &[]).len(), 14);
        assert!(!Capabilities::default().has("SYS_ADMIN"));
        assert_eq!(with(&["net_admin"], &["net_raw"]).len(), 14);
        assert_eq!(with(&["CHOWN"], &["ALL"]), ["CHOWN"]);
        assert_eq!(with(&["ALL"], &[]).len(), 41);
        assert_eq!(with(&["ALL"], &["SYS_ADMIN"]).len(), 40);
    }
}
