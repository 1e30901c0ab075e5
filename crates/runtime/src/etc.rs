//! The files that every container has of its own: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// Where systemd-resolved says which servers it asks, where `/etc/resolv.conf` names only itself.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// `/etc/hosts`: itself, by its addresses.
#[must_use]
pub(crate) fn hosts(hostname: &str, addresses: &[IpAddr]) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    for address in addresses {
        text += &format!("{address}\t{hostname}\n");
    }
    text
}

/// `/etc/resolv.conf`, from the host's: servers that listen on the host's loopback cannot be reached from a
/// container with a network of its own.
#[must_use]
pub(crate) fn resolv_conf(own_network: bool) -> String {
    let host = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if !own_network {
        return host;
    }
    let text = reachable(&host);
    if has_server(&text) {
        return text;
    }
    let behind = reachable(&fs::read_to_string(RESOLVED).unwrap_or_default());
    if has_server(&behind) { behind } else { text }
}

fn reachable(text: &str) -> String {
    let local = |line: &&str| {
        let server = line.strip_prefix("nameserver").map(str::trim);
        server.and_then(|s| s.parse::<IpAddr>().ok()).is_none_or(|address| !address.is_loopback())
    };
    text.lines().filter(local).map(|line| format!("{line}\n")).collect()
}

fn has_server(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("nameserver"))
}

/// Writes all of them into a folder, as files of `owner`, the container's root.
///
/// # Errors
/// The file system's.
pub(crate) fn write(folder: &Path, hostname: &str, own_network: bool, owner: u32) -> std::io::Result<()> {
    let files = [
        ("hosts", hosts(hostname, &[])),
        ("hostname", format!("{hostname}\n")),
        ("resolv.conf", resolv_conf(own_network)),
    ];
    for (name, text) in files {
        fs::write(folder.join(name), text)?;
        std::os::unix::fs::chown(folder.join(name), Some(owner), Some(owner))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_the_hosts_loopback_is_left_out() {
        let text = "# x\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.1\nsearch example\n";
        assert_eq!(reachable(text), "# x\nnameserver 192.0.2.1\nsearch example\n");
        assert!(!has_server(&reachable("nameserver 127.0.0.1\n")));
    }

    #[test]
    fn a_container_knows_itself() {
        let text = hosts("web", &["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()]);
        assert!(text.ends_with("10.0.0.2\tweb\nfd00::2\tweb\n"), "{text}");
    }
}
