//! Facts from files: settings applied at boot, CNI configurations, and what other programs are told of interfaces.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{CniFile, Facts, Managed};

const CNI_FOLDER: &str = "/etc/cni/net.d";
const CNI_PROGRAMS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];
/// A later folder's file is hidden by one of the same name in an earlier one (sysctl.d(5), systemd.network(5)).
const SYSCTL: [&str; 4] = ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"];
const NETWORKD: [&str; 4] = [
    "/etc/systemd/network",
    "/run/systemd/network",
    "/usr/local/lib/systemd/network",
    "/usr/lib/systemd/network",
];
const NETWORK_MANAGER: [&str; 3] =
    ["/etc/NetworkManager/conf.d", "/run/NetworkManager/conf.d", "/usr/lib/NetworkManager/conf.d"];

/// A name as weft's interfaces have them.
const EXAMPLE: &str = "weft0123456789";
/// Nobody's configuration is longer.
const LIMIT: u64 = 1 << 20;

pub(super) fn add(facts: &mut Facts) {
    let mut sysctls: Vec<(PathBuf, String)> = read_all(&SYSCTL, &["conf"]);
    sysctls.extend(read(Path::new("/etc/sysctl.conf")).map(|text| ("/etc/sysctl.conf".into(), text)));
    facts.sysctl_files = sysctls.iter().flat_map(|(path, text)| settings(path, text)).collect();
    facts.legacy_tables = ["ip", "ip6"]
        .iter()
        .filter_map(|family| read(Path::new(&format!("/proc/thread-self/net/{family}_tables_names"))))
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    facts.cni_folder = CNI_FOLDER.to_owned();
    facts.cni = cni_files(Path::new(CNI_FOLDER));
    facts.networkd =
        networkd(Path::new("/run/systemd/netif/state").exists(), &read_all(&NETWORKD, &["network"]));
    facts.network_manager = network_manager(
        Path::new("/run/NetworkManager/NetworkManager.pid").exists(),
        &read_all(&NETWORK_MANAGER, &["conf"]),
    );
}

fn read(path: &Path) -> Option<String> {
    let small = fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() <= LIMIT);
    small.then(|| fs::read_to_string(path).ok()).flatten()
}

/// The files of several folders in the order of their names, earlier folders hiding later ones.
fn read_all(folders: &[&str], extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let mut by_name = BTreeMap::new();
    for folder in folders.iter().rev() {
        for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()) {
            if path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)) {
                by_name.insert(path.file_name().map(ToOwned::to_owned), path);
            }
        }
    }
    by_name.into_values().filter_map(|path| Some((path.clone(), read(&path)?))).collect()
}

fn settings(path: &Path, text: &str) -> Vec<(String, String, String)> {
    let line = |line: &str| {
        let line = line.trim_start_matches('-').trim();
        let (key, value) = line.split_once('=').filter(|_| !line.starts_with(['#', ';']))?;
        Some((path.display().to_string(), key.trim().to_owned(), value.trim().to_owned()))
    };
    text.lines().filter_map(|l| line(l.trim())).collect()
}

fn cni_files(folder: &Path) -> Vec<CniFile> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    // What libcni takes for a configuration.
    let known = |p: &PathBuf| p.extension().is_some_and(|e| e == "conf" || e == "conflist" || e == "json");
    let name = |p: &Path| p.file_name().unwrap_or_default().to_string_lossy().into_owned();
    entries.filter(known).map(|p| cni_file(name(&p), read(&p).as_deref())).collect()
}

fn cni_file(name: String, text: Option<&str>) -> CniFile {
    let broken =
        |why: &str| CniFile { name: name.clone(), broken: Some(why.to_owned()), ..CniFile::default() };
    let Some(text) = text else { return broken("it cannot be read") };
    let Ok(value) = serde_json::from_str::<Value>(text) else { return broken("it is not JSON") };
    let alone = std::slice::from_ref(&value);
    let plugins = value.get("plugins").and_then(Value::as_array).map_or(alone, Vec::as_slice);
    let types: Vec<String> =
        plugins.iter().filter_map(|p| Some(p.get("type")?.as_str()?.to_owned())).collect();
    if types.is_empty() || value.get("name").and_then(Value::as_str).is_none() {
        return broken("it has no name or names no plugin");
    }
    let installed = |t: &&String| {
        let plain = !t.contains('/');
        plain && CNI_PROGRAMS.iter().any(|folder| Path::new(folder).join(t).exists())
    };
    let missing = types.iter().filter(|t| !installed(t)).cloned().collect();
    CniFile { name, types, missing, broken: None }
}

/// networkd takes the first file whose `[Match]` holds, in the order of names.
fn networkd(runs: bool, files: &[(PathBuf, String)]) -> Managed {
    let mut managed = Managed { runs, ..Managed::default() };
    for (path, text) in files {
        let matched = section(text, "Match");
        if !matched.is_empty() && matched.iter().all(|(key, value)| may_hold(key, value)) {
            let unmanaged = section(text, "Link").iter().any(|(k, v)| k == "Unmanaged" && is_yes(v));
            managed.excluded |= unmanaged;
            if !unmanaged {
                managed.claims.push(path.display().to_string());
            }
            break;
        }
    }
    managed
}

/// Whether a condition may hold for an interface of weft's; one that is not known here is taken not to.
fn may_hold(key: &str, value: &str) -> bool {
    match key {
        "Name" => {
            let (no, yes): (Vec<&str>, Vec<&str>) =
                value.split_whitespace().partition(|p| p.starts_with('!'));
            !no.iter().any(|p| globs(&p[1..], EXAMPLE))
                && (yes.is_empty() || yes.iter().any(|p| globs(p, EXAMPLE)))
        }
        "Type" => value.split_whitespace().any(|t| globs(t, "ether")),
        "Kind" => value.split_whitespace().any(|t| globs(t, "veth")),
        _ => false,
    }
}

fn network_manager(runs: bool, files: &[(PathBuf, String)]) -> Managed {
    let mut managed = Managed { runs, ..Managed::default() };
    for (path, text) in files {
        for (key, value) in text.lines().filter_map(|l| l.trim().split_once('=')) {
            if key.trim_end_matches('+') != "unmanaged-devices" {
                continue;
            }
            let names = value.split([';', ',']).filter_map(|d| d.trim().strip_prefix("interface-name:"));
            let here = names.into_iter().any(|pattern| globs(pattern, EXAMPLE));
            // Without '+' it takes the place of what earlier files have said.
            if !key.ends_with('+') && !here && managed.excluded {
                managed.claims.push(path.display().to_string());
                managed.excluded = false;
            }
            managed.excluded |= here;
        }
    }
    managed
}

fn section(text: &str, name: &str) -> Vec<(String, String)> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == format!("[{name}]");
        } else if let Some((key, value)) =
            line.split_once('=').filter(|_| inside && !line.starts_with(['#', ';']))
        {
            found.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    found
}

fn is_yes(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "yes" | "true" | "on")
}

/// Shell patterns with `*` and `?`, as far as interface names need them.
fn globs(pattern: &str, text: &str) -> bool {
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => globs(&pattern[1..], text) || (!text.is_empty() && globs(pattern, &text[1..])),
        (Some('?'), Some(_)) => globs(&pattern[1..], &text[1..]),
        (Some(p), Some(t)) if p == t && p.is_ascii() => globs(&pattern[1..], &text[1..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(all: &[(&str, &str)]) -> Vec<(PathBuf, String)> {
        all.iter().map(|(p, t)| (PathBuf::from(p), (*t).to_owned())).collect()
    }

    #[test]
    fn networkd_takes_the_first_match() {
        let ours = ("/etc/systemd/network/05-weft.network", "[Match]\nName=weft*\n[Link]\nUnmanaged=yes\n");
        let judged = |all: &[(&str, &str)]| {
            let managed = networkd(true, &files(all));
            (managed.excluded, managed.claims.len())
        };
        assert_eq!(judged(&[ours]), (true, 0));
        assert_eq!(judged(&[ours, ("/x/20-all.network", "[Match]\nName=*\n[Network]\nDHCP=yes")]), (true, 0));
        assert_eq!(judged(&[("/x/01-all.network", "[Match]\nName=*\n"), ours]), (false, 1));
        assert_eq!(judged(&[("/x/01-a.network", "[Match]\nType=ether\n"), ours]), (false, 1));
        assert_eq!(judged(&[("/x/01-a.network", "[Match]\nName=en* eth0\n"), ours]), (true, 0));
        assert_eq!(judged(&[("/x/01-a.network", "[Match]\nName=!weft*\n"), ours]), (true, 0));
        assert_eq!(
            judged(&[("/x/01-a.network", "[Match]\nMACAddress=02:00:00:00:00:01\n"), ours]),
            (true, 0)
        );
        assert_eq!(judged(&[]), (false, 0));
    }

    #[test]
    fn network_manager_adds_up() {
        let judged = |all: &[(&str, &str)]| {
            let managed = network_manager(true, &files(all));
            (managed.excluded, managed.claims.len())
        };
        let ours =
            ("/etc/NetworkManager/conf.d/weft.conf", "[keyfile]\nunmanaged-devices+=interface-name:weft*\n");
        assert_eq!(judged(&[ours]), (true, 0));
        assert_eq!(judged(&[]), (false, 0));
        assert_eq!(
            judged(&[ours, ("/x/z.conf", "[keyfile]\nunmanaged-devices=interface-name:docker*\n")]),
            (false, 1)
        );
    }

    #[test]
    fn configurations_and_settings_are_read() {
        let file =
            cni_file("a.conflist".into(), Some(r#"{"name":"x","plugins":[{"type":"no-such-plugin"}]}"#));
        assert_eq!(
            (file.types, file.missing.len(), file.broken),
            (vec!["no-such-plugin".to_owned()], 1, None)
        );
        for text in
            [None, Some("{"), Some("{}"), Some("[]"), Some(r#"{"name":"x"}"#), Some(r#"{"type":"x"}"#)]
        {
            assert!(cni_file("a.conf".into(), text).broken.is_some(), "{text:?}");
        }
        let found = settings(Path::new("/x"), "# c\n-net.ipv4.ip_forward = 0\n;a=b\nkernel/x=1\n");
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].1.as_str(), found[0].2.as_str()), ("net.ipv4.ip_forward", "0"));
    }

    #[test]
    fn patterns_are_those_of_shells() {
        for (pattern, text, wanted) in [
            ("weft*", "weft0", true),
            ("*", "weft0", true),
            ("w?ft0", "weft0", true),
            ("*0", "weft0", true),
            ("weft", "weft0", false),
            ("eth*", "weft0", false),
            ("", "weft0", false),
            ("wéft*", "weft0", false),
        ] {
            assert_eq!(globs(pattern, text), wanted, "{pattern}");
        }
    }
}
