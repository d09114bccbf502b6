//! What an executor tells the monitor, or whoever launched it without one, until the program runs. The end of the
//! connection is the good news: it is close-on-exec.

use crate::protocol::{Failure, Reason};
use crate::system::{self, Descriptor, MAX_RIGHTS, Result};

/// A message of the executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// A step failed; the executor is gone.
    Failed(Failure),
    /// The executor goes on in a child of the monitor with this pid.
    Moved(i32),
    /// The master and the slave of a new terminal come with this message.
    Terminal,
    /// Everything is ready; one byte of the monitor lets the executor go on.
    Waiting,
    /// `execve` comes next.
    Executing,
    /// A launch without a monitor: the executor is the child of the launcher's parent and has this pid.
    Born(i32),
    /// The hooks of the engine's side are to be run; one byte of the monitor lets the executor go on.
    Prepared,
}

/// The length of a report, in bytes.
pub const LENGTH: usize = 16;

impl Report {
    fn encode(self) -> [u8; LENGTH] {
        let words: [u32; 4] = match self {
            Self::Failed(failure) => [1, failure.index, failure.errno.cast_unsigned(), failure.reason as u32],
            Self::Moved(pid) => [2, pid.cast_unsigned(), 0, 0],
            Self::Terminal => [3, 0, 0, 0],
            Self::Waiting => [4, 0, 0, 0],
            Self::Executing => [5, 0, 0, 0],
            Self::Born(pid) => [6, pid.cast_unsigned(), 0, 0],
            Self::Prepared => [7, 0, 0, 0],
        };
        let mut bytes = [0; LENGTH];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// Reads a report; `None` when the bytes are none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut words = [0; 4];
        if bytes.len() != LENGTH {
            return None;
        }
        for (word, place) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_ne_bytes(place.try_into().ok()?);
        }
        Some(match words[0] {
            1 => Self::Failed(Failure {
                index: words[1],
                errno: words[2].cast_signed(),
                reason: Reason::from_number(words[3])?,
            }),
            2 => Self::Moved(words[1].cast_signed()),
            3 => Self::Terminal,
            4 => Self::Waiting,
            5 => Self::Executing,
            6 => Self::Born(words[1].cast_signed()),
            7 => Self::Prepared,
            _ => return None,
        })
    }

    /// Tells the monitor; up to two descriptors may go with it.
    pub(crate) fn send(self, channel: Descriptor, descriptors: &[Descriptor]) -> Result<()> {
        system::send(channel, &self.encode(), descriptors).map(drop)
    }
}

/// What [`receive`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A report, and the descriptors that came with it; -1 for none.
    Report(Report, [Descriptor; 2]),
    /// The executor became the program or died.
    End,
    /// Nothing yet.
    Nothing,
}

/// Looks for a report without waiting.
pub(crate) fn receive(channel: Descriptor) -> Heard {
    let mut buffer = [0; LENGTH];
    let mut rights = [-1; MAX_RIGHTS];
    let Ok(received) = system::receive(channel, &mut buffer, &mut rights, false) else { return Heard::Nothing };
    let [first, second, others @ ..] = rights;
    others.into_iter().for_each(system::close);
    if received.length == 0 {
        return Heard::End;
    }
    match Report::decode(&buffer[..received.length]) {
        Some(report) => Heard::Report(report, [first, second]),
        None => Heard::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read_as_they_were_sent() {
        let (ours, theirs) = system::socket_pair().unwrap();
        let failure = Failure { index: 7, errno: 13, reason: Reason::NoSuchUser };
        let all = [
            Report::Failed(failure),
            Report::Moved(77),
            Report::Terminal,
            Report::Waiting,
            Report::Executing,
            Report::Born(7),
            Report::Prepared,
        ];
        assert_eq!(receive(ours), Heard::Nothing);
        for report in all {
            report.send(theirs, &[]).unwrap();
            assert_eq!(receive(ours), Heard::Report(report, [-1, -1]));
        }
        Report::Terminal.send(theirs, &[theirs, theirs]).unwrap();
        system::close(theirs);
        let Heard::Report(Report::Terminal, copies) = receive(ours) else { panic!("no report") };
        assert_eq!(receive(ours), Heard::Nothing);
        assert!(copies.iter().all(|copy| *copy > 2));
        copies.into_iter().for_each(system::close);
        assert_eq!(receive(ours), Heard::End);
        system::close(ours);
    }
}
