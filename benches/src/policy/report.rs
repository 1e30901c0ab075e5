//! Figures and gates, as tables.

use std::fmt::Write as _;

/// What was measured, as it goes into the document.
#[derive(Debug, Default)]
pub(crate) struct Report {
    text: String,
    gates: Vec<(String, String, bool)>,
}

impl Report {
    pub(crate) fn line(&mut self, line: &str) {
        println!("{line}");
        writeln!(self.text, "{line}").expect("a string can be written to");
    }

    /// A promise about a figure.
    pub(crate) fn at_most(&mut self, promise: &str, figure: f64, bound: f64, unit: &str) {
        self.gates.push((promise.to_owned(), format!("{figure:.3}{unit}"), figure <= bound));
    }

    /// Writes the gates down; whether all are passed.
    pub(crate) fn finish(&mut self) -> bool {
        let gates = std::mem::take(&mut self.gates);
        self.line("\n| | promise | measured |\n|---|---|--:|");
        for (promise, measured, passed) in &gates {
            self.line(&format!("| {} | {promise} | {measured} |", if *passed { '✓' } else { '✗' }));
        }
        gates.iter().all(|(_, _, passed)| *passed)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// The figure at a share of the way from the least to the most.
pub(crate) fn quantile(all: &[f64], share: f64) -> f64 {
    let mut sorted = all.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = (share * sorted.len() as f64) as usize;
    sorted[at.min(sorted.len() - 1)]
}

pub(crate) fn median(all: &[f64]) -> f64 {
    quantile(all, 0.5)
}
