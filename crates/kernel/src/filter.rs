//! Filters of system calls (seccomp(2)): a thread gives up calls for itself and for all that it becomes.

use std::io;

/// One instruction of a filter: `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip if a test holds.
    pub jump_true: u8,
    /// How many if it does not.
    pub jump_false: u8,
    /// The number that belongs to it.
    pub value: u32,
}

#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// Puts a filter in force for the calling thread; it cannot be taken away again.
///
/// # Errors
/// The kernel's: `EACCES` without `CAP_SYS_ADMIN` unless new privileges have been given up, `EINVAL` for a filter
/// that it does not accept.
pub fn install(instructions: &[Instruction]) -> io::Result<()> {
    let length = u16::try_from(instructions.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = Program { length, instructions: instructions.as_ptr() };
    // SAFETY: the kernel copies `length` instructions, which live through the call; its checks decide whether they
    // are a filter. Calls that are refused afterwards fail as any call may.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_makes_no_sense_is_refused() {
        rustix::thread::set_no_new_privs(true).unwrap();
        assert_eq!(install(&[]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        let endless = Instruction { code: 0, jump_true: 0, jump_false: 0, value: 0 };
        assert_eq!(install(&[endless]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
