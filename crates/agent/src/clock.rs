//! The clock that stops for nothing but a reboot, and the name of the present boot.

use rustix::time::{ClockId, clock_gettime};

/// Seconds since this host was started, time asleep included; never goes back.
#[must_use]
pub(crate) fn now() -> u64 {
    u64::try_from(clock_gettime(ClockId::Boottime).tv_sec).unwrap_or(0)
}

/// What the kernel calls the present boot; empty where it does not say.
#[must_use]
pub(crate) fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// Milliseconds since 1970, for people; it may go back.
#[must_use]
pub(crate) fn unix_millis() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}
