//! Netlink messages: a header of 16 bytes, a structure of the family, attributes (linux/netlink.h `nlmsghdr`).

use super::attribute::{Attribute, Attributes, attributes};

pub(super) const HEADER: usize = 16;

/// Messages that travel in one `send`. The kernel works through them in order; each that fails is
/// answered and does not stop the next.
#[derive(Clone, Debug, Default)]
pub struct Messages {
    pub(super) bytes: Vec<u8>,
    /// Where each message begins.
    pub(super) starts: Vec<usize>,
}

impl Messages {
    /// Adds a message: its type, `NLM_F_*` flags, the family's structure, and its attributes.
    pub fn push(&mut self, kind: u16, flags: u16, structure: &[u8], body: impl FnOnce(&mut Attributes<'_>)) {
        let at = self.bytes.len();
        self.starts.push(at);
        self.bytes.extend_from_slice(&[0; 4]); // length, known at the end
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]); // sequence and port, set when sent
        self.bytes.extend_from_slice(structure);
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
        body(&mut Attributes { bytes: &mut self.bytes });
        let length = u32::try_from(self.bytes.len() - at).expect("a message is far below 4 GiB");
        self.bytes[at..at + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Adds flags to the last message.
    pub fn add_flags(&mut self, flags: u16) {
        if let Some(at) = self.starts.last() {
            let [low, high] = flags.to_ne_bytes();
            self.bytes[at + 6] |= low;
            self.bytes[at + 7] |= high;
        }
    }

    /// How many messages there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// How many bytes they have together.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// All of them, as they are sent.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Numbers the messages from `first` upwards.
    pub(super) fn number(&mut self, first: u32) {
        for (index, at) in self.starts.iter().enumerate() {
            let sequence = first.wrapping_add(u32::try_from(index).unwrap_or(u32::MAX));
            self.bytes[at + 8..at + 12].copy_from_slice(&sequence.to_ne_bytes());
        }
    }
}

/// A received message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Its type.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// The sequence number of the request it answers; 0 for events.
    pub sequence: u32,
    /// The port that made the request; tells our own changes in a stream of events.
    pub port: u32,
    /// Structure and attributes.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The family's structure, if the message is long enough.
    #[must_use]
    pub fn structure<const N: usize>(&self) -> Option<[u8; N]> {
        self.payload.get(..N)?.try_into().ok()
    }

    /// The attributes behind a structure of `structure` bytes.
    pub fn attributes(&self, structure: usize) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        attributes(self.body(structure))
    }

    /// The bytes of those attributes.
    #[must_use]
    pub fn body(&self, structure: usize) -> &'a [u8] {
        self.payload.get(structure.next_multiple_of(4)..).unwrap_or_default()
    }

    /// Splits what one `recv` returned; ends at the first message whose length does not fit.
    pub(super) fn split(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
        std::iter::from_fn(move || {
            let head = bytes.get(..HEADER)?;
            let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
            let length = usize::try_from(word(0)).ok()?;
            let payload = bytes.get(HEADER..length)?;
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some(Message {
                kind: u16::from_ne_bytes([head[4], head[5]]),
                flags: u16::from_ne_bytes([head[6], head[7]]),
                sequence: word(8),
                port: word(12),
                payload,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn several_messages_are_told_apart() {
        let mut messages = Messages::default();
        messages.push(16, 1, &[1, 2, 3, 4], |a| {
            a.text(3, "x");
        });
        messages.push(17, 2, &[5], |_| ());
        messages.number(40);
        let read: Vec<_> = Message::split(&messages.bytes).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].kind, read[0].flags, read[0].sequence), (16, 1, 40));
        assert_eq!(read[0].structure(), Some([1, 2, 3, 4]));
        assert_eq!(read[0].attributes(4).next().and_then(|a| a.text()), Some("x"));
        assert_eq!((read[1].kind, read[1].sequence, read[1].payload), (17, 41, &[5, 0, 0, 0][..]));
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for message in Message::split(&bytes) {
                let _ = (message.structure::<12>(), message.attributes(16).count());
            }
        }
    }
}
