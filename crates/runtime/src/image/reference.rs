//! The names of images: `registry.example:5000/team/app:1`, or `app:1` for one that is only here.
//!
//! No registry is assumed: a name without one means an image in the store and nothing else.

use std::fmt;
use std::str::FromStr;

use super::Digest;

/// The name of an image, checked (grammar: distribution/reference of the distribution project).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: Option<String>,
    repository: String,
    version: Version,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Version {
    Tag(String),
    Digest(Digest),
}

/// A text is not the name of an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' is not the name of an image: {why}")]
pub struct ReferenceError {
    name: String,
    why: &'static str,
}

impl Reference {
    /// `HOST` or `HOST:PORT` of the registry, if the name says one.
    #[must_use]
    pub fn registry(&self) -> Option<&str> {
        self.registry.as_deref()
    }

    /// What the registry calls the repository, such as `team/app`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag or the digest, as it stands in a registry's paths.
    #[must_use]
    pub fn version(&self) -> String {
        match &self.version {
            Version::Tag(tag) => tag.clone(),
            Version::Digest(digest) => digest.to_string(),
        }
    }

    /// The digest, if the name pins one.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        match &self.version {
            Version::Tag(_) => None,
            Version::Digest(digest) => Some(digest),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(registry) = &self.registry {
            write!(f, "{registry}/")?;
        }
        match &self.version {
            Version::Tag(tag) => write!(f, "{}:{tag}", self.repository),
            Version::Digest(digest) => write!(f, "{}@{digest}", self.repository),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        let refused = |why| ReferenceError { name: text.chars().take(100).collect(), why };
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| refused("after @ stands a digest, sha256:…"))?;
                (rest, Some(digest))
            }
        };
        let (registry, rest) = match rest.split_once('/') {
            // As everywhere: the first word is a host if it could not be anything else.
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
                if !is_host(host) {
                    return Err(refused("before the first / stands HOST or HOST:PORT"));
                }
                (Some(host.to_owned()), rest)
            }
            _ => (None, rest),
        };
        let (repository, tag) = match rest.split_once(':') {
            None => (rest, None),
            Some((repository, tag)) => (repository, Some(tag)),
        };
        if repository.len() > 255 || !repository.split('/').all(is_component) {
            return Err(refused("a repository is words of a-z0-9 with . _ - between them, joined by /"));
        }
        if !tag.is_none_or(is_tag) {
            return Err(refused("after : stands a tag, at most 128 of A-Za-z0-9_.-"));
        }
        let version = match digest {
            // A digest says more than the tag beside it.
            Some(digest) => Version::Digest(digest),
            None => Version::Tag(tag.unwrap_or("latest").to_owned()),
        };
        Ok(Reference { registry, repository: repository.to_owned(), version })
    }
}

/// `example.org`, `10.0.0.1:5000`, `[::1]:5000`.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, port)) if v6.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", port),
        Some(_) => return false,
        None => text.find(':').map_or((text, ""), |at| text.split_at(at)),
    };
    let label = |l: &str| {
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=63).contains(&l.len()) && l.chars().all(inside) && !l.starts_with('-') && !l.ends_with('-')
    };
    let port_is_sound = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => {
            digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok_and(|p| p > 0)
        }
    };
    host.len() <= 253 && host.split('.').all(label) && port_is_sound
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let between =
        |s: &str| s == "." || s == "_" || s == "__" || (!s.is_empty() && s.chars().all(|c| c == '-'));
    let ends = |c: Option<char>| c.is_some_and(word);
    ends(text.chars().next())
        && ends(text.chars().next_back())
        && text.split(word).filter(|s| !s.is_empty()).all(between)
}

fn is_tag(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    (1..=128).contains(&text.len()) && text.chars().all(inside) && !text.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (Option<String>, String, String) {
        let reference: Reference = text.parse().unwrap();
        let registry = reference.registry().map(str::to_owned);
        (registry, reference.repository().to_owned(), reference.version())
    }

    #[test]
    fn names_and_their_parts() {
        let some = |s: &str| Some(s.to_owned());
        let own = str::to_owned;
        assert_eq!(parts("busybox"), (None, own("busybox"), own("latest")));
        assert_eq!(parts("team/app:1.0"), (None, own("team/app"), own("1.0")));
        assert_eq!(parts("localhost/app"), (some("localhost"), own("app"), own("latest")));
        assert_eq!(parts("localhost:5000/a/b:x_Y-1"), (some("localhost:5000"), own("a/b"), own("x_Y-1")));
        assert_eq!(parts("[fd00::1]:5000/a"), (some("[fd00::1]:5000"), own("a"), own("latest")));
        let digest = Digest::of(b"");
        assert_eq!(
            parts(&format!("r.example/a:1@{digest}")),
            (some("r.example"), own("a"), digest.to_string())
        );
    }

    #[test]
    fn what_is_written_is_read_the_same() {
        for name in ["a:1", "r.example/a/b-c__d.e:latest", &format!("h:1/a@{}", Digest::of(b"x"))] {
            assert_eq!(name.parse::<Reference>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn what_is_no_name() {
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "A",
            "a:",
            "a:-x",
            "a b",
            "a/../b",
            "../a",
            "a//b",
            "a:b:c",
            "h.x:0/a",
            "h.x:99999/a",
            "h.x:+1/a",
            "[::1/a",
            "[x]:1/a",
            "-h.x/a",
            "a@",
            "a@sha256:00",
            "a.-b",
            "a\n",
            "http://h/a",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
    }
}
