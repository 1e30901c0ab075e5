//! The only place that writes to standard output and standard error.

use std::io::{self, ErrorKind, IsTerminal, Write};

use anyhow::Context;
use serde_json::{Map, Value};

/// How this run speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// JSON documents instead of text.
    pub(crate) json: bool,
    colour: bool,
}

/// What a word means, for those who see colours. The words say it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// A heading.
    Heading,
    /// All is well.
    Good,
    /// Something is wrong.
    Bad,
}

impl Output {
    pub(crate) fn new(json: bool) -> Output {
        // https://no-color.org: set and not empty.
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Output { json, colour: !json && !unwanted && io::stdout().is_terminal() }
    }

    /// Writes the text, or with `--json` the document: an object, to which `"api": 1` is added.
    pub(crate) fn show(
        &self,
        document: impl FnOnce() -> anyhow::Result<Map<String, Value>>,
        text: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        if !self.json {
            return write(&text());
        }
        let mut document = document()?;
        document.insert("api".to_owned(), 1.into());
        let mut text = serde_json::to_string_pretty(&document).context("failed to write JSON")?;
        text.push('\n');
        write(&text)
    }

    /// A remark beside the result; it does not disturb whoever reads the result by program.
    pub(crate) fn remark(&self, text: &str) {
        complain(&format!("{text}\n"));
    }

    /// Colours a word, on a terminal.
    pub(crate) fn tone(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Heading => "1",
            Tone::Good => "32",
            Tone::Bad => "31",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Writes to standard output. A reader that has gone (`weft status | head -1`) has seen what it
/// wanted: the run ends there, quietly and with success.
pub(crate) fn write(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.context("failed to write to standard output"),
    }
}

/// Writes to standard error; if even that fails nobody is left to be told.
pub(crate) fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// One entry of a JSON document.
pub(crate) fn entry(key: &str, value: impl serde::Serialize) -> anyhow::Result<Map<String, Value>> {
    let value = serde_json::to_value(value).context("failed to write JSON")?;
    Ok(Map::from_iter([(key.to_owned(), value)]))
}
