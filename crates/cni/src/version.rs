//! The versions of the CNI specification that this plugin speaks.

use std::fmt;
use std::str::FromStr;

use crate::env::Command;

/// A released version of the CNI specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpecVersion {
    /// The first: `ip4` and `ip6` in the result.
    V0_1_0,
    /// Adds `VERSION` and `args`.
    V0_2_0,
    /// Adds chains, `prevResult` and the lists `interfaces` and `ips`.
    V0_3_0,
    /// Corrects a typing error.
    V0_3_1,
    /// Adds `CHECK`, and `prevResult` on `DEL`.
    V0_4_0,
    /// Removes `version` from `ips`.
    V1_0_0,
    /// Adds `STATUS`, `GC` and more fields of interfaces and routes.
    V1_1_0,
}

/// A string names no version that this plugin speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownVersion;

impl SpecVersion {
    /// All of them, oldest first.
    pub const ALL: [SpecVersion; 7] = [
        SpecVersion::V0_1_0,
        SpecVersion::V0_2_0,
        SpecVersion::V0_3_0,
        SpecVersion::V0_3_1,
        SpecVersion::V0_4_0,
        SpecVersion::V1_0_0,
        SpecVersion::V1_1_0,
    ];

    /// What is spoken where nobody has named a version, as in an error about unreadable input.
    pub const NEWEST: SpecVersion = SpecVersion::V1_1_0;

    /// The rules for a configuration without `cniVersion`: it dates from before the key was required.
    pub const UNNAMED: SpecVersion = SpecVersion::V0_2_0;

    /// As it stands in `cniVersion`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            SpecVersion::V0_1_0 => "0.1.0",
            SpecVersion::V0_2_0 => "0.2.0",
            SpecVersion::V0_3_0 => "0.3.0",
            SpecVersion::V0_3_1 => "0.3.1",
            SpecVersion::V0_4_0 => "0.4.0",
            SpecVersion::V1_0_0 => "1.0.0",
            SpecVersion::V1_1_0 => "1.1.0",
        }
    }

    /// The version that introduced a command.
    #[must_use]
    pub const fn since(command: Command) -> SpecVersion {
        match command {
            Command::Add | Command::Del | Command::Version => SpecVersion::V0_1_0,
            Command::Check => SpecVersion::V0_4_0,
            Command::Status | Command::Gc => SpecVersion::V1_1_0,
        }
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SpecVersion {
    type Err = UnknownVersion;
    fn from_str(value: &str) -> Result<Self, UnknownVersion> {
        SpecVersion::ALL.into_iter().find(|v| v.as_str() == value).ok_or(UnknownVersion)
    }
}
