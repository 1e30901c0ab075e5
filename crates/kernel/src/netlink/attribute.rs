//! Netlink attributes: type-length-value records, padded to four bytes (linux/netlink.h `nlattr`).

use std::net::IpAddr;

const NESTED: u16 = 1 << 15; // NLA_F_NESTED
const TYPE_MASK: u16 = 0x3fff; // NLA_TYPE_MASK

/// Writes attributes at the end of a message. An attribute's length has 16 bits: a value over
/// 65,531 bytes is a bug of the caller, who must chunk it, and panics.
pub struct Attributes<'a> {
    pub(super) bytes: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    /// Raw bytes.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.header(kind, value.len());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    /// Text with the terminating NUL that most string attributes want.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.header(kind, value.len() + 1);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.pad();
        self
    }

    /// One byte.
    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    /// 16 bits in host order.
    pub fn u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// 32 bits in host order, as rtnetlink has them.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// 32 bits in network order, as nftables has them.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// 64 bits in network order, as nftables has them.
    pub fn be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// An address: 4 or 16 bytes.
    pub fn ip(&mut self, kind: u16, value: IpAddr) -> &mut Self {
        match value {
            IpAddr::V4(a) => self.bytes(kind, &a.octets()),
            IpAddr::V6(a) => self.bytes(kind, &a.octets()),
        }
    }

    /// Attributes inside an attribute.
    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        let at = self.bytes.len();
        self.header(kind | NESTED, 0);
        body(self);
        self.close(at);
        self
    }

    /// Like [`nest`](Self::nest), for a payload that begins with a fixed structure (`ifinfomsg` of a veth's peer).
    pub fn nest_after(
        &mut self,
        kind: u16,
        prefix: &[u8],
        body: impl FnOnce(&mut Attributes<'_>),
    ) -> &mut Self {
        let at = self.bytes.len();
        self.header(kind | NESTED, 0);
        self.bytes.extend_from_slice(prefix);
        self.pad();
        body(self);
        self.close(at);
        self
    }

    /// How many bytes the message has so far; to know when to start another one.
    #[must_use]
    pub fn position(&self) -> usize {
        self.bytes.len()
    }

    fn header(&mut self, kind: u16, length: usize) {
        let length = u16::try_from(length + 4).expect("callers chunk values to fit 16 bits");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
    }

    fn close(&mut self, at: usize) {
        let length = u16::try_from(self.bytes.len() - at).expect("callers chunk values to fit 16 bits");
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

/// A received attribute. Accessors return `None` when the value has not the size they need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Type without the nested and byte-order flags.
    pub kind: u16,
    /// The value, without padding.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// One byte.
    #[must_use]
    pub fn u8(&self) -> Option<u8> {
        self.value.first().copied()
    }

    /// 16 bits in host order.
    #[must_use]
    pub fn u16(&self) -> Option<u16> {
        Some(u16::from_ne_bytes(self.value.try_into().ok()?))
    }

    /// 32 bits in host order.
    #[must_use]
    pub fn u32(&self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.value.try_into().ok()?))
    }

    /// 32 bits in network order.
    #[must_use]
    pub fn be32(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.try_into().ok()?))
    }

    /// 64 bits in network order.
    #[must_use]
    pub fn be64(&self) -> Option<u64> {
        Some(u64::from_be_bytes(self.value.try_into().ok()?))
    }

    /// Text up to the first NUL; invalid UTF-8 gives `None`.
    #[must_use]
    pub fn text(&self) -> Option<&'a str> {
        let end = self.value.iter().position(|b| *b == 0).unwrap_or(self.value.len());
        std::str::from_utf8(&self.value[..end]).ok()
    }

    /// An address of 4 or 16 bytes.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self.value.len() {
            4 => <[u8; 4]>::try_from(self.value).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(self.value).ok().map(IpAddr::from),
            _ => None,
        }
    }

    /// The attributes inside.
    pub fn nested(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        attributes(self.value)
    }
}

/// Walks attributes; ends at the first one whose length does not fit, so that a truncated
/// message gives fewer attributes and never a panic.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, value })
    })
}

/// The first attribute of a type.
#[must_use]
pub fn find(bytes: &[u8], kind: u16) -> Option<Attribute<'_>> {
    attributes(bytes).find(|a| a.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        let mut writer = Attributes { bytes: &mut bytes };
        writer.text(3, "eth0").u32(4, 1500).nest(18, |n| {
            n.text(1, "veth").be32(2, 7);
        });
        assert_eq!(find(&bytes, 3).and_then(|a| a.text()), Some("eth0"));
        assert_eq!(find(&bytes, 4).and_then(|a| a.u32()), Some(1500));
        let nest = find(&bytes, 18).unwrap();
        assert_eq!(find(nest.value, 1).and_then(|a| a.text()), Some("veth"));
        assert_eq!(find(nest.value, 2).and_then(|a| a.be32()), Some(7));
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for attribute in attributes(&bytes) {
                let _ = (attribute.u8(), attribute.u16(), attribute.u32(), attribute.text(), attribute.ip());
                let _ = attribute.nested().count();
            }
        }
    }
}
