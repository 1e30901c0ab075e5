//! Tables of good and hostile variables.

use super::*;

const FULL: [(&str, &str); 4] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "abc"),
    ("CNI_NETNS", "/run/netns/abc"),
    ("CNI_IFNAME", "eth0"),
];

fn with(name: &str, value: &str) -> Env {
    Env::new(FULL.map(|(k, v)| (k, if k == name { value } else { v })))
}

#[test]
fn each_command_names_all_that_it_misses() {
    for (command, missing) in [
        ("ADD", "ADD needs CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME"),
        ("CHECK", "CHECK needs CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME"),
        ("DEL", "DEL needs CNI_CONTAINERID, CNI_IFNAME"),
    ] {
        let env = Env::new([("CNI_COMMAND", command), ("CNI_IFNAME", ""), ("CNI_IFNAME", "")]);
        assert_eq!(env.command().unwrap_err().to_string(), missing);
    }
    for command in ["STATUS", "GC", "VERSION"] {
        assert!(Env::new([("CNI_COMMAND", command)]).command().is_ok(), "{command}");
    }
    assert_eq!(Env::default().command(), Err(EnvError::NoCommand));
    assert!(matches!(with("CNI_COMMAND", "add").command(), Err(EnvError::UnknownCommand(_))));
}

#[test]
fn hostile_names_are_refused() {
    let long = "a".repeat(300);
    for value in ["../x", "a/b", "..", "-a", "a b", "a;b", "a\nb", "ä", long.as_str()] {
        assert!(with("CNI_CONTAINERID", value).target().is_err(), "container {value:?}");
        assert!(with("CNI_IFNAME", value).target().is_err(), "ifname {value:?}");
    }
    assert!(with("CNI_IFNAME", "eth0").target().is_ok());
}

#[test]
fn hostile_namespaces_are_refused() {
    let long = format!("/{}", "a".repeat(5000));
    for value in ["run/netns/x", "/run/../etc/shadow", "/run/netns/..", "/run/a\nb", long.as_str()] {
        assert!(with("CNI_NETNS", value).netns().is_err(), "{value:?}");
    }
    for value in ["/run/netns/x", "/proc/42/ns/net", "/var/run/netns/cni-1..2"] {
        assert_eq!(with("CNI_NETNS", value).netns().unwrap(), Some(PathBuf::from(value)));
    }
    assert_eq!(with("CNI_NETNS", "").netns().unwrap(), None);
}

#[test]
fn what_is_not_text_is_named() {
    use std::os::unix::ffi::OsStringExt;
    let env = Env::new([(OsString::from("CNI_NETNS"), OsString::from_vec(vec![b'/', 0xff]))]);
    assert_eq!(env.netns(), Err(EnvError::NotText("CNI_NETNS")));
}

#[test]
fn plugins_are_searched_in_absolute_directories_only() {
    let env = Env::new([("CNI_PATH", "/opt/cni/bin:bin::./x:/usr/lib/cni")]);
    assert_eq!(env.plugin_dirs(), ["/opt/cni/bin", "/usr/lib/cni"].map(PathBuf::from));
    assert!(Env::default().plugin_dirs().is_empty());
}

#[test]
fn a_delegate_gets_the_same_environment_with_its_command() {
    let env = with("CNI_COMMAND", "ADD");
    let got: Vec<_> = env.with_command(Command::Del).collect();
    assert_eq!(got.len(), 4);
    assert!(got.contains(&(OsStr::new("CNI_COMMAND"), OsStr::new("DEL"))));
}
