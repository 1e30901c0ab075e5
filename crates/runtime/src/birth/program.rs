//! Finding and executing the container's program, with the errors that people know from a shell.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::Identity;
use crate::report::Refusal;
use crate::spec::Spec;

/// Where programs are looked for unless the image says something else (moby, `oci/defaults.go`).
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the program finds in its environment: later values win.
pub(super) fn environment(spec: &Spec, identity: &Identity) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::from([
        ("PATH".to_owned(), PATH.to_owned()),
        ("HOSTNAME".to_owned(), spec.hostname.clone()),
        ("HOME".to_owned(), identity.home.clone().unwrap_or_else(|| "/".to_owned())),
    ]);
    if spec.tty {
        environment.insert("TERM".to_owned(), "xterm".to_owned());
    }
    let given = spec.env.iter().filter_map(|pair| pair.split_once('='));
    environment.extend(given.map(|(key, value)| (key.to_owned(), value.to_owned())));
    environment
}

/// The program's path. Without a slash it is looked for along PATH.
pub(super) fn find(spec: &Spec, environment: &BTreeMap<String, String>) -> Result<PathBuf, Refusal> {
    let Some(name) = spec.command.first().filter(|name| !name.is_empty()) else {
        return Err(refused("", "no command was given, and the image has none", 125));
    };
    if name.contains('/') {
        return Ok(PathBuf::from(name)); // whether it is there, execve says
    }
    let path = environment.get("PATH").map_or(PATH, String::as_str);
    let mut seen = false;
    for folder in path.split(':').filter(|f| !f.is_empty()) {
        let program = Path::new(folder).join(name);
        if !program.is_file() {
            continue;
        }
        if access(&program, Access::EXEC_OK).is_ok() {
            return Ok(program);
        }
        seen = true;
    }
    if seen {
        return Err(refused(name, "permission denied: it is not executable", 126));
    }
    Err(refused(name, &format!("no such program in {path}"), 127))
}

/// Becomes the program; returns only why not.
pub(super) fn execute(program: &Path, spec: &Spec, environment: &BTreeMap<String, String>) -> Refusal {
    let mut command = Command::new(program);
    command.arg0(&spec.command[0]).args(&spec.command[1..]).env_clear().envs(environment);
    let error = command.exec();
    let name = &spec.command[0];
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::NOTDIR) if program.exists() => {
            refused(name, "its interpreter (the line #!, or the loader of its libraries) is missing", 127)
        }
        Some(Errno::NOENT | Errno::NOTDIR) => refused(name, "no such file", 127),
        Some(Errno::ACCESS) => refused(name, "permission denied: it is not executable for this user", 126),
        Some(Errno::NOEXEC) => refused(name, "not a program for this machine", 126),
        Some(Errno::ISDIR) => refused(name, "it is a folder", 126),
        _ => refused(name, &error.to_string(), 126),
    }
}

fn refused(name: &str, why: &str, code: i32) -> Refusal {
    let message = if name.is_empty() { why.to_owned() } else { format!("cannot execute '{name}': {why}") };
    Refusal { message, code, hint: None }
}
