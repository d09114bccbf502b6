//! Detach keys: a sequence typed at a terminal that disconnects the client.

use crate::protocol::MAX_DETACH_KEYS;

/// Watches what a client types. Bytes that may become the sequence are held back until they do or do not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keys {
    sequence: [u8; MAX_DETACH_KEYS],
    length: usize,
    matched: usize,
}

impl Keys {
    /// Watches for `sequence`; without one nothing ever matches.
    pub(crate) fn new(sequence: &[u8]) -> Self {
        let mut keys = Self { length: sequence.len().min(MAX_DETACH_KEYS), ..Self::default() };
        keys.sequence[..keys.length].copy_from_slice(&sequence[..keys.length]);
        keys
    }

    /// Passes on what is not the sequence. Says whether it was completed; what follows it is dropped.
    pub(crate) fn watch(&mut self, input: &[u8], mut pass: impl FnMut(&[u8])) -> bool {
        if self.length == 0 {
            pass(input);
            return false;
        }
        let mut from = 0;
        for (at, byte) in input.iter().enumerate() {
            if *byte == self.sequence[self.matched] {
                if self.matched == 0 {
                    pass(&input[from..at]);
                }
                self.matched += 1;
                from = at + 1;
                if self.matched == self.length {
                    self.matched = 0;
                    return true;
                }
                continue;
            }
            if self.matched > 0 {
                pass(&self.sequence[..self.matched]);
                self.matched = 0;
                // The byte that broke the sequence may begin it anew.
                if *byte == self.sequence[0] && self.length > 1 {
                    self.matched = 1;
                    from = at + 1;
                } else {
                    from = at;
                }
            }
        }
        pass(&input[from..]);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn type_in(keys: &mut Keys, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut passed = Vec::new();
        for piece in pieces {
            if keys.watch(piece, |bytes| passed.extend_from_slice(bytes)) {
                return (passed, true);
            }
        }
        (passed, false)
    }

    #[test]
    fn the_sequence_detaches_and_is_not_passed_on() {
        let keys = Keys::new(b"\x10\x11");
        assert_eq!(type_in(&mut keys.clone(), &[b"ab\x10\x11cd"]), (b"ab".to_vec(), true));
        assert_eq!(type_in(&mut keys.clone(), &[b"ab\x10", b"\x11"]), (b"ab".to_vec(), true));
        assert_eq!(type_in(&mut keys.clone(), &[b"a\x10\x10\x11"]), (b"a\x10".to_vec(), true));
    }

    #[test]
    fn a_broken_sequence_is_passed_on() {
        let keys = Keys::new(b"\x10\x11");
        assert_eq!(type_in(&mut keys.clone(), &[b"a\x10", b"b"]), (b"a\x10b".to_vec(), false));
        assert_eq!(type_in(&mut keys.clone(), &[b"\x11\x10x\x11"]), (b"\x11\x10x\x11".to_vec(), false));
        assert_eq!(type_in(&mut keys.clone(), &[b"plain"]), (b"plain".to_vec(), false));
    }

    #[test]
    fn one_key_and_no_key() {
        assert_eq!(type_in(&mut Keys::new(b"q"), &[b"abqd"]), (b"ab".to_vec(), true));
        assert_eq!(type_in(&mut Keys::new(b""), &[b"abqd"]), (b"abqd".to_vec(), false));
    }
}
