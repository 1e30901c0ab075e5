//! Whether somebody keeps this machine's clock right.

/// Asks the kernel whether a program such as chrony or systemd-timesyncd disciplines the clock (adjtimex(2)).
/// `None` where it cannot be asked.
#[must_use]
pub fn is_kept() -> Option<bool> {
    // SAFETY: timex is plain data for which all zeroes is a valid value; with `modes` 0 the call only reads the
    // clock's state into it.
    let state = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        libc::adjtimex(&raw mut timex)
    };
    match state {
        libc::TIME_ERROR => Some(false),
        state if state >= 0 => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_answers() {
        assert!(super::is_kept().is_some());
    }
}
