//! What only another process can show: kill -9, a full disk, a read-only file system.
//!
//! This test binary runs itself: a test that finds `WEFT_STORE_ROLE` in its environment plays that role.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

const ROLE: &str = "WEFT_STORE_ROLE";
const ROOT: &str = "WEFT_STORE_ROOT";

fn role(name: &str) -> Option<PathBuf> {
    (std::env::var(ROLE).ok()? == name).then(|| std::env::var_os(ROOT).unwrap().into())
}

/// The command that runs one test of this binary in a role.
fn play(test: &str) -> (PathBuf, Vec<String>) {
    let arguments = ["--exact", test, "--nocapture", "--test-threads=1"].map(String::from).to_vec();
    (std::env::current_exe().unwrap(), arguments)
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    const ME: &str = "embedded::tests::processes::what_was_acknowledged_survives_kill_9";
    if let Some(root) = role("writer") {
        let (mut store, _) = open(&root);
        let mut out = std::io::stdout();
        for n in 0..=u8::MAX {
            let previous = n.checked_sub(9).map(|n| workload(1, n).id);
            let remove = previous.map(|id| Write::RemoveWorkload { id, freed: vec![], at: 0 });
            let writes: Vec<Write> =
                remove.into_iter().chain([Write::PutWorkload(Box::new(workload(1, n)))]).collect();
            store.commit(&writes).unwrap();
            store.put_network(&network(n % 5)).unwrap();
            writeln!(out, "\nacknowledged {n}").unwrap();
        }
        return;
    }
    let mut killed_in_between = 0;
    for round in 0..40u64 {
        let root = TempDir::with_prefix_in("kill", if round % 2 == 0 { memory() } else { "/tmp" }).unwrap();
        let (exe, arguments) = play(ME);
        let mut child = Command::new(exe)
            .args(arguments)
            .env(ROLE, "writer")
            .env(ROOT, root.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let acknowledged = |line: String| line.strip_prefix("acknowledged ")?.parse::<u8>().ok();
        let mut last = lines.by_ref().find_map(acknowledged);
        std::thread::sleep(Duration::from_micros(round * 300));
        child.kill().unwrap();
        child.wait().unwrap();
        last = lines.filter_map(acknowledged).last().or(last);
        let last = last.unwrap();
        killed_in_between += u32::from(last < u8::MAX);

        let (mut store, opened) = open(root.path());
        assert_eq!((opened.declared, opened.attachments), (Condition::Kept, Condition::Kept));
        let loaded = store.load().unwrap();
        let numbers: Vec<u8> = loaded.workloads.values().map(|w| w.mac.0[5]).collect();
        let newest = *numbers.iter().max().unwrap();
        assert!(
            newest == last || newest == last.saturating_add(1),
            "{last} was acknowledged, {newest} is there"
        );
        assert_eq!(numbers.len(), usize::from(newest).min(8) + 1, "each batch is there whole or not at all");
    }
    assert!(killed_in_between > 20, "most writers were killed at work: {killed_in_between}");
}

/// Runs a shell script as root of its own mount namespace, with `$root` a small tmpfs that it has to
/// mount, and `play ROLE` running this test in a role.
fn in_own_mounts(test: &str, script: &str) {
    let root = TempDir::new().unwrap();
    let (exe, arguments) = play(test);
    let script = format!(
        "set -e\nplay() {{ {ROLE}=$1 {ROOT}=$root '{}' {}; }}\nroot='{}'\n{script}",
        exe.display(),
        arguments.join(" "),
        root.path().display(),
    );
    let own = if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" };
    let done = Command::new("unshare").args([own, "sh", "-c", &script]).output().expect("unshare(1) runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "{script}\n{}\n{}", text(&done.stdout), text(&done.stderr));
}

/// Fills the file system that `root` is on, to the last byte.
fn fill(root: &Path) {
    let mut ballast = fs::File::create(root.join("ballast")).unwrap();
    for size in [4_096, 1] {
        while ballast.write(&vec![7; size]).is_ok_and(|n| n > 0) {}
    }
}

fn is_full(result: Result<(), StoreError>) {
    let error = api::Error::from(result.unwrap_err());
    assert_eq!(error.kind, api::ErrorKind::Storage);
    assert!(error.message.ends_with("attachments.redb: No space left on device (os error 28)"), "{error}");
    assert!(error.hint.unwrap().starts_with("make room on the file system of "));
}

#[test]
fn a_full_disk_loses_nothing() {
    const ME: &str = "embedded::tests::processes::a_full_disk_loses_nothing";
    if let Some(root) = role("full") {
        let mut before = filled(&root);
        let (mut store, _) = open(&root);

        // Full while at work: the first commits may still fit into the file's own free pages.
        fill(&root);
        let mut refused = 0;
        for n in 10..60 {
            match store.put_workload(&workload(1, n)) {
                Ok(()) => drop(before.workloads.insert(workload(1, n).id, workload(1, n))),
                Err(error) => {
                    is_full(Err(error));
                    refused += 1;
                }
            }
        }
        assert!(refused > 10, "the disk was full");
        assert_eq!(store.load().unwrap(), before, "a refused change is not there, an accepted one is");
        drop(store);

        // Full at the start.
        fs::remove_file(root.join("ballast")).unwrap();
        fill(&root);
        let (mut store, opened) = open(&root);
        println!("full at the start: {opened:?}");
        assert_eq!(store.load().unwrap(), before);
        let refused = (60..200).any(|n| match store.put_workload(&workload(2, n)) {
            Ok(()) => {
                before.workloads.insert(workload(2, n).id, workload(2, n));
                false
            }
            Err(error) => {
                is_full(Err(error));
                true
            }
        });
        assert!(refused);
        assert_eq!(store.load().unwrap(), before);

        // Room again.
        fs::remove_file(root.join("ballast")).unwrap();
        store.put_workload(&workload(3, 1)).unwrap();
        before.workloads.insert(workload(3, 1).id, workload(3, 1));
        drop(store);
        let (mut store, opened) = open(&root);
        assert_eq!((opened.declared, opened.attachments), (Condition::Kept, Condition::Kept));
        assert_eq!(store.load().unwrap(), before);
        return;
    }
    in_own_mounts(ME, "mount -t tmpfs -o size=1m,mode=700 tmpfs \"$root\"\nplay full");
}

#[test]
fn a_read_only_file_system_can_be_read() {
    const ME: &str = "embedded::tests::processes::a_read_only_file_system_can_be_read";
    if let Some(root) = role("fill") {
        filled(&root);
    } else if let Some(root) = role("read-only") {
        let (mut store, opened) = open(&root);
        let Condition::Unwritable { why } = opened.declared else { panic!("{opened:?}") };
        assert!(why.ends_with("declared.redb: Read-only file system (os error 30)"), "{why}");
        assert_eq!(store.load().unwrap().workloads.len(), 3);
        let error = api::Error::from(store.put_network(&network(7)).unwrap_err());
        assert!(error.message.ends_with("declared.redb: Read-only file system (os error 30)"), "{error}");
        assert!(error.hint.unwrap().contains("--state-dir"));
        assert_eq!(store.load().unwrap().networks.len(), 2);
        drop(store);
        let elsewhere = refusal(&root.join("new"));
        let said =
            format!("cannot create {}: Read-only file system (os error 30)", root.join("new/lib").display());
        assert_eq!(elsewhere.message, said);
    } else if let Some(root) = role("writable") {
        let (mut store, opened) = open(&root);
        assert_eq!(opened.declared, Condition::Kept);
        store.put_network(&network(7)).unwrap();
    } else {
        in_own_mounts(
            ME,
            "mount -t tmpfs -o size=1m,mode=700 tmpfs \"$root\"\nplay fill\n\
             mount -o remount,ro \"$root\"\nplay read-only\n\
             mount -o remount,rw \"$root\"\nplay writable",
        );
    }
}

/// No room for a file, and none there that could be read: the store begins empty in memory, says so,
/// refuses to record, and begins the file when there is room.
#[test]
fn with_no_file_and_no_room_it_goes_without() {
    const ME: &str = "embedded::tests::processes::with_no_file_and_no_room_it_goes_without";
    if let Some(root) = role("begin") {
        for folder in ["lib", "run"] {
            fs::create_dir(root.join(folder)).unwrap();
        }
    } else if let Some(root) = role("damage") {
        drop(filled(&root));
        fs::write(root.join("lib").join(Declared::NAME), "rubbish").unwrap();
    } else if let Some(root) = role("fill") {
        fill(&root);
    } else if let Some(root) = role("refused") {
        let (mut store, opened) = open(&root);
        let Condition::Unwritable { why } = opened.declared else { panic!("{opened:?}") };
        assert!(why.contains("(os error"), "{why}");
        assert_eq!(store.load().unwrap().networks.len(), 0);
        for _ in 0..2 {
            let error = api::Error::from(store.put_network(&network(7)).unwrap_err());
            assert_eq!(error.kind, api::ErrorKind::Storage, "{error}");
        }
        assert_eq!(store.load().unwrap().networks.len(), 0);
        // Room comes while it is open.
        if fs::remove_file(root.join("ballast")).is_ok() {
            store.put_network(&network(7)).unwrap();
            store.put_workload(&workload(1, 1)).unwrap();
        }
    } else if let Some(root) = role("room") {
        let (mut store, opened) = open(&root);
        assert_eq!((opened.declared, opened.attachments), (Condition::Kept, Condition::Kept));
        let loaded = store.load().unwrap();
        assert!(loaded.networks.contains_key(&network(7).name) && !loaded.workloads.is_empty());
    } else {
        let small = "mount -t tmpfs -o size=1m,mode=700 tmpfs \"$root\"";
        in_own_mounts(ME, &format!("{small}\nplay begin; play fill; play refused; play room"));
        in_own_mounts(ME, &format!("{small}\nplay damage; play fill; play refused; play room"));
        let read_only = "mount -o remount,ro \"$root\"; play refused; mount -o remount,rw \"$root\"";
        in_own_mounts(ME, &format!("{small}\nplay begin; {read_only}"));
    }
}
