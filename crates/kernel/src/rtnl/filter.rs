//! The filter that sends all that arrives by an interface through another one (net/sched/cls_u32.c,
//! net/sched/act_mirred.c). `u32` that matches everything, because `matchall` is not in every kernel.

use super::qdisc::{KIND, OPTIONS, header};
use super::{ACK, CREATE, DUMP, EXCLUSIVE, REQUEST};
use crate::netlink::{Attribute, Message, Messages, find};

const HEADER: usize = 20; // struct tcmsg
/// Filters on arriving packets, of clsact; of the older `ingress` too, which has no other.
const ARRIVALS: u32 = 0xffff_fff2; // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
const SELECTOR: u16 = 5; // TCA_U32_SEL
const ACTIONS: u16 = 7; // TCA_U32_ACT
const FIRST: u16 = 1; // the first action of a list
const ACTION_KIND: u16 = 1; // TCA_ACT_KIND
const ACTION_OPTIONS: u16 = 2; // TCA_ACT_OPTIONS
const MIRRED_PARMS: u16 = 2; // TCA_MIRRED_PARMS: struct tc_mirred
const STOLEN: i32 = 4; // TC_ACT_STOLEN: the packet is ours from here on
const REDIRECT: i32 = 1; // TCA_EGRESS_REDIR
const ALL: u16 = 0x0003; // ETH_P_ALL
const U32: &str = "u32";

/// A selector of one key that compares nothing: struct tc_u32_sel and one struct tc_u32_key.
const EVERYTHING: [u8; 32] = {
    let mut bytes = [0; 32];
    bytes[0] = 1; // TC_U32_TERMINAL
    bytes[2] = 1; // one key
    bytes
};

fn info(preference: u16) -> u32 {
    u32::from(preference) << 16 | u32::from(ALL.to_be())
}

/// Sends all that arrives by interface `index` through interface `to`.
pub fn redirect(messages: &mut Messages, index: u32, preference: u16, to: u32) {
    let flags = REQUEST | ACK | CREATE | EXCLUSIVE;
    let mut parms = [0; 28];
    parms[8..12].copy_from_slice(&STOLEN.to_ne_bytes());
    parms[20..24].copy_from_slice(&REDIRECT.to_ne_bytes());
    parms[24..28].copy_from_slice(&to.to_ne_bytes());
    messages.push(libc::RTM_NEWTFILTER, flags, &header(index, 0, ARRIVALS, info(preference)), |a| {
        a.text(KIND, U32);
        a.nest(OPTIONS, |a| {
            a.bytes(SELECTOR, &EVERYTHING);
            a.nest(ACTIONS, |a| {
                a.nest(FIRST, |a| {
                    a.text(ACTION_KIND, "mirred");
                    a.nest(ACTION_OPTIONS, |a| {
                        a.bytes(MIRRED_PARMS, &parms);
                    });
                });
            });
        });
    });
}

/// Takes the filters of a preference away, and no other.
pub fn delete(messages: &mut Messages, index: u32, preference: u16) {
    messages.push(libc::RTM_DELTFILTER, REQUEST | ACK, &header(index, 0, ARRIVALS, info(preference)), |_| ());
}

/// Asks for the filters on what arrives by an interface.
#[must_use]
pub fn list(index: u32) -> Messages {
    let mut messages = Messages::default();
    messages.push(libc::RTM_GETTFILTER, REQUEST | DUMP, &header(index, 0, ARRIVALS, 0), |_| ());
    messages
}

/// One key, and no bit of it compared.
fn is_everything(selector: &[u8]) -> bool {
    selector.get(2) == Some(&1) && selector.get(16..20) == Some(&[0; 4])
}

/// Reads where a filter of that preference sends everything; `None` for any other filter, also for one
/// whose target is gone.
#[must_use]
pub fn read(message: &Message<'_>, preference: u16) -> Option<u32> {
    let head: [u8; HEADER] = message.structure()?;
    let found = u32::from_ne_bytes([head[16], head[17], head[18], head[19]]);
    if message.kind != libc::RTM_NEWTFILTER || found >> 16 != u32::from(preference) {
        return None;
    }
    let body = message.body(HEADER);
    let text = |a: Attribute<'_>, wanted: &str| a.text() == Some(wanted);
    find(body, KIND).filter(|k| text(*k, U32))?;
    let options = find(body, OPTIONS)?.value;
    find(options, SELECTOR).filter(|s| is_everything(s.value))?;
    let action = find(find(options, ACTIONS)?.value, FIRST)?.value;
    find(action, ACTION_KIND).filter(|k| text(*k, "mirred"))?;
    let parms: [u8; 28] =
        find(find(action, ACTION_OPTIONS)?.value, MIRRED_PARMS)?.value.get(..28)?.try_into().ok()?;
    let word = |at: usize| i32::from_ne_bytes([parms[at], parms[at + 1], parms[at + 2], parms[at + 3]]);
    let redirects = (word(8), word(20)) == (STOLEN, REDIRECT);
    u32::try_from(word(24)).ok().filter(|to| redirects && *to != 0)
}
