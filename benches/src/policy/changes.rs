//! What a change costs: from the store's event to the kernel, by the plan's index and nftables as the agent uses them.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::thread::{MembarrierCommand, membarrier};
use weft_dataplane::nft::{policy, ruleset};
use weft_kernel::netlink::{Family, Socket};
use weft_kernel::netns::Netns;
use weft_kernel::nft;
use weft_model::{Object, World};
use weft_plan::policy::{Numbering, PolicyPlan, Standing, Touched};
use weft_plan::{Plan, lay_out};

use crate::report::{Report, median, quantile};
use crate::world::{here, labels, let_in, local, policy, remote, world};

const WORKLOADS: usize = 1_000;
const LOCAL: usize = 100;
const ROUNDS: usize = 101;

/// A host's policy, followed into a real kernel.
struct Host {
    world: World,
    plan: Plan,
    standing: Standing,
    numbering: Numbering,
    socket: Socket,
}

/// What a change took: all of it, and the kernel's part; in milliseconds. `waited` for packets under way, where something is
/// both put in and taken out.
struct Took {
    all: f64,
    kernel: f64,
    waited: f64,
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

impl Host {
    /// Everything computed and loaded; with what that took.
    fn new(world: World) -> Result<(Host, [f64; 2], usize)> {
        let mut plan = lay_out(&world, &here()?);
        let (mut standing, mut numbering) = (Standing::default(), Numbering::default());
        let begin = Instant::now();
        standing.follow(&world, &here()?.name, Touched::everything(&world), &mut plan.policy, &mut numbering);
        let computed = ms(begin);
        let mut socket = Socket::open(Family::Netfilter)?;
        let tables = ruleset(&plan);
        let elements = tables.values().flat_map(|t| t.sets.values()).map(|s| s.elements.len()).sum();
        let found = nft::read(&mut socket, &weft_kernel::ours::tables())?;
        let begin = Instant::now();
        let diff = nft::diff(&tables, &found);
        for ops in [&diff.install, &diff.remove] {
            if !ops.is_empty() {
                nft::apply(&mut socket, ops)?;
            }
        }
        let loaded = ms(begin);
        Ok((Host { world, plan, standing, numbering, socket }, [computed, loaded], elements))
    }

    fn follow(&mut self, touched: Touched) -> Result<Took> {
        let begin = Instant::now();
        let Host { world, plan, standing, numbering, socket } = self;
        let difference = standing.follow(world, &here()?.name, touched, &mut plan.policy, numbering);
        let batches = policy::phases(policy::change(&difference, &plan.policy));
        let planned = ms(begin);
        let mut waited = 0.0;
        for (at, ops) in batches.iter().enumerate() {
            if at > 0 {
                let wait = Instant::now();
                membarrier(MembarrierCommand::Global).context("membarrier")?;
                waited += ms(wait);
            }
            nft::apply(socket, ops)?;
        }
        let all = ms(begin);
        Ok(Took { all: all - waited, kernel: all - waited - planned, waited })
    }

    fn policy(&mut self, object: Object) -> Result<Took> {
        let mut touched = Touched::default();
        touched.object(object.id());
        self.world.declared.insert(object);
        self.follow(touched)
    }

    fn relabel(&mut self, number: usize, app: usize) -> Result<Took> {
        let name = remote(number)?.0;
        let there = self.world.remote.get_mut(&name).context("a workload elsewhere")?;
        let was = there.clone();
        there.labels = Arc::new(labels(app)?);
        let mut touched = Touched::default();
        touched.remote(name, Some(was));
        self.follow(touched)
    }

    fn workload(&mut self, number: usize, there: bool) -> Result<Took> {
        let workload = local(number)?;
        let mut touched = Touched::default();
        touched.workload(workload.id.clone());
        if there {
            self.world.workloads.insert(workload.id.clone(), workload);
        } else {
            self.world.workloads.remove(&workload.id);
        }
        self.follow(touched)
    }

    /// What the kernel holds is what a fresh start would put there.
    fn verify(&mut self) -> Result<()> {
        let mut fresh = PolicyPlan::default();
        let everything = Touched::everything(&self.world);
        Standing::default().follow(
            &self.world,
            &here()?.name,
            everything,
            &mut fresh,
            &mut self.numbering.clone(),
        );
        ensure!(fresh == self.plan.policy, "what followed is not what a fresh start would make");
        let found = nft::read(&mut self.socket, &weft_kernel::ours::tables())?;
        let left = nft::diff(&ruleset(&self.plan), &found);
        ensure!(
            left.is_empty(),
            "the kernel holds something else: {} steps",
            left.install.len() + left.remove.len()
        );
        Ok(())
    }
}

pub(crate) fn run(report: &mut Report) -> Result<()> {
    report.line(&format!(
        "\n### One change\n\n{WORKLOADS} workloads, {LOCAL} of them here; every tenth policy has a block of addresses and a range of \
         ports. Milliseconds from the event to the kernel's answer, {ROUNDS} changes each: median and 99 of 100. *Wait* is for packets \
         that began under the rules of before, where something is both put in and taken out; what is new is in force before it.\n"
    ));
    report.line("| policies | everything, computed | loaded | elements | one policy p50 | p99 | one label p50 | p99 | a workload comes p50 | p99 | of it the kernel | wait |");
    report.line("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for count in [1, 100, 1_000, 10_000] {
        let netns = Netns::anonymous()?;
        netns.run(|| row(count, report))??;
    }
    let netns = Netns::anonymous()?;
    netns.run(|| crowd(report))??;
    Ok(())
}

fn row(count: usize, report: &mut Report) -> Result<()> {
    let (mut host, [computed, loaded], elements) = Host::new(world(WORKLOADS, LOCAL, count)?)?;
    let [mut policies, mut labels, mut comings] = [const { Vec::new() }; 3];
    let (mut kernel, mut waits) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Policies 1 to 99 and every thousandth behind select workloads that are here; every tenth has a block and a range.
        let number = 1 + round % count.min(99);
        let all = [
            host.policy(policy(number, u16::try_from(round % 7 + 1)?)?)?,
            // Elsewhere, in the first policy's namespace, it becomes one of those that the policy lets in.
            host.relabel(101 + round * 10 % 890, let_in(1)[round / 89 % 2])?,
            host.workload(round % 50, false)?,
            host.workload(round % 50, true)?,
        ];
        kernel.extend(all.iter().map(|took| took.kernel));
        waits.extend(all.iter().map(|took| took.waited).filter(|waited| *waited > 0.0));
        comings.push(all[3].all);
        labels.push(all[1].all);
        policies.push(all[0].all);
    }
    host.verify()?;
    let wait = if waits.is_empty() { 0.0 } else { median(&waits) };
    report.line(&format!(
        "| {count} | {computed:.1} | {loaded:.1} | {elements} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {wait:.1} |",
        median(&policies),
        quantile(&policies, 0.99),
        median(&labels),
        quantile(&labels, 0.99),
        median(&comings),
        quantile(&comings, 0.99),
        median(&kernel),
    ));
    if count == 10_000 {
        report.at_most(
            "one policy changes at 10,000: p99 in the kernel ≤ 10 ms",
            quantile(&policies, 0.99),
            10.0,
            " ms",
        );
        report.at_most(
            "one label changes at 10,000: p99 in the kernel ≤ 10 ms",
            quantile(&labels, 0.99),
            10.0,
            " ms",
        );
        report.at_most(
            "a workload comes at 10,000: p99 of policy's part ≤ 10 ms",
            quantile(&comings, 0.99),
            10.0,
            " ms",
        );
    }
    Ok(())
}

/// The worst of shapes: all policies select the same workloads.
fn crowd(report: &mut Report) -> Result<()> {
    const POLICIES: usize = 10_000;
    let everybody = |number: usize, extra: u16| -> Result<Object> {
        let mut object = policy(number, extra)?;
        if let Object::NetworkPolicy(policy) = &mut object {
            policy.spec.pod_selector = Default::default();
            policy.metadata.namespace = Some("n0".parse()?);
        }
        Ok(object)
    };
    let mut world = world(WORKLOADS, LOCAL, 0)?;
    for number in 1..=POLICIES {
        world.declared.insert(everybody(number, 0)?);
    }
    let (mut host, [computed, _], elements) = Host::new(world)?;
    let (mut policies, mut labels) = (Vec::new(), Vec::new());
    for round in 0..21 {
        policies.push(host.policy(everybody(1 + round, u16::try_from(round + 1)?)?)?.all);
        labels.push(host.relabel(100 + round * 10, round * 31 + 5)?.all);
    }
    host.verify()?;
    report.line(&format!(
        "\n10,000 policies that all select the same ten workloads ({elements} elements, computed in {computed:.0} ms): one policy \
         {:.1} ms, one label {:.1} ms (medians of 21).",
        median(&policies),
        median(&labels)
    ));
    Ok(())
}
