//! The queue that limits a wire.

/// A token bucket, in the kernel's units, so that what is read equals what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes per second.
    pub rate: u64,
    /// The time that a burst stands for, in ticks of 64 ns; at most 4.29 s (net/sched/sch_tbf.c keeps
    /// nanoseconds in 32 bits).
    pub burst: u32,
    /// What may wait, in bytes.
    pub limit: u32,
}

/// Nanoseconds of a tick: include/net/pkt_sched.h, PSCHED_SHIFT.
const TICK: u128 = 64;
const SECOND: u128 = 1_000_000_000;

impl Shape {
    /// A token bucket of so many bytes per second, a burst in bytes, and so many bytes that may wait.
    #[must_use]
    pub fn new(rate: u64, burst: u64, limit: u64) -> Shape {
        let nanoseconds = (u128::from(burst) * SECOND).div_ceil(u128::from(rate.max(1)));
        let ticks = nanoseconds.div_ceil(TICK).min(u128::from(u32::MAX) / TICK);
        let short = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Shape { rate, burst: u32::try_from(ticks).unwrap_or(u32::MAX), limit: short(limit) }
    }

    /// The burst in bytes.
    #[must_use]
    pub fn burst_bytes(&self) -> u64 {
        let bytes = u128::from(self.burst) * TICK * u128::from(self.rate) / SECOND;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}
