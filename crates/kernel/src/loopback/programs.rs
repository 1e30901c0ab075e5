//! The programs, in the words of the kernel's machine.
//!
//! Two, each for four places and two families: on the way out a destination is looked up and replaced, on the
//! way back a source. `struct bpf_sock_addr` (linux/bpf.h) is what they are given.

use crate::bpf::Register::{Frame, R0, R1, R2, R3, R4, R6, R7, R8, R9};
use crate::bpf::Width::{Byte, Double, Half, Word};
use crate::bpf::{Assembler, AttachType, Error, Helper, Map, Program};

use super::element::{ADDRESS, KEY, PORT, PROTOCOL, VALUE, VALUE_PORT};

/// Places in `struct bpf_sock_addr`.
const USER_IP4: i16 = 4;
const USER_IP6: i16 = 8;
const USER_PORT: i16 = 24;
const USER_PROTOCOL: i16 = 36;

/// Places on the stack: the key that is looked up, the value and key that are remembered.
const ASKED: i16 = -32;
const WANTED: i16 = -56;
const REMEMBERED: i16 = -96;

/// The programs by the names they bear, and where each is called.
pub(super) const ALL: [(&str, AttachType); 8] = [
    ("connect4", AttachType::Connect4),
    ("connect6", AttachType::Connect6),
    ("sendmsg4", AttachType::Send4),
    ("sendmsg6", AttachType::Send6),
    ("recvmsg4", AttachType::Receive4),
    ("recvmsg6", AttachType::Receive6),
    ("getpeername4", AttachType::Peer4),
    ("getpeername6", AttachType::Peer6),
];

type Elements = Map<KEY, VALUE>;

/// Hands one of them to the kernel.
pub(super) fn load(
    name: &'static str,
    at: AttachType,
    ports: &Elements,
    flows: &Elements,
) -> Result<Program, Error> {
    use AttachType::{Connect4, Connect6, Peer4, Peer6, Receive4, Receive6, Send4, Send6};
    let code = match at {
        Connect4 | Send4 => out(true, ports, flows),
        Connect6 | Send6 => out(false, ports, flows),
        Receive4 | Peer4 => back(true, flows),
        Receive6 | Peer6 => back(false, flows),
    };
    Program::load(name, at, &code)
}

/// A number as its bytes lie on the wire.
fn network(number: u32) -> u32 {
    u32::from_ne_bytes(number.to_be_bytes())
}

/// Where to? If it is a port that leads elsewhere: remember for the socket, and go there.
fn out(ipv4: bool, ports: &Elements, flows: &Elements) -> Vec<u64> {
    let mut p = Assembler::default();
    let done = p.label();
    p.copy(R6, R1);
    address(&mut p, ipv4, true);
    p.load(Word, R1, R6, USER_PROTOCOL);
    p.store(Byte, Frame, ASKED + PROTOCOL, R1);
    p.copy(R1, R6);
    p.call(Helper::NetnsCookie);
    p.store(Double, Frame, ASKED, R0);
    find(&mut p, ports);
    p.jump_if_equal(R0, 0, done);
    p.copy(R9, R0);

    // Under socket, address and port it is led to stands where it wanted to go.
    p.copy(R1, R6);
    p.call(Helper::SocketCookie);
    p.store(Double, Frame, REMEMBERED, R0);
    p.store_number(Double, Frame, REMEMBERED + PORT, 0);
    for half in [0, 8] {
        p.load(Double, R1, R9, half);
        p.store(Double, Frame, REMEMBERED + ADDRESS + half, R1);
        p.load(Double, R1, Frame, ASKED + ADDRESS + half);
        p.store(Double, Frame, WANTED + half, R1);
    }
    p.load(Half, R1, R9, VALUE_PORT);
    p.store(Half, Frame, REMEMBERED + PORT, R1);
    p.load(Half, R1, Frame, ASKED + PORT);
    p.store_number(Word, Frame, WANTED + VALUE_PORT, 0);
    p.store(Half, Frame, WANTED + VALUE_PORT, R1);
    p.load_map(R1, flows.number());
    at_stack(&mut p, R2, REMEMBERED);
    at_stack(&mut p, R3, WANTED);
    p.set(R4, 0); // BPF_ANY
    p.call(Helper::MapUpdate);

    replace(&mut p, ipv4);
    p.place(done);
    allow(p)
}

/// From where? If this socket was led there: from where it wanted to go.
fn back(ipv4: bool, flows: &Elements) -> Vec<u64> {
    let mut p = Assembler::default();
    let done = p.label();
    p.copy(R6, R1);
    address(&mut p, ipv4, false);
    p.copy(R1, R6);
    p.call(Helper::SocketCookie);
    p.store(Double, Frame, ASKED, R0);
    find(&mut p, flows);
    p.jump_if_equal(R0, 0, done);
    p.copy(R9, R0);
    replace(&mut p, ipv4);
    p.place(done);
    allow(p)
}

/// Address and port of R6, the context, into the key on the stack. "This host" (0.0.0.0, ::) as a destination
/// means the loopback's address.
fn address(p: &mut Assembler, ipv4: bool, destination: bool) {
    p.store_number(Double, Frame, ASKED + PORT, 0);
    let known = p.label();
    if ipv4 {
        p.load(Word, R7, R6, USER_IP4);
        if destination {
            p.jump_if_different(R7, 0, known);
            p.set_word(R7, network(0x7f00_0001));
            p.place(known);
        }
        p.store_number(Double, Frame, ASKED + ADDRESS, 0);
        p.set_word(R1, network(0xffff));
        p.store(Word, Frame, ASKED + ADDRESS + 8, R1);
        p.store(Word, Frame, ASKED + ADDRESS + 12, R7);
    } else {
        p.set(R8, 0);
        for part in [0, 4, 8, 12] {
            p.load(Word, R7, R6, USER_IP6 + part);
            p.store(Word, Frame, ASKED + ADDRESS + part, R7);
            p.or(R8, R7);
        }
        if destination {
            p.jump_if_different(R8, 0, known);
            p.set_word(R7, network(1));
            p.store(Word, Frame, ASKED + ADDRESS + 12, R7);
            p.place(known);
        }
    }
    p.load(Word, R1, R6, USER_PORT);
    p.store(Half, Frame, ASKED + PORT, R1);
}

/// R0: the value under the key on the stack, or 0.
fn find(p: &mut Assembler, map: &Elements) {
    p.load_map(R1, map.number());
    at_stack(p, R2, ASKED);
    p.call(Helper::MapLookup);
}

fn at_stack(p: &mut Assembler, register: crate::bpf::Register, place: i16) {
    p.copy(register, Frame);
    p.add(register, place.into());
}

/// The value at R9 into the address and port of R6, the context.
fn replace(p: &mut Assembler, ipv4: bool) {
    if ipv4 {
        p.load(Word, R1, R9, 12);
        p.store(Word, R6, USER_IP4, R1);
    } else {
        for part in [0, 4, 8, 12] {
            p.load(Word, R1, R9, part);
            p.store(Word, R6, USER_IP6 + part, R1);
        }
    }
    p.load(Half, R1, R9, VALUE_PORT);
    p.store(Word, R6, USER_PORT, R1);
}

fn allow(mut p: Assembler) -> Vec<u64> {
    p.set(R0, 1);
    p.exit();
    p.finish()
}
