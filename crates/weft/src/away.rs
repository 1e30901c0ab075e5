//! What to say when the agent cannot be reached: what was tried, why it failed, and how to start it.

use std::fs;
use std::io;
use std::path::Path;

use crate::failure::{AGENT_AWAY, Failure};
use crate::install::systemd;

/// The failure, from the error of `connect`.
pub(crate) fn away(socket: &Path, error: &io::Error) -> anyhow::Error {
    let agents = agents();
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody listens on it".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    let seen = match agents.as_slice() {
        [] => "no weft agent is running".to_owned(),
        [pid] => format!("process {pid} is a weft agent"),
        many => {
            let pids: Vec<String> = many.iter().map(u32::to_string).collect();
            format!("processes {} are weft agents", pids.join(", "))
        }
    };
    let hint = if error.kind() == io::ErrorKind::PermissionDenied {
        "only root may speak to the agent: run this as root"
    } else if !agents.is_empty() {
        "it may be starting, or listen elsewhere: name its socket with --socket"
    } else if systemd::running() && systemd::unit_exists() {
        "start it with `systemctl start weft`"
    } else {
        "start it with `weft agent`, as root"
    };
    let message = format!("the agent cannot be reached at {}: {reason}; {seen}", socket.display());
    Failure::new(message).hint(hint).code(AGENT_AWAY).into()
}

/// Process ids of the agents that can be seen, whatever namespace they are in.
pub(crate) fn agents() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let agent = |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| is_agent(&line));
    let mut found: Vec<u32> = pids.filter(|pid| *pid != std::process::id()).filter(agent).collect();
    found.sort_unstable();
    found
}

/// Whether a command line, NUL between its words, is that of `weft agent`.
fn is_agent(cmdline: &[u8]) -> bool {
    let mut words = cmdline.split(|b| *b == 0);
    let program = words.next().and_then(|w| w.rsplit(|b| *b == b'/').next());
    program == Some(b"weft") && words.any(|w| w == b"agent")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_known_by_its_command_line() {
        assert!(is_agent(b"/usr/local/bin/weft\0agent\0"));
        assert!(is_agent(b"weft\0--socket\0/x\0agent\0"));
        assert!(!is_agent(b"weft\0status\0"));
        assert!(!is_agent(b"/bin/sh\0weft\0agent\0"));
        assert!(!is_agent(b""));
    }

    #[test]
    fn each_reason_has_its_words() {
        let text = |kind: io::ErrorKind| {
            crate::failure::text(&away(Path::new("/x/agent.sock"), &io::Error::from(kind)))
        };
        assert!(text(io::ErrorKind::NotFound).contains("at /x/agent.sock: there is no such socket; "));
        assert!(text(io::ErrorKind::ConnectionRefused).contains("nobody listens"));
        assert!(text(io::ErrorKind::PermissionDenied).contains("hint: only root"));
    }
}
