//! Which namespace is meant: a name, a path or a process; and what its container is called by default.

use std::path::{Component, Path, PathBuf};

use clap::Args;
use weft_model::ContainerId;

use crate::failure::{Failure, USAGE};

/// Where `ip netns` keeps names.
const NAMED: &str = "/run/netns";

/// A network namespace, as it was typed.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The network namespace: a name of `ip netns`, or a path
    #[arg(value_name = "NETNS", required_unless_present = "pid")]
    netns: Option<PathBuf>,
    /// The network namespace of this process
    #[arg(long, value_name = "PID", conflicts_with = "netns", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
}

impl Target {
    /// The namespace's file.
    pub(crate) fn path(&self) -> anyhow::Result<PathBuf> {
        match (&self.netns, self.pid) {
            (_, Some(pid)) => Ok(PathBuf::from(format!("/proc/{pid}/ns/net"))),
            (Some(typed), None) => resolve(typed),
            (None, None) => Err(Failure::new("no network namespace was named").code(USAGE).into()),
        }
    }

    /// The same, which must be there.
    pub(crate) fn existing(&self) -> anyhow::Result<PathBuf> {
        let path = self.path()?;
        match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let message = format!("there is no network namespace {}", path.display());
                Err(match (path.strip_prefix(NAMED), self.pid) {
                    (_, Some(pid)) => Failure::new(message).hint(format!("no process {pid} is running")),
                    (Ok(name), _) => {
                        Failure::new(message).hint(format!("make it with `ip netns add {}`", name.display()))
                    }
                    _ => Failure::new(message),
                }
                .into())
            }
            // Whether it is a namespace, and may be entered, is for the agent to say.
            _ => Ok(path),
        }
    }
}

fn resolve(typed: &Path) -> anyhow::Result<PathBuf> {
    let text = typed.as_os_str();
    if text.is_empty() || text == "." || text == ".." {
        let message = format!("'{}' is no network namespace", typed.display());
        return Err(Failure::new(message).code(USAGE).into());
    }
    if typed.components().count() == 1 && !typed.is_absolute() && !text.as_encoded_bytes().contains(&b'/') {
        return Ok(Path::new(NAMED).join(typed));
    }
    let path = std::path::absolute(typed)?;
    if path.starts_with("/proc/self") || path.starts_with("/proc/thread-self") {
        // The agent would resolve it to its own.
        let message = format!("{} is a different namespace for everyone who opens it", path.display());
        return Err(Failure::new(message).hint("name the process with --pid").code(USAGE).into());
    }
    Ok(path)
}

/// What a namespace's container is called when nobody said: `pid-42`, or `netns-` and its file's name.
pub(crate) fn container(path: &Path) -> ContainerId {
    let parts: Vec<Component<'_>> = path.components().collect();
    let text = |c: &Component<'_>| c.as_os_str().to_string_lossy().into_owned();
    let id = match parts.as_slice() {
        [_, proc, pid, ns, net] if text(proc) == "proc" && text(ns) == "ns" && text(net) == "net" => {
            format!("pid-{}", text(pid))
        }
        [.., last] => format!("netns-{}", text(last)),
        [] => "netns".to_owned(),
    };
    sanitise(&id).parse().expect("only allowed characters are left, and few enough")
}

/// Replaces what a container id may not have. A name that was changed gets a mark made from the
/// whole of it, so that two names stay two.
fn sanitise(id: &str) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if id.len() <= 128 && id.chars().all(good) {
        return id.to_owned();
    }
    let short: String = id.chars().map(|c| if good(c) { c } else { '-' }).take(111).collect();
    format!("{short}-{:016x}", crate::install::fnv1a(id.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(typed: &str) -> Option<String> {
        resolve(Path::new(typed)).ok().map(|p| p.display().to_string())
    }

    #[test]
    fn a_name_is_one_of_ip_netns_and_a_path_is_itself() {
        assert_eq!(path("blue").as_deref(), Some("/run/netns/blue"));
        assert_eq!(path("/var/run/netns/blue").as_deref(), Some("/var/run/netns/blue"));
        assert!(path("./blue").unwrap().ends_with("/blue"));
        for bad in ["", ".", "..", "/proc/self/ns/net", "/proc/thread-self/ns/net"] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }

    #[test]
    fn containers_get_names_that_can_be_told_apart() {
        let name = |p: &str| container(Path::new(p)).to_string();
        assert_eq!(name("/run/netns/blue"), "netns-blue");
        assert_eq!(name("/run/user/1000/netns/netns-4f"), "netns-netns-4f");
        assert_eq!(name("/proc/42/ns/net"), "pid-42");
        assert!(name("/run/netns/a b").starts_with("netns-a-b-"));
        assert_ne!(name("/run/netns/a b"), name("/run/netns/a:b"));
        assert_eq!(name(&format!("/run/netns/{}", "é".repeat(200))).len(), 128);
    }
}
