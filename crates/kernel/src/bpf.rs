//! BPF: a small assembler, and bpf(2) for loading, attaching and pinning what it makes (linux/bpf.h).
//!
//! For programs of a few dozen instructions. They are written out here instruction by instruction, so that weft
//! needs no compiler for them and carries no object file.

mod assembler;
mod map;
mod program;
mod syscall;

pub use assembler::{Assembler, Helper, Label, Register, Width};
pub use map::{Map, MapKind};
pub use program::{AttachType, Link, Program, attached_to};
pub use syscall::{Error, Object, is_bpf_filesystem, netns_cookie};
