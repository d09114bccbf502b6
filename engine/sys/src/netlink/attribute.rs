//! Attributes of the kernel's answers, read with every length checked.

/// One attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its kind, without the flags.
    pub kind: u16,
    /// Its content.
    pub content: &'a [u8],
}

/// The attributes in `bytes`. Ends early when a length is impossible.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    std::iter::from_fn(move || {
        let [first, second, third, fourth] = *bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([first, second]));
        let kind = u16::from_ne_bytes([third, fourth]) & 0x3fff;
        let content = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, content })
    })
}

/// The text in an attribute, up to its closing zero; empty when it is no text.
pub fn text(content: &[u8]) -> &str {
    let end = content.iter().position(|byte| *byte == 0).unwrap_or(content.len());
    std::str::from_utf8(&content[..end]).unwrap_or_default()
}

/// The number at the front, in the machine's byte order.
pub fn u32_native(content: &[u8]) -> Option<u32> {
    content.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// The number at the front, in the network's byte order.
pub fn u32_be(content: &[u8]) -> Option<u32> {
    content.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}
