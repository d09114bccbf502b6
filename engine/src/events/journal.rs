//! The journal: the latest events on disk, so that an engine that opens knows what happened before.
//!
//! A line is an event as JSON, appended by one write, so that engines on one root do not mix their lines. A file that is
//! full takes the place of the one before. Nothing is synced: events are news, and what they tell of has its own record.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::Event;

const FILE: &str = "events";
const BEFORE: &str = "events.1";
/// A file that has so many bytes is full.
const FULL: u64 = 4 << 20;
/// No event is longer, in bytes.
const LONGEST: usize = 1 << 20;

/// Where events are written down.
#[derive(Debug)]
pub(super) struct Journal {
    directory: PathBuf,
    file: File,
}

impl Journal {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        Ok(Self { directory: directory.to_owned(), file: open(directory)? })
    }

    /// Writes an event down.
    pub(super) fn write(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        if line.len() > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("an event of {} bytes", line.len())));
        }
        // Others write too, and a file that one of them has put aside is full.
        if self.file.metadata()?.len() >= FULL {
            self.turn()?;
        }
        self.file.write_all(&line)
    }

    /// Begins a new file, unless another engine has.
    fn turn(&mut self) -> io::Result<()> {
        let path = self.directory.join(FILE);
        flock(&self.file, FlockOperation::LockExclusive)?;
        let ours = self.file.metadata()?;
        let same = std::fs::metadata(&path).is_ok_and(|now| (now.dev(), now.ino()) == (ours.dev(), ours.ino()));
        if same {
            std::fs::rename(&path, self.directory.join(BEFORE))?;
        }
        let opened = open(&self.directory);
        flock(&self.file, FlockOperation::Unlock)?;
        self.file = opened?;
        Ok(())
    }
}

fn open(directory: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(directory.join(FILE))
}

/// The last `count` events, oldest first. Lines that are cut or damaged are left out.
pub(super) fn latest(directory: &Path, count: usize) -> VecDeque<Event> {
    let mut events = VecDeque::new();
    for name in [BEFORE, FILE] {
        // A file that is not there, or cannot be read, has nothing to tell.
        let Ok(bytes) = tail(&directory.join(name)) else { continue };
        for line in bytes.split(|byte| *byte == b'\n') {
            if let Ok(event) = serde_json::from_slice(line) {
                if events.len() == count {
                    events.pop_front();
                }
                events.push_back(event);
            }
        }
    }
    // Those of several engines are written about when they happen.
    events.make_contiguous().sort_by_key(|event: &Event| event.at_nanos);
    events
}

/// The last bytes of a file, no more than a full one has.
fn tail(path: &Path) -> io::Result<Vec<u8>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let mut file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let most = FULL + LONGEST as u64;
    file.seek(SeekFrom::Start(metadata.len().saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::events::EventType;

    fn event(number: i64) -> Event {
        Event { at_nanos: number, ..Event::new(EventType::Container, "start", "x".repeat(4000)) }
    }

    #[test]
    fn the_latest_are_found_again_and_damage_is_left_out() {
        let place = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(place.path()).unwrap();
        (1..=3).for_each(|number| journal.write(&event(number)).unwrap());
        let mut other = Journal::open(place.path()).unwrap();
        other.file.write_all(b"nonsense\n{\"kind\":\n").unwrap();
        other.write(&event(4)).unwrap();
        let times = |count| latest(place.path(), count).iter().map(|event| event.at_nanos).collect::<Vec<_>>();
        assert_eq!(times(9), [1, 2, 3, 4]);
        assert_eq!(times(2), [3, 4]);
        assert!(latest(&place.path().join("nowhere"), 9).is_empty());
    }

    #[test]
    fn files_are_bounded_also_with_two_engines() {
        let place = tempfile::tempdir().unwrap();
        let mut engines = [Journal::open(place.path()).unwrap(), Journal::open(place.path()).unwrap()];
        let count = i64::try_from(FULL / 2000).unwrap();
        for number in 0..count {
            engines[usize::from(number % 2 == 0)].write(&event(number)).unwrap();
        }
        let size = |name: &str| std::fs::metadata(place.path().join(name)).unwrap().len();
        assert!(size(FILE) <= 2 * FULL && size(BEFORE) <= 2 * FULL);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2);
        let kept = latest(place.path(), 100);
        assert_eq!((kept.len(), kept.back().unwrap().at_nanos), (100, count - 1));
    }
}
