//! Writes a program of classic BPF from its end to its beginning, since its jumps go forward only and at most 255 instructions
//! far when they depend on something.

/// A place in the program that can be jumped to: the number of instructions behind it, less one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// `BPF_*` codes of `linux/bpf_common.h`, as they are used here.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
pub(super) const EQUAL: u16 = 0x15;
pub(super) const GREATER: u16 = 0x25;
pub(super) const AT_LEAST: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

/// How far a conditional jump is let go; the rest up to 255 is for what is put in between.
const REACH: usize = 250;

#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// Code, jump when true, jump when false, operand; the last instruction first.
    backwards: Vec<(u16, u8, u8, u32)>,
    returns: Vec<(u32, Label)>,
}

impl Assembler {
    fn put(&mut self, code: u16, yes: u8, no: u8, operand: u32) -> Label {
        self.backwards.push((code, yes, no, operand));
        Label(self.backwards.len() - 1)
    }

    /// Instructions between the next one and `label`.
    fn distance(&self, label: Label) -> usize {
        self.backwards.len() - label.0 - 1
    }

    /// A place near enough from which `label` is reached.
    fn near(&mut self, label: Label) -> Label {
        let distance = self.distance(label);
        if distance <= REACH { label } else { self.put(JUMP, 0, 0, u32::try_from(distance).unwrap_or(u32::MAX)) }
    }

    /// Returns `action`.
    pub(super) fn give(&mut self, action: u32) -> Label {
        let known = self.returns.iter().rev().find(|(known, _)| *known == action);
        if let Some((_, label)) = known.copied().filter(|(_, label)| self.distance(*label) <= REACH) {
            return label;
        }
        let label = self.put(RETURN, 0, 0, action);
        self.returns.push((action, label));
        label
    }

    /// Loads the word at `offset` of `seccomp_data`, then goes on with what was put before.
    pub(super) fn load(&mut self, offset: u32) -> Label {
        self.put(LOAD, 0, 0, offset)
    }

    /// Keeps the bits of `mask`.
    pub(super) fn and(&mut self, mask: u32) -> Label {
        self.put(AND, 0, 0, mask)
    }

    /// Compares what is loaded with `operand`.
    pub(super) fn test(&mut self, code: u16, operand: u32, yes: Label, no: Label) -> Label {
        let yes = self.near(yes);
        let no = self.near(no);
        let offset = |label| u8::try_from(self.distance(label)).unwrap_or(u8::MAX);
        let (yes, no) = (offset(yes), offset(no));
        self.put(code, yes, no, operand)
    }

    /// Goes to `label` when it is not what comes next anyway.
    pub(super) fn go(&mut self, label: Label) -> Label {
        match self.distance(label) {
            0 => label,
            distance => self.put(JUMP, 0, 0, u32::try_from(distance).unwrap_or(u32::MAX)),
        }
    }

    /// The number of instructions.
    pub(super) fn len(&self) -> usize {
        self.backwards.len()
    }

    /// The program as the kernel takes it: `struct sock_filter[]`.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.backwards.len() * 8);
        for (code, yes, no, operand) in self.backwards.into_iter().rev() {
            bytes.extend_from_slice(&code.to_ne_bytes());
            bytes.extend_from_slice(&[yes, no]);
            bytes.extend_from_slice(&operand.to_ne_bytes());
        }
        bytes
    }
}
