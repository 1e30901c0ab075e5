//! The C library's allocator, set up for a daemon that works in bursts and then waits for hours.
//!
//! Left alone, glibc gives each of the first threads (eight per CPU) a heap of its own, none of which gives back
//! what it once grew to while anything at its end is in use; so a process grows with its bursts and not with
//! what it holds. weft serialises its work by one lock, so one heap costs it nothing (mallopt(3), malloc_trim(3)).

/// Chooses one heap for all threads. To be called before the first thread is started.
pub fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two numbers and no pointer; it may be called at any time.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        // Set by hand, so that one large list does not raise it for good (mallopt(3), M_MMAP_THRESHOLD).
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 256 << 10);
    }
}

/// Gives pages that hold nothing back to the kernel, wherever in the heap they lie. Takes a millisecond for
/// some ten megabytes; the next use of such a page costs a fault.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes a number and touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}
