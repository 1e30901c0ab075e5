//! What a person would type to get the same container: `weft run --explain`. docs/by-hand.md does it step by step.

use std::path::Path;

use crate::cgroup::{Group, Trees};
use crate::image::Store;
use crate::places::Places;
use crate::report::{Refusal, chain};
use crate::shim::connect;
use crate::spec::{Net, Root, Spec, Users, Volume};

/// The commands, in the order in which they would be typed.
///
/// # Errors
/// What would keep the container from being made, as far as that can be known before.
pub fn commands(places: &Places, spec: &Spec) -> Result<Vec<String>, Refusal> {
    let mut all = root(places, spec)?;
    all.extend(connect::explained(places, spec)?);
    let trees = Trees::of_this_host().map_err(|e| chain(&e))?;
    all.push("# in a shell of its own, which becomes the container:".to_owned());
    all.extend(Group::explained(&trees, spec.name.as_str(), &spec.limits).map_err(|e| chain(&e))?);
    all.push(
        "# its devices are kept to those of /dev by a BPF program of this cgroup: no command does that"
            .to_owned(),
    );
    all.push(format!("exec {} sh -e <<'INSIDE'", namespaces(spec)));
    all.extend(inside(places, spec));
    all.push("INSIDE".to_owned());
    Ok(all)
}

/// Its layers, seen as one.
fn root(places: &Places, spec: &Spec) -> Result<Vec<String>, Refusal> {
    let folder = places.containers().join(spec.name.as_str());
    let lower = match &spec.root {
        Root::Folder(lower) => vec![lower.clone()],
        Root::Image { manifest, .. } => {
            let store = Store::open(&places.state).map_err(|e| chain(&e))?;
            store.lowerdirs(&store.image(manifest).map_err(|e| chain(&e))?)
        }
    };
    let at = quoted(&folder.display().to_string());
    let mut commands = vec![format!("mkdir -p {at}/upper {at}/work {at}/merged")];
    if spec.users == Users::Auto {
        commands.push("# its users get numbers that are free when it starts; FIRST is the first".to_owned());
    }
    if let Some(first) = first(spec) {
        for lower in lower.iter().chain([&folder]) {
            let lower = quoted(&lower.display().to_string());
            commands.push(format!("mount --bind -o X-mount.idmap=b:0:{first} {lower} {lower}"));
        }
    }
    let lower: Vec<String> = lower.iter().map(|path| path.display().to_string()).collect();
    let lower = quoted(&lower.join(":"));
    commands.push(format!(
        "mount -t overlay weft -o lowerdir={lower},upperdir={at}/upper,workdir={at}/work {at}/merged"
    ));
    Ok(commands)
}

/// The numbers of a user namespace, as the commands want them.
fn first(spec: &Spec) -> Option<String> {
    match spec.users {
        Users::Host => None,
        Users::Auto => Some("FIRST:65536".to_owned()),
        Users::Range(range) => Some(range.to_string()),
    }
}

/// What starts a process in namespaces of its own.
fn namespaces(spec: &Spec) -> String {
    let net = match &spec.net {
        Net::Host => None,
        Net::Container(other) => Some(Places::netns(other)),
        Net::Network(_) | Net::None => Some(Places::netns(&spec.name)),
    };
    let enter = net.map_or_else(String::new, |path| format!("nsenter --net={} ", path.display()));
    let users = first(spec).map_or_else(String::new, |first| {
        let first = first.replace(':', ",");
        format!(" --user --map-users=0,{first} --map-groups=0,{first}")
    });
    format!("{enter}unshare --mount --pid --uts --ipc --cgroup{users} --fork --kill-child")
}

/// What that process does before it is the program.
fn inside(places: &Places, spec: &Spec) -> Vec<String> {
    let merged = quoted(&places.containers().join(spec.name.as_str()).join("merged").display().to_string());
    let live = places.live(&spec.name);
    let mut commands = vec!["mount --make-rprivate /".to_owned(), format!("cd {merged}")];
    for file in crate::birth::root::ETC {
        commands.push(format!("mount --bind {} etc/{file}", quoted(&live.join(file).display().to_string())));
    }
    commands.extend(spec.volumes.iter().flat_map(volume));
    commands.extend(["mkdir -p proc sys dev old", "pivot_root . old", "cd /"].map(str::to_owned));
    commands.extend(
        [
            "mount -t proc -o nosuid,nodev,noexec proc /proc",
            "mount -t sysfs -o ro,nosuid,nodev,noexec sysfs /sys",
            "mount -t tmpfs -o mode=755,nosuid tmpfs /dev    # null, zero, full, random, urandom, tty; pts, shm, mqueue",
            "umount -l /old && rmdir /old",
        ]
        .map(str::to_owned),
    );
    commands.push(format!("hostname {}", quoted(&spec.hostname)));
    if spec.read_only {
        commands.push("mount -o remount,bind,ro /".to_owned());
    }
    commands.push(format!("cd {}", quoted(&spec.workdir.display().to_string())));
    commands.push("# a filter of system calls, Docker's, comes here: no command does that".to_owned());
    let keep: Vec<String> = Vec::<String>::from(spec.capabilities)
        .iter()
        .map(|name| format!("+{}", name.to_lowercase()))
        .collect();
    let keep = [vec!["-all".to_owned()], keep].concat().join(",");
    let user = if spec.user.is_empty() { "0" } else { &spec.user };
    let (user, group) =
        user.split_once(':').map_or((user, String::new()), |(u, g)| (u, format!(" --regid={}", quoted(g))));
    let environment: Vec<String> = spec.env.iter().map(|pair| quoted(pair)).collect();
    let command: Vec<String> = spec.command.iter().map(|word| quoted(word)).collect();
    let no_new = if spec.no_new_privileges { " --no-new-privs" } else { "" };
    commands.push(format!(
        "exec setpriv --bounding-set={keep} --inh-caps=-all --reuid={}{group} --clear-groups{no_new} env -i {} {}",
        quoted(user),
        environment.join(" "),
        command.join(" "),
    ));
    commands
}

fn volume(volume: &Volume) -> Vec<String> {
    let target = volume.target.strip_prefix("/").unwrap_or(Path::new("."));
    let (from, to) = (quoted(&volume.source.display().to_string()), quoted(&target.display().to_string()));
    let mut commands = vec![format!("mkdir -p {to}"), format!("mount --rbind {from} {to}")];
    if volume.read_only {
        commands.push(format!("mount -o remount,bind,ro {to}"));
    }
    commands
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_words() {
        assert_eq!(quoted("/bin/sh"), "/bin/sh");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
        let ro: Volume = "/srv/a b:/data:ro".parse().unwrap();
        assert_eq!(
            volume(&ro),
            ["mkdir -p data", "mount --rbind '/srv/a b' data", "mount -o remount,bind,ro data"]
        );
    }
}
