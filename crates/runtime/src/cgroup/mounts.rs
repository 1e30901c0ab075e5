//! Where this host's trees of cgroups are.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::Error;
use super::failed;

/// The trees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trees {
    /// The one of v2.
    pub unified: Option<Unified>,
    /// Those of v1, by controller; a tree may have several.
    pub v1: BTreeMap<String, PathBuf>,
}

/// The tree of v2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unified {
    /// Where its root is mounted.
    pub root: PathBuf,
    /// The controllers that it has.
    pub controllers: Vec<String>,
}

impl Unified {
    /// Whether it has this controller.
    #[must_use]
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }
}

impl Trees {
    /// Those of the host on which this runs.
    ///
    /// # Errors
    /// If /proc cannot be read.
    pub fn of_this_host() -> Result<Trees, Error> {
        let path = PathBuf::from("/proc/self/mountinfo");
        let text = std::fs::read_to_string(&path).map_err(failed("read", &path))?;
        Trees::read(&text, |file| std::fs::read_to_string(file))
    }

    /// From the text of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
    pub(super) fn read(
        mountinfo: &str,
        read: impl Fn(&PathBuf) -> io::Result<String>,
    ) -> Result<Trees, Error> {
        let mut trees = Trees::default();
        for line in mountinfo.lines() {
            let Some((before, behind)) = line.split_once(" - ") else { continue };
            let (Some(point), mut behind) = (before.split(' ').nth(4), behind.split(' ')) else { continue };
            let point = PathBuf::from(unescape(point));
            match (behind.next(), behind.nth(1)) {
                (Some("cgroup2"), _) if trees.unified.is_none() => {
                    let file = point.join("cgroup.controllers");
                    let text = read(&file).map_err(failed("read", &file))?;
                    let controllers = text.split_whitespace().map(str::to_owned).collect();
                    trees.unified = Some(Unified { root: point, controllers });
                }
                (Some("cgroup"), Some(options)) => {
                    let known = ["memory", "cpu", "pids", "devices"];
                    let mine = options.split(',').filter(|o| known.contains(o));
                    for controller in mine {
                        trees.v1.entry(controller.to_owned()).or_insert_with(|| point.clone());
                    }
                }
                _ => {}
            }
        }
        Ok(trees)
    }
}

/// Spaces and the like are written as three octal digits.
fn unescape(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}
