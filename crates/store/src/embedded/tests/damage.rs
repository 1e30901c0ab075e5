//! Damaged files: whatever is wrong with one, the store opens, says so, and works.

use std::path::PathBuf;

use super::*;

/// Copies of the two files, cleanly closed or as a killed agent leaves them, and what they hold.
struct Sample {
    declared: Vec<u8>,
    attachments: Vec<u8>,
    holds: Loaded,
}

fn sample(closed: bool) -> Sample {
    let root = TempDir::with_prefix_in("sample", memory()).unwrap();
    let holds = filled(root.path());
    let (store, _) = open(root.path());
    let store = (!closed).then_some(store);
    let declared = fs::read(paths(root.path()).state_dir.join(Declared::NAME)).unwrap();
    let attachments = fs::read(paths(root.path()).run_dir.join(Attachments::NAME)).unwrap();
    drop(store);
    Sample { declared, attachments, holds }
}

/// Opens a store with these files. Each is either as it was or set aside; then the store has to work.
fn opens(root: &Path, sample: &Sample, declared: &[u8], attachments: &[u8]) -> (bool, bool) {
    let paths = paths(root);
    fs::create_dir_all(&paths.state_dir).unwrap();
    fs::create_dir_all(&paths.run_dir).unwrap();
    fs::write(paths.state_dir.join(Declared::NAME), declared).unwrap();
    fs::write(paths.run_dir.join(Attachments::NAME), attachments).unwrap();
    let (mut store, opened) = open(root);
    let kept = |condition: &Condition| match condition {
        Condition::Kept => true,
        Condition::SetAside { to, why } => {
            assert!(to.exists() && !why.is_empty());
            false
        }
        other => panic!("neither kept nor set aside: {other:?}"),
    };
    let (declared, attachments) = (kept(&opened.declared), kept(&opened.attachments));
    let mut expected = Loaded::default();
    if declared {
        expected.networks = sample.holds.networks.clone();
        expected.next_network_id = sample.holds.next_network_id;
        expected.sysctls = sample.holds.sysctls.clone();
    }
    if attachments {
        expected.workloads = sample.holds.workloads.clone();
        expected.resting = sample.holds.resting.clone();
    }
    assert_eq!(store.load().unwrap(), expected, "contents are whole or set aside, never another state");
    store.put_workload(&workload(9, 9)).unwrap();
    expected.workloads.insert(workload(9, 9).id, workload(9, 9));
    assert_eq!(store.load().unwrap(), expected);
    (declared, attachments)
}

/// Every how many bytes a file is damaged; 1 tries them all (`WEFT_DAMAGE_STEP=1`, four minutes with --release).
fn step() -> usize {
    std::env::var("WEFT_DAMAGE_STEP").ok().and_then(|step| step.parse().ok()).unwrap_or(331)
}

/// The first pages hold the header: every byte of that is tried always.
fn places(length: usize) -> impl Iterator<Item = usize> {
    (0..length.min(320)).chain((320..length).step_by(step()))
}

#[test]
fn files_cut_short_anywhere() {
    for closed in [true, false] {
        let sample = sample(closed);
        let root = TempDir::with_prefix_in("cut", memory()).unwrap();
        let (mut cases, mut set_aside) = (0, 0);
        for length in places(sample.declared.len().max(sample.attachments.len())) {
            let cut = |bytes: &'_ Vec<u8>| bytes[..length.min(bytes.len())].to_vec();
            let kept = opens(root.path(), &sample, &cut(&sample.declared), &cut(&sample.attachments));
            cases += 1;
            set_aside += usize::from(!kept.0) + usize::from(!kept.1);
        }
        println!("closed {closed}: {cases} lengths, {set_aside} files set aside");
        assert!(set_aside > cases, "cut files were damaged files");
    }
}

#[test]
fn files_with_wrong_bytes_anywhere() {
    for closed in [true, false] {
        let sample = sample(closed);
        let root = TempDir::with_prefix_in("flip", memory()).unwrap();
        let (mut cases, mut set_aside) = (0, 0);
        for at in places(sample.declared.len().min(sample.attachments.len())) {
            for wrong in [0xff, 0x10] {
                // The god byte's lowest bit says which of two commits is the current one. In a file that
                // was not closed, flipping it is a valid older state: no checksum can tell.
                if at == 9 && wrong & 1 == 1 && !closed {
                    continue;
                }
                let flip = |bytes: &Vec<u8>| {
                    let mut bytes = bytes.clone();
                    bytes[at] ^= wrong;
                    bytes
                };
                let kept = opens(root.path(), &sample, &flip(&sample.declared), &flip(&sample.attachments));
                cases += 1;
                set_aside += usize::from(!kept.0) + usize::from(!kept.1);
            }
        }
        println!("closed {closed}: {cases} wrong bytes, {set_aside} files set aside");
        assert!(set_aside > 100, "some wrong bytes mattered");
    }
}

proptest::proptest! {
    #[test]
    fn files_damaged_at_random(damage in proptest::collection::vec((0..1usize << 17, 0..5_000usize, 0..=255u8), 1..6)) {
        thread_local!(static SAMPLE: Sample = sample(true));
        let root = TempDir::with_prefix_in("random", memory()).unwrap();
        SAMPLE.with(|sample| {
            let mut files = [sample.declared.clone(), sample.attachments.clone()];
            for (at, length, wrong) in damage {
                let file = &mut files[usize::from(wrong) % 2];
                let at = at % file.len();
                let end = (at + length).min(file.len());
                file[at..end].iter_mut().for_each(|byte| *byte = byte.wrapping_mul(3).wrapping_add(wrong));
            }
            opens(root.path(), sample, &files[0], &files[1]);
        });
    }

    #[test]
    fn files_that_were_never_ours(bytes in proptest::collection::vec(0..=255u8, 0..9_000)) {
        thread_local!(static SAMPLE: Sample = sample(true));
        let root = TempDir::with_prefix_in("foreign", memory()).unwrap();
        let kept = SAMPLE.with(|sample| opens(root.path(), sample, &bytes, &bytes));
        proptest::prop_assert_eq!(kept, (false, false));
    }
}

#[test]
fn an_empty_file_has_lost_its_contents() {
    let root = TempDir::new().unwrap();
    let sample = sample(true);
    assert_eq!(opens(root.path(), &sample, b"", b""), (false, false));
}

fn damaged(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(paths(root).state_dir).unwrap();
    let mut found: Vec<_> =
        entries.map(|e| e.unwrap().path()).filter(|p| !p.ends_with(Declared::NAME)).collect();
    found.sort();
    found
}

#[test]
fn the_latest_three_damaged_files_are_kept() {
    let root = TempDir::new().unwrap();
    let sample = sample(true);
    for n in 1..=12u8 {
        opens(root.path(), &sample, &[n; 100], &sample.attachments);
    }
    let kept: Vec<u8> = damaged(root.path()).iter().map(|path| fs::read(path).unwrap()[0]).collect();
    assert_eq!(kept, [10, 11, 12]);
}

#[test]
fn a_file_that_ends_the_process_three_times_is_set_aside() {
    let root = TempDir::new().unwrap();
    let before = filled(root.path());
    let mark = paths(root.path()).state_dir.join("declared.redb.opening");
    for attempts in ["1", "2"] {
        fs::write(&mark, attempts).unwrap();
        let (mut store, opened) = open(root.path());
        assert_eq!(opened.declared, Condition::Kept);
        assert_eq!(store.load().unwrap(), before);
        assert!(!mark.exists(), "an attempt that ends well ends the count");
    }
    fs::write(&mark, "3").unwrap();
    let (_, opened) = open(root.path());
    assert!(matches!(opened.declared, Condition::SetAside { .. }), "{opened:?}");
    assert!(!mark.exists());
}
