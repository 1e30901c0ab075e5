//! Instructions as the kernel takes them (Documentation/bpf/standardization/instruction-set.rst): eight bytes each.
//!
//! Only the words that weft's programs use. What is written is checked by the kernel's verifier, not here.

/// One of the ten registers that a program can write to, and the frame pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// What calls and the program return.
    R0 = 0,
    /// First argument; calls overwrite R1 to R5.
    R1 = 1,
    /// Second argument.
    R2 = 2,
    /// Third argument.
    R3 = 3,
    /// Fourth argument.
    R4 = 4,
    /// Kept over calls, like R7 to R9.
    R6 = 6,
    /// Kept over calls.
    R7 = 7,
    /// Kept over calls.
    R8 = 8,
    /// Kept over calls.
    R9 = 9,
    /// The frame pointer: 512 bytes of stack lie below it.
    Frame = 10,
}

/// How much of memory is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    Byte = 0x10,
    /// 16 bits.
    Half = 0x08,
    /// 32 bits.
    Word = 0x00,
    /// 64 bits.
    Double = 0x18,
}

/// What a program can ask of the kernel (linux/bpf.h `__BPF_FUNC_MAPPER`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helper {
    /// R1 a map, R2 the address of a key: the address of the value, or 0.
    MapLookup = 1,
    /// R1 a map, R2 the address of a key, R3 of a value, R4 flags.
    MapUpdate = 2,
    /// R1 the context: a number that no other socket ever has.
    SocketCookie = 46,
    /// R1 the context: a number that no other network namespace ever has.
    NetnsCookie = 122,
}

/// A place that is jumped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// Writes a program.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    code: Vec<u64>,
    /// Where each label stands, once it does.
    labels: Vec<Option<usize>>,
    /// Jumps and what they jump to.
    jumps: Vec<(usize, Label)>,
}

const LOAD_MAP: u8 = 0x18; // BPF_LD | BPF_IMM | BPF_DW
const MAP_FD: u8 = 1; // BPF_PSEUDO_MAP_FD
const LOAD: u8 = 0x61; // BPF_LDX | BPF_MEM
const STORE: u8 = 0x63; // BPF_STX | BPF_MEM
const STORE_NUMBER: u8 = 0x62; // BPF_ST | BPF_MEM
const MOVE: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const MOVE_NUMBER: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const MOVE_WORD: u8 = 0xb4; // BPF_ALU | BPF_MOV | BPF_K: the upper half becomes 0
const ADD_NUMBER: u8 = 0x07; // BPF_ALU64 | BPF_ADD | BPF_K
const OR: u8 = 0x4f; // BPF_ALU64 | BPF_OR | BPF_X
const JUMP_EQUAL: u8 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_DIFFERENT: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const CALL: u8 = 0x85; // BPF_JMP | BPF_CALL
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

impl Assembler {
    fn push(&mut self, code: u8, registers: u8, offset: i16, number: i32) {
        let [low, high] = offset.to_ne_bytes();
        let [a, b, c, d] = number.to_ne_bytes();
        self.code.push(u64::from_ne_bytes([code, registers, low, high, a, b, c, d]));
    }

    /// Both registers in one byte: the destination in the lower half on little-endian machines.
    fn pair(to: Register, from: u8) -> u8 {
        if cfg!(target_endian = "little") { to as u8 | from << 4 } else { (to as u8) << 4 | from }
    }

    /// A label that stands nowhere yet.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts a label in front of the next instruction.
    pub fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    /// `to = from`.
    pub fn copy(&mut self, to: Register, from: Register) {
        self.push(MOVE, Self::pair(to, from as u8), 0, 0);
    }

    /// `to = number`, with its sign.
    pub fn set(&mut self, to: Register, number: i32) {
        self.push(MOVE_NUMBER, Self::pair(to, 0), 0, number);
    }

    /// `to = word`, 32 bits without a sign.
    pub fn set_word(&mut self, to: Register, word: u32) {
        self.push(MOVE_WORD, Self::pair(to, 0), 0, word.cast_signed());
    }

    /// `to += number`.
    pub fn add(&mut self, to: Register, number: i32) {
        self.push(ADD_NUMBER, Self::pair(to, 0), 0, number);
    }

    /// `to |= from`.
    pub fn or(&mut self, to: Register, from: Register) {
        self.push(OR, Self::pair(to, from as u8), 0, 0);
    }

    /// `to = *(base + offset)`.
    pub fn load(&mut self, width: Width, to: Register, base: Register, offset: i16) {
        self.push(LOAD | width as u8, Self::pair(to, base as u8), offset, 0);
    }

    /// `*(base + offset) = from`.
    pub fn store(&mut self, width: Width, base: Register, offset: i16, from: Register) {
        self.push(STORE | width as u8, Self::pair(base, from as u8), offset, 0);
    }

    /// `*(base + offset) = number`.
    pub fn store_number(&mut self, width: Width, base: Register, offset: i16, number: i32) {
        self.push(STORE_NUMBER | width as u8, Self::pair(base, 0), offset, number);
    }

    /// `to = the map with this descriptor`.
    pub fn load_map(&mut self, to: Register, descriptor: i32) {
        self.push(LOAD_MAP, Self::pair(to, MAP_FD), 0, descriptor);
        self.code.push(0); // the upper half of a 64-bit number
    }

    /// Goes to the label if the register is this number.
    pub fn jump_if_equal(&mut self, register: Register, number: i32, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(JUMP_EQUAL, Self::pair(register, 0), 0, number);
    }

    /// Goes to the label if the register is not this number.
    pub fn jump_if_different(&mut self, register: Register, number: i32, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(JUMP_DIFFERENT, Self::pair(register, 0), 0, number);
    }

    /// Calls the kernel.
    pub fn call(&mut self, helper: Helper) {
        self.push(CALL, 0, 0, helper as i32);
    }

    /// Returns R0.
    pub fn exit(&mut self) {
        self.push(EXIT, 0, 0, 0);
    }

    /// The program. A jump to a label that stands nowhere is a bug of the caller's, and panics.
    #[must_use]
    pub fn finish(mut self) -> Vec<u64> {
        for (at, label) in self.jumps {
            let to = self.labels[label.0].expect("every label that is jumped to was placed");
            // Counted from the instruction behind the jump.
            let distance = to.cast_signed() - at.cast_signed() - 1;
            let [low, high] = i16::try_from(distance)
                .expect("programs are far shorter than 32,768 instructions")
                .to_ne_bytes();
            let mut bytes = self.code[at].to_ne_bytes();
            bytes[2..4].copy_from_slice(&[low, high]);
            self.code[at] = u64::from_ne_bytes(bytes);
        }
        self.code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `llvm-mc` and the kernel's own tests write them.
    #[test]
    fn instructions_are_as_the_manual_has_them() {
        let mut program = Assembler::default();
        let end = program.label();
        program.copy(Register::R6, Register::R1);
        program.load(Width::Word, Register::R7, Register::R6, 4);
        program.jump_if_equal(Register::R7, 0, end);
        program.store(Width::Double, Register::Frame, -8, Register::R7);
        program.store_number(Width::Half, Register::Frame, -2, 1);
        program.load_map(Register::R1, 7);
        program.call(Helper::MapLookup);
        program.place(end);
        program.set(Register::R0, 1);
        program.exit();
        let bytes: Vec<[u8; 8]> = program.finish().into_iter().map(u64::to_le_bytes).collect();
        let expected: [[u8; 8]; 11] = [
            [0xbf, 0x16, 0, 0, 0, 0, 0, 0],
            [0x61, 0x67, 4, 0, 0, 0, 0, 0],
            [0x15, 0x07, 5, 0, 0, 0, 0, 0],
            [0x7b, 0x7a, 0xf8, 0xff, 0, 0, 0, 0],
            [0x6a, 0x0a, 0xfe, 0xff, 1, 0, 0, 0],
            [0x18, 0x11, 0, 0, 7, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0, 0],
            [0x85, 0, 0, 0, 1, 0, 0, 0],
            [0xb7, 0, 0, 0, 1, 0, 0, 0],
            [0x95, 0, 0, 0, 0, 0, 0, 0],
            [0; 8],
        ];
        assert_eq!(bytes, expected[..10]);
    }
}
