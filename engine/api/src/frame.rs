//! The frames in which stdout and stderr share one connection: `[stream, 0, 0, 0, length as 4 bytes big endian]`, then the bytes.

use std::fmt;

/// Length of a frame's header in bytes.
pub const HEADER: usize = 8;

/// Where the bytes of a frame belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Stream {
    /// Read as stdout by clients.
    Stdin = 0,
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
    /// An error of the daemon, as text.
    System = 3,
}

impl Stream {
    /// The stream of a header's first byte.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Stdin),
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            3 => Some(Self::System),
            _ => None,
        }
    }
}

/// The header of a frame of `length` bytes.
pub const fn header(stream: Stream, length: u32) -> [u8; HEADER] {
    let [a, b, c, d] = length.to_be_bytes();
    [stream as u8, 0, 0, 0, a, b, c, d]
}

/// Appends a frame to `out`.
///
/// # Panics
/// When `bytes` is longer than 4 GiB.
pub fn encode(stream: Stream, bytes: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(bytes.len()).unwrap_or_else(|_| panic!("a frame of {} bytes", bytes.len()));
    out.extend_from_slice(&header(stream, length));
    out.extend_from_slice(bytes);
}

/// The first byte of a header is none of the streams: these bytes are not framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownStream(pub u8);

impl fmt::Display for UnknownStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unrecognized input header: {}", self.0)
    }
}

impl std::error::Error for UnknownStream {}

/// Takes frames apart as their bytes arrive, in pieces of any size, without ever holding more than a header.
#[derive(Debug, Default)]
pub struct Decoder {
    header: [u8; HEADER],
    filled: usize,
    current: Option<(Stream, u32)>,
}

impl Decoder {
    /// A decoder that expects a header.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the front of `input` and returns the payload among them with its stream. `None` means that `input` is
    /// used up (it is then empty). Call until it is.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<(Stream, &'a [u8])>, UnknownStream> {
        loop {
            if let Some((stream, left)) = self.current {
                if input.is_empty() {
                    return Ok(None);
                }
                let length = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let (payload, rest) = input.split_at(length);
                *input = rest;
                // `length` is at most `left`, which is a u32.
                let left = left - u32::try_from(length).unwrap_or(left);
                self.current = (left > 0).then_some((stream, left));
                return Ok(Some((stream, payload)));
            }
            let wanted = (HEADER - self.filled).min(input.len());
            let (head, rest) = input.split_at(wanted);
            self.header[self.filled..self.filled + wanted].copy_from_slice(head);
            self.filled += wanted;
            *input = rest;
            if self.filled < HEADER {
                return Ok(None);
            }
            self.filled = 0;
            let [kind, _, _, _, a, b, c, d] = self.header;
            let stream = Stream::from_byte(kind).ok_or(UnknownStream(kind))?;
            let length = u32::from_be_bytes([a, b, c, d]);
            self.current = (length > 0).then_some((stream, length));
        }
    }

    /// True between frames: an end of the stream here loses nothing.
    pub fn is_idle(&self) -> bool {
        self.current.is_none() && self.filled == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_in_pieces_of_every_size() {
        let mut wire = Vec::new();
        encode(Stream::Stdout, b"hello\n", &mut wire);
        encode(Stream::Stderr, b"", &mut wire);
        encode(Stream::Stderr, b"oops", &mut wire);
        for size in 1..=wire.len() {
            let mut decoder = Decoder::new();
            let (mut out, mut err) = (Vec::new(), Vec::new());
            for mut piece in wire.chunks(size) {
                while let Some((stream, bytes)) = decoder.next(&mut piece).unwrap() {
                    if stream == Stream::Stdout { out.extend_from_slice(bytes) } else { err.extend_from_slice(bytes) }
                }
                assert!(piece.is_empty());
            }
            assert_eq!((out.as_slice(), err.as_slice()), (&b"hello\n"[..], &b"oops"[..]));
            assert!(decoder.is_idle());
        }
    }

    #[test]
    fn bytes_without_frames_are_refused() {
        let mut input: &[u8] = b"plain text";
        assert_eq!(Decoder::new().next(&mut input), Err(UnknownStream(b'p')));
    }

    #[test]
    fn an_end_inside_a_frame_is_seen() {
        let mut decoder = Decoder::new();
        let mut input: &[u8] = &[1, 0, 0, 0, 0, 0, 0, 9, b'x'];
        assert_eq!(decoder.next(&mut input), Ok(Some((Stream::Stdout, &b"x"[..]))));
        assert!(!decoder.is_idle());
    }
}
