//! Measures what commits and opening cost: `cargo run --release -p weft-store --example commit_cost [DIR…]`.
//!
//! Never asserts anything: the machine decides.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use weft_store::laws::workload;
use weft_store::{Embedded, Paths, Store as _};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let mut directories: Vec<String> = std::env::args().skip(1).collect();
    if directories.is_empty() {
        directories = vec!["/dev/shm".into(), "/var/tmp".into()];
    }
    directories.iter().try_for_each(|directory| measure(Path::new(directory)))
}

fn measure(directory: &Path) -> Outcome {
    let mut out = std::io::stdout();
    let root = directory.join(format!("weft-commit-cost-{}", std::process::id()));
    let paths = Paths { state_dir: root.join("lib"), run_dir: root.join("run") };
    let (mut store, _) = Embedded::open(&paths, "boot")?;
    let before = resident_kib();
    let mut times = Vec::new();
    // As the agent does: pending, ready, removed; about 1,000 workloads stay.
    for n in 0..2_000u32 {
        let mut w = workload(1, u8::try_from(n % 250)?);
        w.id.container = format!("{n:064x}").parse()?;
        w.netns.path = format!("/run/netns/cni-{n:032x}").into();
        times.push(timed(|| store.put_workload(&w))?);
        times.push(timed(|| store.put_workload(&w))?);
        if n % 2 == 1 {
            times.push(timed(|| store.remove_workload(&w.id, &[], n.into()))?);
        }
    }
    let after = resident_kib();
    let size = std::fs::metadata(paths.run_dir.join("attachments.redb"))?.len() / 1024;
    drop(store);
    let begin = Instant::now();
    let (mut store, _) = Embedded::open(&paths, "boot")?;
    let opened = begin.elapsed();
    let begin = Instant::now();
    let loaded = store.load()?.workloads.len();
    let read = begin.elapsed();
    times.sort_unstable();
    let at = |percent: usize| times[times.len() * percent / 100];
    writeln!(
        out,
        "{}: {} commits: p50 {:?}, p99 {:?}; {loaded} workloads: file {size} KiB, opened in {opened:?}, loaded in \
         {read:?}; resident {before} → {after} KiB",
        directory.display(),
        times.len(),
        at(50),
        at(99),
    )?;
    std::fs::remove_dir_all(root)?;
    Ok(())
}

fn timed<E>(work: impl FnOnce() -> Result<(), E>) -> Result<Duration, E> {
    let begin = Instant::now();
    work().map(|()| begin.elapsed())
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
