//! Which devices a cgroup (v2) may use: a small BPF program of the kind `BPF_PROG_TYPE_CGROUP_DEVICE`.
//!
//! There is no file for it in v2 (Documentation/admin-guide/cgroup-v2.rst, "Device controller").

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What may be done with a device: bits of `BPF_DEVCG_ACC_…` (linux/bpf.h).
pub mod access {
    /// Make its node.
    pub const MKNOD: u32 = 1;
    /// Read from it.
    pub const READ: u32 = 2;
    /// Write to it.
    pub const WRITE: u32 = 4;
    /// All of these.
    pub const ALL: u32 = 7;
}

/// The kind of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A block device.
    Block,
    /// A character device.
    Character,
}

/// One permission; what no rule permits is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which kind.
    pub kind: Kind,
    /// The driver's number; `None` is any.
    pub major: Option<u32>,
    /// The device's number; `None` is any.
    pub minor: Option<u32>,
    /// Bits of [`access`].
    pub access: u32,
}

impl Rule {
    /// The line of `devices.allow` (cgroup v1) that says the same.
    #[must_use]
    pub fn line(&self) -> String {
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let kind = if self.kind == Kind::Block { 'b' } else { 'c' };
        let letters = [(access::READ, 'r'), (access::WRITE, 'w'), (access::MKNOD, 'm')];
        let access: String =
            letters.iter().filter(|(bit, _)| self.access & bit != 0).map(|(_, letter)| *letter).collect();
        format!("{kind} {}:{} {access}", number(self.major), number(self.minor))
    }
}

/// One instruction, as of linux/bpf.h `struct bpf_insn`.
fn instruction(code: u8, to: u8, from: u8, offset: i16, value: u32) -> u64 {
    u64::from(code)
        | u64::from(to) << 8
        | u64::from(from) << 12
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(value) << 32
}

const LOAD_32: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const SET: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const AND: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x77; // BPF_ALU64 | BPF_RSH | BPF_K
const UNLESS: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const UNLESS_REGISTER: u8 = 0x5d; // BPF_JMP | BPF_JNE | BPF_X
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

/// The program. Its argument, in register 1, is `struct bpf_cgroup_dev_ctx`: access << 16 | kind, major, minor.
fn program(rules: &[Rule]) -> Vec<u64> {
    let mut all = vec![
        instruction(LOAD_32, 2, 1, 0, 0),
        instruction(MOVE, 3, 2, 0, 0),
        instruction(AND, 2, 0, 0, 0xffff),     // 2: kind
        instruction(SHIFT_RIGHT, 3, 0, 0, 16), // 3: access
        instruction(LOAD_32, 4, 1, 4, 0),      // 4: major
        instruction(LOAD_32, 5, 1, 8, 0),      // 5: minor
    ];
    for rule in rules {
        // Each test skips what is left of its rule: the tests behind it and the two instructions that permit.
        let kind = if rule.kind == Kind::Block { 1 } else { 2 };
        let mut tests = vec![(UNLESS, 2, 0, kind)];
        let mut before = Vec::new();
        if rule.access != access::ALL {
            before = vec![instruction(MOVE, 0, 3, 0, 0), instruction(AND, 0, 0, 0, rule.access)];
            tests.insert(0, (UNLESS_REGISTER, 0, 3, 0));
        }
        tests.extend(rule.major.map(|major| (UNLESS, 4, 0, major)));
        tests.extend(rule.minor.map(|minor| (UNLESS, 5, 0, minor)));
        all.extend(before);
        for (n, (code, to, from, value)) in tests.iter().enumerate() {
            let skip = i16::try_from(tests.len() - n + 1).expect("at most four tests");
            all.push(instruction(*code, *to, *from, skip, *value));
        }
        all.extend([instruction(SET, 0, 0, 0, 1), instruction(EXIT, 0, 0, 0, 0)]);
    }
    all.extend([instruction(SET, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    all
}

/// Attributes of `BPF_PROG_LOAD`, as far as they are needed.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// Attributes of `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Restricts the cgroup (v2) whose folder is `cgroup` to `rules`. The program goes when the cgroup does.
///
/// # Errors
/// The kernel's: `CAP_BPF` or `CAP_SYS_ADMIN` is needed, and `CONFIG_CGROUP_BPF`.
pub fn restrict(cgroup: BorrowedFd<'_>, rules: &[Rule]) -> io::Result<()> {
    let loaded = load(&program(rules))?;
    let number = |fd: i32| fd.cast_unsigned();
    let attach = Attach {
        target: number(cgroup.as_raw_fd()),
        program: number(loaded.as_raw_fd()),
        kind: 6,  // BPF_CGROUP_DEVICE
        flags: 2, // BPF_F_ALLOW_MULTI: those of the cgroups above stay in force
    };
    bpf(8, &attach).map(|_| ()) // BPF_PROG_ATTACH
}

fn load(program: &[u64]) -> io::Result<OwnedFd> {
    let load = Load {
        kind: 15, // BPF_PROG_TYPE_CGROUP_DEVICE
        count: u32::try_from(program.len()).expect("some hundred at most"),
        instructions: program.as_ptr() as u64,
        licence: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"weft_devices\0\0\0\0",
    };
    let fd = bpf(5, &load)?; // BPF_PROG_LOAD
    // SAFETY: the kernel has just made it and nobody else owns it. It is closed on exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<i32> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of `attributes`, and what they point to lives through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    i32::try_from(result).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NULL: Rule = Rule { kind: Kind::Character, major: Some(1), minor: Some(3), access: access::ALL };
    const ANY_NODE: Rule = Rule { kind: Kind::Block, major: None, minor: None, access: access::MKNOD };

    /// What the program answers, by an interpreter of the few instructions it consists of.
    fn answer(rules: &[Rule], kind: u64, access: u64, major: u64, minor: u64) -> u64 {
        let program = program(rules);
        let mut registers = [0_u64; 11];
        let mut at = 0_usize;
        loop {
            let word = program[at];
            let byte = |shift: u32| usize::try_from(word >> shift & 0xf).unwrap();
            let (to, from, value) = (byte(8), byte(12), word >> 32);
            let offset = u16::try_from(word >> 16 & 0xffff).unwrap();
            at += 1;
            let code = u8::try_from(word & 0xff).unwrap();
            match code {
                LOAD_32 => registers[to] = [access << 16 | kind, major, minor][usize::from(offset) / 4],
                MOVE => registers[to] = registers[from],
                SET => registers[to] = value,
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                UNLESS if registers[to] != value => at += usize::from(offset),
                UNLESS_REGISTER if registers[to] != registers[from] => at += usize::from(offset),
                UNLESS | UNLESS_REGISTER => {}
                EXIT => return registers[0],
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn what_a_rule_permits_is_permitted_and_nothing_else() {
        let rules = [ANY_NODE, NULL];
        assert_eq!(answer(&rules, 2, 7, 1, 3), 1, "/dev/null");
        assert_eq!(answer(&rules, 2, 2, 1, 3), 1, "reading from /dev/null");
        assert_eq!(answer(&rules, 2, 2, 1, 4), 0, "another minor number");
        assert_eq!(answer(&rules, 2, 2, 2, 3), 0, "another major number");
        assert_eq!(answer(&rules, 1, 2, 1, 3), 0, "the block device of the same numbers");
        assert_eq!(answer(&rules, 1, 1, 8, 0), 1, "making the node of a disk");
        assert_eq!(answer(&rules, 1, 3, 8, 0), 0, "making and reading it");
        assert_eq!(answer(&[], 2, 2, 1, 3), 0, "no rule");
    }

    #[test]
    fn the_kernel_takes_the_program() {
        load(&program(&[ANY_NODE, NULL])).unwrap();
        load(&program(&[])).unwrap();
    }

    #[test]
    fn the_line_is_that_of_v1() {
        assert_eq!((NULL.line().as_str(), ANY_NODE.line().as_str()), ("c 1:3 rwm", "b *:* m"));
    }
}
