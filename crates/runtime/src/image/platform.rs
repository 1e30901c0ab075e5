//! Which of the images behind one name is for this host.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Descriptor;

/// A platform in Go's words (OCI image specification, image-index.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `v7`, `v8`: the generation of the processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A text names no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a platform: write OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm64")]
pub struct PlatformError(String);

impl Platform {
    /// This machine's.
    #[must_use]
    pub fn host() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        let variant = variant.map(str::to_owned);
        Platform { architecture: architecture.to_owned(), os: "linux".to_owned(), variant }
    }

    /// How well an image for `other` runs here; `None`: not at all. More is better.
    fn suits(&self, other: &Platform) -> Option<u32> {
        if self.os != other.os || self.architecture != other.architecture {
            return None;
        }
        let number = |p: &Platform| {
            let digits = p.variant.as_deref().unwrap_or_default().strip_prefix('v')?;
            digits.parse::<u32>().ok().filter(|n| *n < 100)
        };
        // A processor runs what was built for it and for those before it. What says nothing runs everywhere.
        match (number(self), number(other)) {
            (_, None) => Some(1),
            (Some(mine), Some(its)) => (its <= mine).then_some(1 + its),
            (None, Some(its)) => (its <= 1).then_some(1),
        }
    }

    /// The best of an index's images for this platform.
    #[must_use]
    pub fn choose<'a>(&self, offered: &'a [Descriptor]) -> Option<&'a Descriptor> {
        let suiting = offered.iter().filter_map(|d| Some((self.suits(d.platform.as_ref()?)?, d)));
        // The first of equals, as the specification says.
        suiting.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, d)| d)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Platform, PlatformError> {
        let sound = |word: &&str| {
            let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '_';
            (1..=32).contains(&word.len()) && word.chars().all(known)
        };
        let words: Vec<&str> = text.split('/').filter(sound).collect();
        let (os, architecture, variant) = match words.as_slice() {
            [os, architecture] if text.matches('/').count() == 1 => (os, architecture, None),
            [os, architecture, variant] if text.matches('/').count() == 2 => {
                (os, architecture, Some(variant))
            }
            _ => return Err(PlatformError(text.chars().take(100).collect())),
        };
        Ok(Platform {
            architecture: (*architecture).to_owned(),
            os: (*os).to_owned(),
            variant: variant.map(|v| (*v).to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    fn offered(platforms: &[&str]) -> Vec<Descriptor> {
        let one = |p: &&str| Descriptor {
            platform: Some(p.parse().unwrap()),
            ..Descriptor::new("application/x", Digest::of(p.as_bytes()), 1)
        };
        platforms.iter().map(one).collect()
    }

    #[test]
    fn the_best_of_those_that_run() {
        let all =
            offered(&["linux/amd64", "linux/arm/v5", "linux/arm/v7", "linux/arm64/v8", "windows/amd64"]);
        let chosen = |platform: &str| {
            let platform: Platform = platform.parse().unwrap();
            platform.choose(&all).map(|d| d.platform.as_ref().unwrap().to_string())
        };
        assert_eq!(chosen("linux/amd64").as_deref(), Some("linux/amd64"));
        assert_eq!(chosen("linux/arm/v7").as_deref(), Some("linux/arm/v7"));
        assert_eq!(chosen("linux/arm/v6").as_deref(), Some("linux/arm/v5"));
        assert_eq!(chosen("linux/arm64/v8").as_deref(), Some("linux/arm64/v8"));
        assert_eq!(chosen("linux/riscv64"), None);
    }

    #[test]
    fn words_that_name_none() {
        for bad in
            ["", "linux", "linux/", "/amd64", "linux/amd64/", "linux/amd64/v1/x", "linux//amd64", "a b/c"]
        {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
        assert_eq!("linux/arm/v7".parse::<Platform>().unwrap().to_string(), "linux/arm/v7");
    }
}
