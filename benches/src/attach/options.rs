//! The command line.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

pub(crate) const HELP: &str = "\
bench-attach: what attaching and detaching a workload costs (as root; the machine's network is not touched)

  --rounds N         turns of each contestant (default 100)
  --storm N          attachments of a contestant in each storm (default 200)
  --pairs-seconds S  how long 16 callers attach and detach (default 60)
  --workloads N      how many a full host has (default 1000)
  --flows N          first packets through a published port (default 4000)
  --ports N          how many a host with many publishes (default 1000)
  --only PHASES      of rounds, storm, ports, pairs, scale, between commas (default all)
  --gate             exit with 1 if a gate is not passed
  --write FILE       replace the section between the markers in this document
  --weft PATH        the program with the agent (default: `weft` in $WEFT_BIN, or beside this program)
  --plugin PATH      weft's CNI plugin, as released: static (default: `weft-cni`, likewise)
  --floor PATH       the floor, built static too (default: `floor` beside this program)";

/// A part of the measurement that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Contestants in turn.
    Rounds,
    /// Eight callers at once.
    Storm,
    /// First packets through published ports.
    Ports,
    /// Attach and detach without a pause.
    Pairs,
    /// An empty host and a full one; the agent's start.
    Scale,
}

const PHASES: [(&str, Phase); 5] = [
    ("rounds", Phase::Rounds),
    ("storm", Phase::Storm),
    ("ports", Phase::Ports),
    ("pairs", Phase::Pairs),
    ("scale", Phase::Scale),
];

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) storm: usize,
    pub(crate) pairs_seconds: u64,
    pub(crate) workloads: usize,
    pub(crate) flows: usize,
    pub(crate) ports: usize,
    pub(crate) gate: bool,
    pub(crate) write: Option<PathBuf>,
    pub(crate) weft: PathBuf,
    pub(crate) plugin: PathBuf,
    pub(crate) floor: PathBuf,
    phases: Vec<Phase>,
}

impl Options {
    /// Reads the command line; `None` if help is wanted.
    ///
    /// # Errors
    /// What is not understood.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>> {
        let here = std::env::current_exe()?;
        let beside = |name: &str| here.with_file_name(name);
        let built = std::env::var_os("WEFT_BIN").map(PathBuf::from);
        let released = |name: &str| built.as_ref().map_or_else(|| beside(name), |folder| folder.join(name));
        let mut options = Options {
            rounds: 100,
            storm: 200,
            pairs_seconds: 60,
            workloads: 1000,
            flows: 4000,
            ports: 1000,
            gate: false,
            write: None,
            weft: released("weft"),
            plugin: released("weft-cni"),
            floor: beside("floor"),
            phases: PHASES.map(|(_, phase)| phase).to_vec(),
        };
        while let Some(key) = args.next() {
            if matches!(key.as_str(), "-h" | "--help") {
                return Ok(None);
            }
            if key == "--gate" {
                options.gate = true;
                continue;
            }
            let value =
                args.next().with_context(|| format!("{key}: is no option, or its value is missing"))?;
            let number = || value.parse::<u64>().with_context(|| format!("{key}: '{value}' is no number"));
            let count = || number().map(|n| usize::try_from(n).unwrap_or(usize::MAX).max(1));
            match key.as_str() {
                "--rounds" => options.rounds = count()?,
                "--storm" => options.storm = count()?,
                "--pairs-seconds" => options.pairs_seconds = number()?,
                "--workloads" => options.workloads = count()?,
                "--flows" => options.flows = count()?,
                "--ports" => options.ports = count()?,
                "--only" => options.phases = phases(&value)?,
                // Taken before the process changes its mounts, so that they mean what the caller sees.
                "--write" => options.write = Some(std::path::absolute(value)?),
                "--weft" => options.weft = std::path::absolute(value)?,
                "--plugin" => options.plugin = std::path::absolute(value)?,
                "--floor" => options.floor = std::path::absolute(value)?,
                _ => bail!("there is no option {key}"),
            }
        }
        for program in [&options.weft, &options.plugin, &options.floor] {
            if !program.is_file() {
                bail!("there is no program {}; `make bench-attach` builds it", program.display());
            }
        }
        Ok(Some(options))
    }

    pub(crate) fn wants(&self, phase: Phase) -> bool {
        self.phases.contains(&phase)
    }
}

fn phases(text: &str) -> Result<Vec<Phase>> {
    let one = |word: &str| {
        let found = PHASES.iter().find(|(name, _)| *name == word).map(|(_, phase)| *phase);
        found.with_context(|| format!("there is no phase '{word}'"))
    };
    text.split(',').map(one).collect()
}
