//! Messages, built from the front to the back.

use super::HEADER;

/// This is a question or an order (`NLM_F_REQUEST`); every message has it.
pub const REQUEST: u16 = 0x1;
/// Answer when it is done (`NLM_F_ACK`).
pub const ACK: u16 = 0x4;
/// Replace what is there (`NLM_F_REPLACE`).
pub const REPLACE: u16 = 0x100;
/// Tell everything (`NLM_F_DUMP`).
pub const DUMP: u16 = 0x300;
/// Refuse when it is there (`NLM_F_EXCL`).
pub const EXCLUSIVE: u16 = 0x200;
/// Make it when it is not there (`NLM_F_CREATE`).
pub const CREATE: u16 = 0x400;

const NESTED: u16 = 0x8000;

/// One message to the kernel: a header, a fixed part, and attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message of this kind. [`REQUEST`] is added to the flags.
    #[must_use]
    pub fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | REQUEST).to_ne_bytes());
        bytes.extend([0; 8]);
        Self { bytes }.closed()
    }

    /// Appends bytes as they are, and pads them to a multiple of four.
    #[must_use]
    pub fn put(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self.closed()
    }

    /// Appends an attribute. Content that is too long for one (65,531 bytes) makes the kernel refuse the message.
    #[must_use]
    pub fn attribute(mut self, kind: u16, content: &[u8]) -> Self {
        let length = u16::try_from(content.len() + 4).unwrap_or(0);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(content);
        self.closed()
    }

    /// Appends a text with its closing zero.
    #[must_use]
    pub fn text(self, kind: u16, text: &str) -> Self {
        let mut content = text.as_bytes().to_vec();
        content.push(0);
        self.attribute(kind, &content)
    }

    /// Appends a number in the byte order of the machine, as links, addresses and routes have it.
    #[must_use]
    pub fn u32(self, kind: u16, number: u32) -> Self {
        self.attribute(kind, &number.to_ne_bytes())
    }

    /// Appends a number in the byte order of the network, as the packet filter has it.
    #[must_use]
    pub fn u32_be(self, kind: u16, number: u32) -> Self {
        self.attribute(kind, &number.to_be_bytes())
    }

    /// Appends an attribute that holds what `fill` appends.
    #[must_use]
    pub fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        let mut filled = fill(self);
        let length = u16::try_from(filled.bytes.len() - start).unwrap_or(0);
        filled.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled.closed()
    }

    /// What goes over the socket.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn number(&mut self, sequence: u32) {
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }

    /// Whether the kernel answers even when all went well.
    pub(super) fn is_answered(&self) -> bool {
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]);
        flags & ACK != 0 || flags & DUMP == DUMP
    }

    fn closed(mut self) -> Self {
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
        let length = u32::try_from(padded).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        debug_assert!(self.bytes.len() >= HEADER);
        self
    }
}
