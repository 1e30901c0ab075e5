//! Findings as text.

use weft_agent::doctor::{Finding, Severity};

use crate::output::{Output, Tone};

/// What, why, and how to mend it; the count last.
pub(crate) fn findings(output: Output, findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let (word, tone) = match finding.severity {
            Severity::Error => ("error", Tone::Bad),
            Severity::Warning => ("warning", Tone::Bad),
            Severity::Note => ("note", Tone::Heading),
        };
        let head = output.tone(tone, word);
        text += &format!("{head}: {}\n  why: {}\n", finding.what, finding.why);
        for line in &finding.fix {
            text += &format!("  fix: {line}\n");
        }
        text.push('\n');
    }
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let counts = [
        (count(Severity::Error), "error"),
        (count(Severity::Warning), "warning"),
        (count(Severity::Note), "note"),
    ];
    let words: Vec<String> = counts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}{}", if *n == 1 { "" } else { "s" }))
        .collect();
    match words.as_slice() {
        [] => text += &format!("{}\n", output.tone(Tone::Good, "nothing found")),
        _ => text += &format!("{}\n", words.join(", ")),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_told_with_reason_and_remedy() {
        let finding = Finding {
            severity: Severity::Error,
            kind: "x",
            what: "it rains".into(),
            why: "you get wet".into(),
            fix: vec!["umbrella open".into()],
        };
        let note = Finding { severity: Severity::Note, fix: Vec::new(), ..finding.clone() };
        let text = findings(Output::new(false), &[finding, note]);
        let told = "it rains\n  why: you get wet\n";
        assert_eq!(text, format!("error: {told}  fix: umbrella open\n\nnote: {told}\n1 error, 1 note\n"));
        assert_eq!(findings(Output::new(false), &[]), "nothing found\n");
    }
}
