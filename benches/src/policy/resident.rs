//! What an agent holds of 10,000 policies and 100,000 workloads: a process of its own with all that the engine keeps of them.

use anyhow::{Context, Result};
use weft_dataplane::nft::ruleset;
use weft_kernel::State;
use weft_plan::lay_out;
use weft_plan::policy::{Numbering, Standing, Touched};

use crate::report::Report;
use crate::world::{here, world};

const WORKLOADS: usize = 100_000;
const LOCAL: usize = 100;
const POLICIES: usize = 10_000;

/// In the process of its own: prints what it holds, in KiB: now, and at the most.
pub(crate) fn hold() -> Result<()> {
    weft_kernel::memory::share_one_heap();
    let world = world(WORKLOADS, LOCAL, POLICIES)?;
    let mut plan = lay_out(&world, &here()?);
    let (mut standing, mut numbering) = (Standing::default(), Numbering::default());
    standing.follow(&world, &here()?.name, Touched::everything(&world), &mut plan.policy, &mut numbering);
    // As at a start: all that is wanted is rendered and compared with what there is.
    let rendered = ruleset(&plan);
    let steps = weft_kernel::nft::diff(&rendered, &State::default().tables);
    drop((rendered, steps));
    weft_kernel::memory::give_back();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let of =
        |key: &str| status.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default().trim().to_owned();
    println!("{} {}", of("VmRSS:").trim_end_matches(" kB"), of("VmHWM:").trim_end_matches(" kB"));
    drop((world, plan, standing, numbering));
    Ok(())
}

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let output = std::process::Command::new(std::env::current_exe()?).arg("hold").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut figures = text.split_whitespace().map(|f| f.parse::<f64>().unwrap_or(0.0) * 1024.0 / 1e6);
    let (now, most) = figures.next().zip(figures.next()).context("the process said nothing")?;
    report.line(&format!(
        "\n{POLICIES} policies and {WORKLOADS} workloads of the cluster, {LOCAL} of them here, as the agent's world, index and plan hold \
         them (no agent: what a store would have told it is made up): {now:.0} MB resident, {most:.0} MB at the most, while all of it \
         was rendered."
    ));
    report.at_most("resident with 10,000 policies and 100,000 workloads ≤ 200 MB", now, 200.0, " MB");
    Ok(())
}
