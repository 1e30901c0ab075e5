//! Both versions against folders in which the kernel's files are played by plain ones, and v1 against the kernel.

use std::collections::BTreeMap;

use weft_kernel::device::{Kind, Rule, access};

use super::*;
use crate::spec::limits::Cpus;

const NULL: Rule = Rule { kind: Kind::Character, major: Some(1), minor: Some(3), access: access::ALL };

fn limits() -> Limits {
    Limits { memory: Some(64 << 20), cpus: Some(Cpus(500)), pids: Some(7) }
}

/// Folders with empty files of these names, where the group and its parent will be.
fn play(root: &Path, files: &[&str]) {
    for folder in [root.to_owned(), root.join("weft"), root.join("weft/x")] {
        fs::create_dir_all(&folder).unwrap();
        for file in files {
            fs::write(folder.join(file), "").unwrap();
        }
    }
}

fn content(root: &Path, file: &str) -> String {
    fs::read_to_string(root.join("weft/x").join(file)).unwrap()
}

#[test]
fn limits_in_v2() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    play(root, &["cgroup.subtree_control", "memory.max", "memory.swap.max", "cpu.max", "pids.max"]);
    let controllers = ["cpu", "memory", "pids"].map(str::to_owned).to_vec();
    let tree = mounts::Unified { root: root.to_owned(), controllers };
    let folder = v2::make(&tree, Path::new("weft/x"), &limits()).unwrap();
    assert_eq!(folder, root.join("weft/x"));
    assert_eq!(content(root, "memory.max"), "67108864");
    assert_eq!(content(root, "memory.swap.max"), "0");
    assert_eq!(content(root, "cpu.max"), "50000 100000");
    assert_eq!(content(root, "pids.max"), "7");
    for above in [root.to_owned(), root.join("weft")] {
        let handed_on = fs::read_to_string(above.join("cgroup.subtree_control")).unwrap();
        assert_eq!(handed_on, "+memory +cpu +pids", "{}", above.display());
    }
}

#[test]
fn limits_and_devices_in_v1() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let files = [
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "cpu.cfs_quota_us",
        "cpu.cfs_period_us",
        "pids.max",
        "devices.deny",
        "devices.allow",
    ];
    play(root, &files);
    let v1: BTreeMap<String, PathBuf> =
        ["memory", "cpu", "pids", "devices"].iter().map(|c| ((*c).to_owned(), root.to_owned())).collect();
    let group = Group::create(&Trees { unified: None, v1 }, "x", &limits(), &[NULL]).unwrap();
    assert_eq!(content(root, "memory.limit_in_bytes"), "67108864");
    assert_eq!(content(root, "memory.memsw.limit_in_bytes"), "67108864");
    assert_eq!(
        (content(root, "cpu.cfs_quota_us"), content(root, "cpu.cfs_period_us")),
        ("50000".into(), "100000".into())
    );
    assert_eq!(content(root, "pids.max"), "7");
    assert_eq!(
        (content(root, "devices.deny"), content(root, "devices.allow")),
        ("a".into(), "c 1:3 rwm".into())
    );
    assert_eq!(group.v1.len(), 4);
}

#[test]
fn a_limit_that_nobody_keeps_is_refused() {
    let limits = Limits { pids: Some(1), ..Limits::default() };
    let error = Group::create(&Trees::default(), "x", &limits, &[]).unwrap_err();
    assert!(error.to_string().contains("controller 'pids'"), "{error}");
    let unlimited = Group::create(&Trees::default(), "x", &Limits::default(), &[]).unwrap_err();
    assert!(matches!(unlimited, Error::Devices(_)), "{unlimited}");
}

#[test]
fn trees_are_found_where_they_are_mounted() {
    let text = "\
30 25 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw,nsdelegate
31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:6 - cgroup cgroup rw,cpu,cpuacct
32 25 0:28 / /odd\\040place rw - cgroup cgroup rw,pids
33 25 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 25 0:30 / / rw - ext4 /dev/vda rw\n";
    let trees = Trees::read(text, |_| Ok("hugetlb\n".to_owned())).unwrap();
    let unified = trees.unified.unwrap();
    assert!(
        unified.root == Path::new("/sys/fs/cgroup/unified") && unified.has("hugetlb") && !unified.has("pids")
    );
    let v1: Vec<(&str, &str)> = trees.v1.iter().map(|(c, p)| (c.as_str(), p.to_str().unwrap())).collect();
    assert_eq!(v1, [("cpu", "/sys/fs/cgroup/cpu,cpuacct"), ("pids", "/odd place")]);
}

#[test]
fn kills_are_counted() {
    assert_eq!(keyed("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), Some(3));
    assert_eq!(keyed("low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\n", "oom_kill"), Some(1));
    assert_eq!(keyed("", "oom_kill"), None);
}
