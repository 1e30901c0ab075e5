//! The embedded store on real files: what it keeps, whom it refuses, what it says.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use tempfile::TempDir;
use weft_model::api;

use super::database::Contents as _;
use super::*;
use crate::laws::{network, store_laws, workload};

mod damage;
mod processes;

const BOOT: &str = "5f3c0f0e-0000-4000-8000-000000000001";

fn paths(root: &Path) -> Paths {
    Paths { state_dir: root.join("lib"), run_dir: root.join("run") }
}

fn open(root: &Path) -> (Embedded, Opened) {
    Embedded::open(&paths(root), BOOT).unwrap()
}

fn refusal(root: &Path) -> api::Error {
    Embedded::open(&paths(root), BOOT).unwrap_err().into()
}

/// A store with two networks, a sysctl, three workloads and resting addresses.
fn filled(root: &Path) -> Loaded {
    let (mut store, _) = open(root);
    store.commit(&[Write::PutNetwork(network(1)), Write::PutNetwork(network(2))]).unwrap();
    store.commit(&[Write::KeepSysctl { key: "net/ipv4/ip_forward".into(), value: "0".into() }]).unwrap();
    for n in 1..=4 {
        store.put_workload(&workload(1, n)).unwrap();
    }
    let gone = workload(1, 4);
    let freed: Vec<_> = gone.addresses.iter().map(ipnet::IpNet::addr).collect();
    store.remove_workload(&gone.id, &freed, 77).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!((loaded.networks.len(), loaded.workloads.len(), loaded.resting.len()), (2, 3, 2));
    loaded
}

#[test]
fn it_obeys_the_laws() {
    let root = TempDir::with_prefix_in("laws", memory()).unwrap();
    let count = std::cell::Cell::new(0);
    store_laws(|| {
        count.set(count.get() + 1);
        open(&root.path().join(count.get().to_string())).0
    });
}

/// Where sync costs nothing.
fn memory() -> &'static str {
    if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" }
}

#[test]
fn the_model_obeys_the_laws() {
    store_laws(crate::Memory::default);
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let root = TempDir::new().unwrap();
    let before = filled(root.path());
    let (mut store, opened) = open(root.path());
    assert_eq!((opened.declared, opened.attachments), (Condition::Kept, Condition::Kept));
    assert_eq!(opened.dropped, []);
    assert_eq!(store.load().unwrap(), before);
}

#[test]
fn another_boot_forgets_what_was_attached_and_keeps_what_was_declared() {
    let root = TempDir::new().unwrap();
    let before = filled(root.path());
    let (mut store, opened) = Embedded::open(&paths(root.path()), "another").unwrap();
    assert_eq!(opened.dropped, before.workloads.keys().cloned().collect::<Vec<_>>());
    let expected = Loaded { workloads: Default::default(), resting: Default::default(), ..before };
    assert_eq!(store.load().unwrap(), expected);
    drop(store);
    let (_, opened) = Embedded::open(&paths(root.path()), "another").unwrap();
    assert_eq!(opened.dropped, [], "they are forgotten once");
}

#[test]
fn both_files_may_share_a_directory() {
    let root = TempDir::new().unwrap();
    let here = Paths { state_dir: root.path().into(), run_dir: root.path().into() };
    let (mut store, _) = Embedded::open(&here, BOOT).unwrap();
    store.put_network(&network(1)).unwrap();
    store.put_workload(&workload(1, 1)).unwrap();
}

#[test]
fn files_and_directories_are_private() {
    let root = TempDir::new().unwrap();
    let paths = paths(root.path());
    fs::create_dir(&paths.run_dir).unwrap();
    fs::set_permissions(&paths.run_dir, fs::Permissions::from_mode(0o755)).unwrap();
    drop(open(root.path()));
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
    let attachments = paths.run_dir.join(Attachments::NAME);
    fs::set_permissions(&attachments, fs::Permissions::from_mode(0o644)).unwrap();
    drop(open(root.path()));
    assert_eq!((mode(&paths.state_dir), mode(&paths.run_dir)), (0o700, 0o700));
    assert_eq!((mode(&paths.state_dir.join(Declared::NAME)), mode(&attachments)), (0o600, 0o600));
    assert_eq!(fs::read_dir(&paths.state_dir).unwrap().count(), 1, "no other file is left behind");
}

#[test]
fn a_symlink_is_refused_by_name_and_its_target_untouched() {
    let root = TempDir::new().unwrap();
    let paths = paths(root.path());
    fs::create_dir(&paths.state_dir).unwrap();
    let (target, link) = (root.path().join("target"), paths.state_dir.join(Declared::NAME));
    fs::write(&target, "precious").unwrap();
    symlink(&target, &link).unwrap();
    let refused = refusal(root.path());
    assert_eq!(refused.message, format!("{} is a symbolic link", link.display()));
    assert!(refused.hint.unwrap().contains("rm "));
    fs::remove_file(&link).unwrap();

    for name in ["declared.redb.new", "declared.redb.opening"] {
        symlink(&target, paths.state_dir.join(name)).unwrap();
    }
    drop(open(root.path()));
    drop(open(root.path()));
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");

    fs::remove_dir_all(&paths.run_dir).unwrap();
    symlink(root.path(), &paths.run_dir).unwrap();
    let refused = refusal(root.path());
    assert_eq!(refused.message, format!("{} is a symbolic link", paths.run_dir.display()));
}

#[test]
fn other_things_in_their_place_are_refused() {
    let root = TempDir::new().unwrap();
    let paths = paths(root.path());
    let file = paths.state_dir.join(Declared::NAME);
    fs::create_dir_all(&file).unwrap();
    assert_eq!(refusal(root.path()).message, format!("{} is not a regular file", file.display()));
    fs::remove_dir(&file).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &file,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    assert_eq!(refusal(root.path()).message, format!("{} is not a regular file", file.display()));
    fs::remove_dir_all(&paths.state_dir).unwrap();
    fs::write(&paths.state_dir, "").unwrap();
    assert_eq!(refusal(root.path()).message, format!("{} is not a directory", paths.state_dir.display()));
}

#[test]
fn files_of_another_user_are_refused() {
    if !rustix::process::geteuid().is_root() {
        println!("not root: only the refusal of the root directory is tried");
        let here = Paths { state_dir: "/".into(), run_dir: "/".into() };
        assert!(matches!(Embedded::open(&here, BOOT), Err(StoreError::Foreign { uid: 0, .. })));
        return;
    }
    let root = TempDir::new().unwrap();
    drop(open(root.path()));
    let file = paths(root.path()).state_dir.join(Declared::NAME);
    std::os::unix::fs::chown(&file, Some(12_345), None).unwrap();
    let message = format!("{} belongs to user 12345, not to the agent's", file.display());
    assert_eq!(refusal(root.path()).message, message);
}

#[test]
fn a_second_agent_is_told_who_holds_the_files() {
    let root = TempDir::new().unwrap();
    let (store, _) = open(root.path());
    let (pid, state) = (std::process::id(), paths(root.path()).state_dir);
    let refused = refusal(root.path());
    assert_eq!(refused.message, format!("another agent (pid {pid}) holds {}", state.display()));
    drop(store);
    open(root.path());
}

#[test]
fn a_record_that_makes_no_sense_is_reported_and_left() {
    let root = TempDir::new().unwrap();
    let before = filled(root.path());
    let database = redb::Database::open(paths(root.path()).run_dir.join(Attachments::NAME)).unwrap();
    let table = redb::TableDefinition::<&str, &[u8]>::new("workloads");
    let transaction = database.begin_write().unwrap();
    transaction.open_table(table).unwrap().insert("app1/c9/eth0", br#"{"id":9}"#.as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    for _ in 0..2 {
        let (mut store, opened) = open(root.path());
        assert_eq!(opened.attachments, Condition::Kept);
        let loaded = store.load().unwrap();
        assert_eq!(loaded.workloads, before.workloads);
        assert_eq!(
            (loaded.unreadable[0].kind, loaded.unreadable[0].key.as_str()),
            ("workload", "app1/c9/eth0")
        );
    }
}

#[test]
fn the_file_of_a_later_version_is_refused_and_left() {
    let root = TempDir::new().unwrap();
    let before = filled(root.path());
    let file = paths(root.path()).state_dir.join(Declared::NAME);
    let set_schema = |schema: u64| {
        let database = redb::Database::open(&file).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(database::META).unwrap().insert("schema", schema).unwrap();
        transaction.commit().unwrap();
    };
    set_schema(2);
    let message = format!("{} has schema 2; this version of weft knows schemas up to 1", file.display());
    assert_eq!(refusal(root.path()).message, message);
    set_schema(1);
    assert_eq!(open(root.path()).0.load().unwrap(), before);
}

#[test]
fn a_path_that_is_not_utf8_is_refused_and_the_batch_with_it() {
    use std::os::unix::ffi::OsStringExt as _;
    let root = TempDir::new().unwrap();
    let before = filled(root.path());
    let (mut store, _) = open(root.path());
    let mut odd = workload(2, 9);
    odd.netns.path = std::ffi::OsString::from_vec(vec![b'/', 0xff]).into();
    let writes = [Write::RemoveNetwork(network(1).name), Write::PutWorkload(Box::new(odd))];
    let refused = api::Error::from(store.commit(&writes).unwrap_err());
    assert!(refused.message.starts_with("cannot write down app2/c9/eth0: "), "{}", refused.message);
    assert_eq!(store.load().unwrap(), before);
}
