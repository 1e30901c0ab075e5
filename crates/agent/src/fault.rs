//! Fault points: places at which a test lets the agent die as by `kill -9`.
//!
//! `WEFT_FAULT=attach:3` ends the process at the third point that an attach passes. Whoever can set
//! the agent's environment can end it anyway. Without the variable a point costs one comparison.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Armed {
    operation: String,
    at: usize,
    passed: AtomicUsize,
}

fn armed() -> Option<&'static Armed> {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    let read = || {
        let text = std::env::var("WEFT_FAULT").ok()?;
        let (operation, at) = text.split_once(':')?;
        Some(Armed { operation: operation.to_owned(), at: at.parse().ok()?, passed: AtomicUsize::new(0) })
    };
    ARMED.get_or_init(read).as_ref()
}

/// Whether a point of `operation` is armed, so that its changes are made one by one.
#[must_use]
pub(crate) fn watched(operation: &str) -> bool {
    armed().is_some_and(|a| a.operation == operation)
}

/// A point of an operation.
pub(crate) fn point(operation: &str) {
    if let Some(armed) = armed()
        && armed.operation == operation
        && armed.passed.fetch_add(1, Ordering::Relaxed) + 1 == armed.at
    {
        std::process::abort();
    }
}
