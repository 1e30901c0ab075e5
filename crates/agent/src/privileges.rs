//! What the agent may do, and no more (BAR.md, security row 28): it gives up every other privilege before it does
//! anything else, however it was started. A hole in it, or in a kernel interface that it reaches, is worth less then.
//!
//! `weft install` writes the same list into the unit. Whoever adds a line here adds what fails without it to
//! `tests/tests/privileges.rs`.

use rustix::io;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// A capability that the agent keeps.
#[derive(Clone, Copy, Debug)]
pub struct Privilege {
    /// Its name.
    pub name: &'static str,
    /// What for.
    pub reason: &'static str,
    flag: CapabilitySet,
}

/// All of them.
pub const NEEDED: [Privilege; 4] = [
    Privilege {
        name: "CAP_NET_ADMIN",
        reason: "links, addresses, routes, neighbours, queues, nftables, /proc/sys/net",
        flag: CapabilitySet::NET_ADMIN,
    },
    Privilege {
        name: "CAP_SYS_ADMIN",
        reason: "enter the workloads' network namespaces (setns), load the programs of the loopback (bpf)",
        flag: CapabilitySet::SYS_ADMIN,
    },
    Privilege {
        name: "CAP_SYS_PTRACE",
        reason: "open /proc/PID/ns/net of processes that have privileges which the agent has not",
        flag: CapabilitySet::SYS_PTRACE,
    },
    Privilege {
        name: "CAP_DAC_READ_SEARCH",
        reason: "reach namespaces below other users' folders (/run/user/UID/netns)",
        flag: CapabilitySet::DAC_READ_SEARCH,
    },
];

/// Gives up what is not needed, for good: of the calling thread, and of those that it starts from here on.
///
/// # Errors
/// When the kernel refuses; what was given up until then stays so.
pub(crate) fn give_up() -> io::Result<()> {
    let kept = NEEDED.iter().fold(CapabilitySet::empty(), |all, privilege| all | privilege.flag);
    set_no_new_privs(true)?;
    clear_ambient_capability_set()?;
    // First, for it takes CAP_SETPCAP. Under systemd both are gone already.
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        // Refused: beyond the last that the kernel knows, or nothing is left to give up with.
        if !kept.contains(capability) && remove_capability_from_bounding_set(capability).is_err() {
            break;
        }
    }
    let has = capabilities(None)?;
    let fewer = has.permitted & kept;
    set_capabilities(
        None,
        CapabilitySets { effective: fewer, permitted: fewer, inheritable: CapabilitySet::empty() },
    )
}
