//! Failures as people and scripts meet them: one line, a hint, an exit code.

use std::fmt;

use serde_json::{Value, json};

/// It failed, or (`weft diff`) there is something to tell.
pub(crate) const FAILED: u8 = 1;
/// The command line makes no sense.
pub(crate) const USAGE: u8 = 2;
/// The agent cannot be reached.
pub(crate) const AGENT_AWAY: u8 = 3;

/// A failure with what to do about it; a link in an `anyhow` chain.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), hint: None, code: FAILED }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn code(mut self, code: u8) -> Failure {
        self.code = code;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The exit code of a failure.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    error.downcast_ref::<Failure>().map_or(FAILED, |f| f.code)
}

/// `weft: what failed: why: why`, and the hint on a line of its own.
pub(crate) fn text(error: &anyhow::Error) -> String {
    let hint = error.downcast_ref::<Failure>().and_then(|f| f.hint.as_deref());
    let hint = hint.map(|h| format!("hint: {h}\n")).unwrap_or_default();
    format!("weft: {error:#}\n{hint}")
}

/// The same for programs.
pub(crate) fn document(error: &anyhow::Error) -> Value {
    let hint = error.downcast_ref::<Failure>().and_then(|f| f.hint.as_deref());
    json!({ "api": 1, "error": { "message": format!("{error:#}"), "hint": hint, "code": code(error) } })
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn the_chain_is_one_line_and_the_hint_another() {
        let refused = Failure::new("the kernel refused").hint("load the module").code(AGENT_AWAY);
        let error = anyhow::Result::<()>::Err(refused.into()).context("failed to attach").unwrap_err();
        assert_eq!(text(&error), "weft: failed to attach: the kernel refused\nhint: load the module\n");
        assert_eq!(code(&error), AGENT_AWAY);
        assert_eq!(document(&error)["error"]["hint"], "load the module");
    }

    #[test]
    fn without_a_hint_there_is_no_empty_line() {
        assert_eq!(text(&anyhow::anyhow!("no")), "weft: no\n");
        assert_eq!(code(&anyhow::anyhow!("no")), FAILED);
    }
}
