//! Writes the bytes of a plan and keeps account of descriptors and slots.

use std::ffi::{CStr, CString};

use engine_shim::plan::{Fd, MAX_DESCRIPTORS, MAX_LEN, MAX_SLOTS, Op, Slot};

use super::{Plan, Resource};
use crate::Error;
use crate::protocol::PlanWriter;

/// A plan that is being written. What goes wrong on the way is told by [`Writer::finish`].
#[derive(Debug, Default)]
pub(super) struct Writer {
    operations: PlanWriter,
    resources: Vec<Resource>,
    slots: u128,
    wrong: Option<Error>,
}

impl Writer {
    pub(super) fn push(&mut self, op: Op<'_>) {
        // What is too long is refused at the end; until then it is not to cost memory.
        if self.operations.length() <= MAX_LEN {
            self.operations.push(&op);
        }
    }

    /// Pushes an operation that has a text.
    pub(super) fn with_text(&mut self, text: impl AsRef<[u8]>, op: impl FnOnce(&CStr) -> Op<'_>) {
        if let Some(text) = self.text(text.as_ref()) {
            self.push(op(&text));
        }
    }

    /// Pushes an operation that has two texts.
    pub(super) fn with_texts<A: AsRef<[u8]>, B: AsRef<[u8]>>(
        &mut self,
        first: A,
        second: B,
        op: impl for<'a> FnOnce(&'a CStr, &'a CStr) -> Op<'a>,
    ) {
        if let (Some(first), Some(second)) = (self.text(first.as_ref()), self.text(second.as_ref())) {
            self.push(op(&first, &second));
        }
    }

    /// Pushes an operation that has four texts.
    pub(super) fn with_four(&mut self, texts: [&[u8]; 4], op: impl for<'a> FnOnce([&'a CStr; 4]) -> Op<'a>) {
        if let [Some(a), Some(b), Some(c), Some(d)] = texts.map(|text| self.text(text)) {
            self.push(op([&a, &b, &c, &d]));
        }
    }

    fn text(&mut self, text: &[u8]) -> Option<CString> {
        let made = CString::new(text).ok();
        if made.is_none() {
            let text = String::from_utf8_lossy(text);
            self.fail(Error::Invalid(format!("a zero byte in {text:?}")));
        }
        made
    }

    /// The number of a descriptor; one that is there already is used again.
    pub(super) fn descriptor(&mut self, resource: Resource) -> Fd {
        let at = self.resources.iter().position(|known| *known == resource).unwrap_or_else(|| {
            if self.resources.len() <= MAX_DESCRIPTORS {
                self.resources.push(resource);
            }
            self.resources.len() - 1
        });
        Fd(u8::try_from(at).unwrap_or(u8::MAX))
    }

    /// A slot that is free; to be given back by [`Writer::release`].
    pub(super) fn slot(&mut self) -> Slot {
        let free = self.slots.trailing_ones();
        if free as usize >= MAX_SLOTS {
            self.fail(Error::Unsupported(format!("more than {MAX_SLOTS} shared mounts")));
            return Slot(0);
        }
        self.slots |= 1 << free;
        Slot(u8::try_from(free).unwrap_or(0))
    }

    pub(super) fn release(&mut self, slot: Slot) {
        self.slots &= !(1 << slot.0);
    }

    /// The first failure counts.
    pub(super) fn fail(&mut self, error: Error) {
        self.wrong.get_or_insert(error);
    }

    pub(super) fn finish(self) -> Result<Plan, Error> {
        if let Some(error) = self.wrong {
            return Err(error);
        }
        let bytes = self.operations.finish(self.resources.len()).map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(Plan { bytes, resources: self.resources })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut plan = Writer::default();
        let socket = plan.descriptor(Resource::Listener);
        plan.push(Op::Listener { socket });
        plan.with_texts("size", "64m", |key, value| Op::FsString { slot: Slot(3), key, value });
        plan.push(Op::Seccomp { flags: 4, filter: &[1, 2, 3] });
        let plan = plan.finish().unwrap();
        let read: Vec<_> = plan.operations().collect();
        assert_eq!(
            read,
            [
                Op::Listener { socket: Fd(0) },
                Op::FsString { slot: Slot(3), key: c"size", value: c"64m" },
                Op::Seccomp { flags: 4, filter: &[1, 2, 3] },
            ]
        );
        assert_eq!(plan.resources(), [Resource::Listener]);
    }

    #[test]
    fn a_zero_byte_is_refused() {
        let mut plan = Writer::default();
        plan.with_text("a\0b", |value| Op::Arg { value });
        assert!(plan.finish().unwrap_err().to_string().contains("zero byte"));
    }

    #[test]
    fn a_plan_has_a_bound() {
        let mut plan = Writer::default();
        let text = vec![b'x'; 1 << 20];
        for _ in 0..9 {
            plan.with_text(&text, |value| Op::Arg { value });
        }
        assert!(plan.operations.length() < MAX_LEN + (2 << 20));
        assert!(plan.finish().unwrap_err().to_string().contains("bytes"));
    }

    #[test]
    fn slots_are_used_again_and_run_out() {
        let mut plan = Writer::default();
        let slots: Vec<_> = (0..MAX_SLOTS).map(|_| plan.slot()).collect();
        plan.release(slots[5]);
        assert_eq!(plan.slot(), slots[5]);
        plan.slot();
        assert!(plan.finish().is_err());
    }
}
