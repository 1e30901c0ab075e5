//! Folders and files of the host that a container sees.

use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What `-v SOURCE:TARGET[:ro|:rw]` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// On the host.
    pub source: PathBuf,
    /// Inside; without `.` and `..`.
    pub target: PathBuf,
    /// Whether it cannot be written through.
    pub read_only: bool,
}

impl FromStr for Volume {
    type Err = String;
    fn from_str(text: &str) -> Result<Volume, String> {
        let mut parts = text.split(':');
        let (source, target) = match (parts.next(), parts.next()) {
            (Some(source), Some(target)) if !source.is_empty() => (source, target),
            _ => {
                return Err(format!(
                    "'{text}' is no volume; such as /srv/data:/data or /srv/data:/data:ro is"
                ));
            }
        };
        let read_only = match parts.next() {
            None | Some("rw") => false,
            Some("ro") => true,
            Some(other) => {
                return Err(format!("'{other}' in '{text}' is no option of a volume; ro and rw are"));
            }
        };
        if parts.next().is_some() {
            return Err(format!("'{text}' has too many parts; there are SOURCE:TARGET[:ro]"));
        }
        if !source.starts_with('/') {
            return Err(format!(
                "the source '{source}' of a volume must be a path from the root of the host"
            ));
        }
        Ok(Volume { source: source.into(), target: target_of(target)?, read_only })
    }
}

/// A path inside, with nothing in it that leads elsewhere.
fn target_of(text: &str) -> Result<PathBuf, String> {
    let refuse = |why: &str| Err(format!("the target '{text}' of a volume {why}"));
    let mut target = PathBuf::from("/");
    if !text.starts_with('/') {
        return refuse("must be a path from the root of the container");
    }
    for part in Path::new(text).components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => target.push(name),
            Component::ParentDir | Component::Prefix(_) => return refuse("must not have '..' in it"),
        }
    }
    if target == Path::new("/") {
        return refuse("would hide the whole container");
    }
    for kernels in ["/proc", "/sys"] {
        if target.starts_with(kernels) {
            return refuse("would lie in the kernel's own file systems");
        }
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn volumes_as_people_type_them() {
        let volume: Volume = "/srv/data:/data/./x/:ro".parse().unwrap();
        assert_eq!(volume, Volume { source: "/srv/data".into(), target: "/data/x".into(), read_only: true });
        for bad in [
            "",
            ":",
            "/a",
            "/a:",
            ":/a",
            "a:/b",
            "/a:b",
            "/a:/",
            "/a:/../b",
            "/a:/b/..",
            "/a:/proc",
            "/a:/proc/x",
            "/a:/sys/fs",
            "/a:/b:rx",
            "/a:/b:ro:rw",
        ] {
            assert!(bad.parse::<Volume>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_target_never_leads_out(text in "[/.a-z:]{0,20}") {
            if let Ok(volume) = text.parse::<Volume>() {
                prop_assert!(volume.target.is_absolute());
                prop_assert!(volume.target.components().skip(1).all(|c| matches!(c, Component::Normal(_))));
            }
        }
    }
}
