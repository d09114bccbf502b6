//! The Engine's side of what is said to the embedded program: plans are written here, messages are re-exported.

use std::io;
use std::os::fd::OwnedFd;

pub use engine_shim::plan;
pub use engine_shim::protocol::{
    Attach, Event, Failure, INIT, MAX_DETACH_KEYS, MAX_MESSAGE, MAX_PREFACE, Reason, Refusal, Request, Stage,
};
pub(crate) use engine_shim::report::{LENGTH as REPORT_LEN, Report};

use engine_sys::memfd;
use plan::{HEADER_LEN, MAGIC, MAX_DESCRIPTORS, MAX_LEN, Op, VERSION};

/// A finished plan, as it is handed to the monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanBytes {
    bytes: Vec<u8>,
    descriptors: usize,
}

impl PlanBytes {
    /// The bytes that [`plan::Plan::parse`] reads.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many descriptors have to travel with the plan.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        self.descriptors
    }

    /// The sealed memory file in which it is handed over.
    pub(crate) fn to_file(&self) -> io::Result<OwnedFd> {
        memfd::sealed("engine-plan", &self.bytes, memfd::Use::Read)
    }
}

/// Writes a plan operation by operation.
///
/// ```
/// use engine_runtime::protocol::{PlanWriter, plan::Op};
///
/// let mut plan = PlanWriter::new();
/// plan.push(&Op::Arg { value: c"/bin/true" }).push(&Op::Execute {});
/// let bytes = plan.finish(0)?;
/// # Ok::<(), engine_runtime::protocol::TooLarge>(())
/// ```
#[derive(Clone, Debug)]
pub struct PlanWriter {
    bytes: Vec<u8>,
    count: u32,
}

/// A plan is longer than [`MAX_LEN`] or needs more descriptors than [`MAX_DESCRIPTORS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the container needs a plan of {length} bytes and {descriptors} descriptors; at most {MAX_LEN} and {MAX_DESCRIPTORS} are possible"
)]
pub struct TooLarge {
    /// The length, in bytes.
    pub length: usize,
    /// The number of descriptors.
    pub descriptors: usize,
}

impl Default for PlanWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl PlanWriter {
    /// An empty plan.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: vec![0; HEADER_LEN], count: 0 }
    }

    /// Adds an operation.
    pub fn push(&mut self, op: &Op<'_>) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&op.tag().to_le_bytes());
        self.bytes.extend_from_slice(&[0; 6]);
        op.write(&mut |field| self.bytes.extend_from_slice(field));
        // An operation longer than 4 GiB makes the plan longer than `MAX_LEN`, which `finish` refuses.
        let length = u32::try_from(self.bytes.len() - start - 8).unwrap_or(u32::MAX);
        self.bytes[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
        self.count += 1;
        self
    }

    /// How many operations there are so far: the index that the next one will have.
    #[must_use]
    pub fn operations(&self) -> u32 {
        self.count
    }

    /// How many bytes there are so far.
    #[must_use]
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Completes the plan. `descriptors` is how many travel with it.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn finish(mut self, descriptors: usize) -> Result<PlanBytes, TooLarge> {
        let length = self.bytes.len();
        let too_large = TooLarge { length, descriptors };
        if length > MAX_LEN || descriptors > MAX_DESCRIPTORS {
            return Err(too_large);
        }
        let words = [
            VERSION,
            u32::try_from(length).map_err(|_| too_large)?,
            self.count,
            u32::try_from(descriptors).map_err(|_| too_large)?,
        ];
        self.bytes[..8].copy_from_slice(&MAGIC);
        for (place, word) in self.bytes[8..HEADER_LEN].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        Ok(PlanBytes { bytes: self.bytes, descriptors })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::plan::{Fd, Malformed, Plan, Slot};
    use super::*;

    fn some_operations() -> Vec<Op<'static>> {
        vec![
            Op::Namespaces { flags: 0x2000_0000 },
            Op::JsonLog { directory: Fd(3), name: c"log", max_size: 1 << 40, max_files: 5 },
            Op::LogAttributes { text: c"{\"a\":\"1\"}" },
            Op::OpenStdin { once: 1 },
            Op::FsString { slot: Slot(31), key: c"lowerdir+", value: c"" },
            Op::MakeNode { path: c"dev/null", mode: 0o20666, major: 1, minor: 3, uid: 0, gid: 0 },
            Op::OomScoreAdjust { value: -999 },
            Op::Seccomp { flags: 2, filter: &[1, 2, 3] },
            Op::Execute {},
        ]
    }

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        let mut writer = PlanWriter::new();
        for op in some_operations() {
            writer.push(&op);
        }
        let bytes = writer.finish(4).unwrap();
        let plan = Plan::parse(bytes.as_bytes()).unwrap();
        assert_eq!(plan.descriptors(), 4);
        assert_eq!(plan.operations().collect::<Vec<_>>(), some_operations());
    }

    #[test]
    fn a_plan_that_is_cut_or_changed_is_refused() {
        let mut writer = PlanWriter::new();
        writer.push(&Op::Hostname { name: c"box" }).push(&Op::Execute {});
        let bytes = writer.finish(0).unwrap().as_bytes().to_vec();
        for length in 0..bytes.len() {
            assert!(Plan::parse(&bytes[..length]).is_err(), "{length}");
        }
        for at in 0..HEADER_LEN {
            let mut bad = bytes.clone();
            bad[at] ^= 0xc0;
            assert!(Plan::parse(&bad).is_err(), "{at}");
        }
        let mut unknown = bytes.clone();
        unknown[HEADER_LEN + 1] = 0x7f;
        assert_eq!(Plan::parse(&unknown).unwrap_err(), Malformed::Operation(0));
    }

    #[test]
    fn a_plan_that_is_too_large_is_not_made() {
        let mut writer = PlanWriter::new();
        writer.push(&Op::Seccomp { flags: 0, filter: &vec![0; MAX_LEN] });
        assert_eq!(writer.finish(0).unwrap_err().length, MAX_LEN + HEADER_LEN + 8 + 4 + 4);
        assert!(PlanWriter::new().finish(MAX_DESCRIPTORS + 1).is_err());
    }
}
