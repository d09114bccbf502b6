//! WebSocket (RFC 6455), the server's side, as far as a stream of bytes needs it: the handshake, frames of clients taken apart
//! as they come, and frames of our own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// What a server proves with that it has read the key.
pub(crate) fn accept(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    STANDARD.encode(digest)
}

/// Kinds of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Text = 1,
    Binary = 2,
    Close = 8,
    Pong = 10,
}

/// The longest payload of a ping or a close.
const CONTROL: usize = 125;

/// A frame of the server's.
pub(crate) fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.push(0x80 | kind as u8);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length), _) if length < 126 => frame.push(length),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// Bytes of the stream.
    Data(Vec<u8>),
    /// It wants this back.
    Ping(Vec<u8>),
    /// It is done.
    Close,
}

/// A client that does not keep to the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client does not speak WebSocket")]
pub(crate) struct Broken;

/// A frame's kind, its mask, how much of the payload is to come, and where in the mask it goes on.
type Open = (u8, [u8; 4], u64, usize);

/// Takes the frames of a client apart, wherever they are cut. Holds no more than a head and a control frame.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    head: Vec<u8>,
    /// The frame that is being read.
    frame: Option<Open>,
    control: Vec<u8>,
}

impl Frames {
    /// Takes what has come, and tells what it says.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<Vec<Said>, Broken> {
        let mut said = Vec::new();
        loop {
            match self.frame.take() {
                None => {
                    let Some(frame) = self.take_head(&mut bytes)? else { return Ok(said) };
                    self.frame = Some(frame);
                }
                Some((kind, mask, left, seen)) => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let payload: Vec<u8> =
                        bytes[..count].iter().enumerate().map(|(at, byte)| byte ^ mask[(seen + at) % 4]).collect();
                    bytes = &bytes[count..];
                    let left = left - count as u64;
                    if kind < 8 {
                        if !payload.is_empty() {
                            said.push(Said::Data(payload));
                        }
                    } else {
                        self.control.extend_from_slice(&payload);
                    }
                    if left > 0 {
                        self.frame = Some((kind, mask, left, (seen + count) % 4));
                        return Ok(said);
                    }
                    match kind {
                        8 => said.push(Said::Close),
                        9 => said.push(Said::Ping(std::mem::take(&mut self.control))),
                        _ => {}
                    }
                    self.control.clear();
                }
            }
        }
    }

    /// The head of a frame, once it is all there.
    fn take_head(&mut self, bytes: &mut &[u8]) -> Result<Option<Open>, Broken> {
        loop {
            let need = match self.head.get(1).map(|second| second & 0x7f) {
                None => 2,
                Some(126) => 8,
                Some(127) => 14,
                Some(_) => 6,
            };
            let missing = need - self.head.len().min(need);
            if missing == 0 {
                break;
            }
            if bytes.is_empty() {
                return Ok(None);
            }
            let (part, rest) = bytes.split_at(missing.min(bytes.len()));
            self.head.extend_from_slice(part);
            *bytes = rest;
        }
        let head = std::mem::take(&mut self.head);
        let (kind, masked) = (head[0] & 0x0f, head[1] & 0x80 != 0);
        let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let (length, mask) = match head[1] & 0x7f {
            126 => (number(&head[2..4]), &head[4..8]),
            127 => (number(&head[2..10]), &head[10..14]),
            short => (short.into(), &head[2..6]),
        };
        let known = matches!(kind, 0..=2 | 8..=10);
        if !known || !masked || head[0] & 0x70 != 0 || (kind >= 8 && length > CONTROL as u64) {
            return Err(Broken);
        }
        let mask = mask.try_into().map_err(|_| Broken)?;
        Ok(Some((kind, mask, length, 0)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A frame as clients send it.
    fn masked(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = frame(Kind::Binary, payload);
        bytes[0] = 0x80 | kind;
        bytes[1] |= 0x80;
        let at = bytes.len() - payload.len();
        let mask = [1, 2, 3, 4];
        bytes.iter_mut().skip(at).enumerate().for_each(|(at, byte)| *byte ^= mask[at % 4]);
        bytes.splice(at..at, mask);
        bytes
    }

    #[test]
    fn the_key_is_answered_as_the_standard_says() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames_are_read_wherever_they_are_cut() {
        let long = vec![7; 70_000];
        let mut bytes = masked(2, b"hello");
        bytes.extend(masked(9, b"ping"));
        bytes.extend(masked(1, &[8; 300]));
        bytes.extend(masked(0, &long));
        bytes.extend(masked(8, b"\x03\xe8"));
        for step in [1, 3, 1000, bytes.len()] {
            let mut frames = Frames::default();
            let (mut data, mut others) = (Vec::new(), Vec::new());
            for part in bytes.chunks(step) {
                for said in frames.feed(part).unwrap() {
                    match said {
                        Said::Data(bytes) => data.extend(bytes),
                        other => others.push(other),
                    }
                }
            }
            assert_eq!(data, [&b"hello"[..], &[8; 300], &long].concat());
            assert_eq!(others, [Said::Ping(b"ping".to_vec()), Said::Close]);
        }
    }

    #[test]
    fn what_is_no_frame_of_a_client_is_refused() {
        let unmasked = frame(Kind::Binary, b"x");
        let reserved = {
            let mut bytes = masked(2, b"x");
            bytes[0] |= 0x40;
            bytes
        };
        for wrong in [unmasked, masked(3, b"x"), masked(9, &[0; 126]), reserved, b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
            assert_eq!(Frames::default().feed(&wrong.repeat(2)), Err(Broken));
        }
    }

    #[test]
    fn our_frames_have_the_shortest_head() {
        for (length, head) in [(5, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            assert_eq!(frame(Kind::Close, &vec![0; length]).len(), length + head);
        }
    }
}
