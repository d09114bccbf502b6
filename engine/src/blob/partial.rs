//! Blobs that are being fetched: by one program at a time, gone on with by the next, and in several places at once.
//!
//! The bytes are in a file that is named by the digest. When they come out of order, what is there of them is written down
//! behind the place where the blob is going to end; that goes when it is whole.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{Blobs, Error, PARTIAL, Writer, nowhere};
use crate::oci::{Digest, Hasher};

/// What the map behind the bytes begins with.
const MAGIC: [u8; 8] = *b"engine\0\x01";
/// Magic, begin and length of the pieces.
const HEAD: u64 = 24;
const MOST_PIECES: u64 = 1 << 20;

/// Which bytes of a blob are there: all before the first piece, and the beginning of each piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    /// Where the first piece begins.
    begin: u64,
    /// How long pieces are, but for the last.
    piece: u64,
    /// How much of each is there.
    have: Vec<u64>,
}

/// The map of a blob on its way, shared by who adds the bytes in order and who writes them out of order.
#[derive(Debug, Default)]
pub(super) struct Course {
    map: Option<Map>,
    /// Nobody may write any more: somebody else may have the file by now.
    ended: bool,
}

pub(super) type Shared = Arc<Mutex<Course>>;

/// Keeps everybody from writing to a file of which the lock is about to go.
pub(super) fn end(course: &Shared) {
    course.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
}

impl Map {
    fn new(size: u64, begin: u64, piece: u64) -> Option<Self> {
        let count = size.checked_sub(begin)?.div_ceil(piece.max(1));
        (count <= MOST_PIECES && piece > 0).then(|| Self {
            begin,
            piece,
            have: vec![0; usize::try_from(count).unwrap_or(0)],
        })
    }

    fn read(file: &mut File, size: u64, length: u64) -> io::Result<Option<Self>> {
        if length < size + HEAD || length > size + HEAD + 8 * MOST_PIECES {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(size))?;
        file.take(length - size).read_to_end(&mut bytes)?;
        let mut words = bytes.chunks_exact(8).map(|word| word.try_into().map(u64::from_le_bytes).unwrap_or(0));
        if !bytes.starts_with(&MAGIC) {
            return Ok(None);
        }
        let (begin, piece) = (words.nth(1).unwrap_or(0), words.next().unwrap_or(0));
        let Some(mut map) = Self::new(size, begin, piece) else { return Ok(None) };
        if bytes.len() as u64 != HEAD + 8 * map.have.len() as u64 {
            return Ok(None);
        }
        let places: Vec<_> = (0..map.have.len()).map(|index| map.place(size, index)).collect();
        for (index, place) in places.iter().enumerate() {
            match words.next() {
                Some(have) if have <= place.end - place.start => map.have[index] = have,
                _ => return Ok(None),
            }
        }
        Ok(Some(map))
    }

    fn place(&self, size: u64, index: usize) -> std::ops::Range<u64> {
        let start = self.begin + self.piece * index as u64;
        start..start.saturating_add(self.piece).min(size)
    }

    /// How many bytes are there without a gap.
    fn prefix(&self, size: u64) -> u64 {
        for (index, have) in self.have.iter().enumerate() {
            let place = self.place(size, index);
            if *have < place.end - place.start {
                return place.start + have;
            }
        }
        size
    }

    fn bytes(&self) -> Vec<u8> {
        let words = [self.begin, self.piece].into_iter().chain(self.have.iter().copied());
        MAGIC.into_iter().chain(words.flat_map(u64::to_le_bytes)).collect()
    }
}

impl Blobs {
    /// The right to fetch a blob of `size` bytes, over all programs: `None` while somebody else has it. What was
    /// fetched of it before is there, and comes first: see [`Writer::existing`].
    pub fn claim(&self, digest: &Digest, size: u64) -> Result<Option<Writer>, Error> {
        let fail = |error: Errno| Error::host(format!("make blob {digest}"))(error.into());
        let (directory, name) = (&self.shared.directory, format!("{PARTIAL}{}", digest.hex()));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let file = fs::openat(directory, &*name, flags, Mode::from_raw_mode(0o600)).map_err(fail)?;
            match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Ok(None),
                locked => locked.map_err(fail)?,
            }
            let held = fs::fstat(&file).map_err(fail)?;
            match fs::statat(directory, &*name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(named) if named.st_ino == held.st_ino => {}
                // Who had it before has given it its name, or removed it.
                _ => continue,
            }
            let mut file = File::from(file);
            let mut existing = u64::try_from(held.st_size).unwrap_or(0);
            let mut found = None;
            if existing > size {
                let map = Map::read(&mut file, size, existing);
                found = map.map_err(Error::host(format!("read what was fetched of blob {digest}")))?;
                existing = match &found {
                    Some(map) => map.prefix(size),
                    None => {
                        fs::ftruncate(&file, 0).map_err(fail)?;
                        0
                    }
                };
            }
            return Ok(Some(Writer {
                blobs: self.clone(),
                name,
                file: Some(file),
                hasher: Hasher::new(),
                size: 0,
                existing,
                elsewhere: nowhere(),
                course: Arc::new(Mutex::new(Course { map: found, ended: false })),
                kept: false,
            }));
        }
    }
}

impl Writer {
    /// What was there before, how many bytes that are, and a file to read them from; they have to be added first.
    pub fn existing(&self) -> Result<Option<(u64, File)>, Error> {
        if self.existing == 0 {
            return Ok(None);
        }
        Ok(self.reopened("read what was fetched of a blob")?.map(|file| (self.existing, file)))
    }

    /// Another descriptor, with a place of its own.
    fn reopened(&self, what: &str) -> Result<Option<File>, Error> {
        let Some(file) = &self.file else { return Ok(None) };
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        File::options().read(true).write(true).open(path).map(Some).map_err(Error::host(what))
    }

    /// A way to write the later bytes of a blob of `size` bytes out of order, for whoever fetches it in several places.
    pub fn scatter(&self, size: u64) -> Result<Option<Scatter>, Error> {
        let Some(file) = self.reopened("fetch a blob in several places")? else { return Ok(None) };
        let places = Places { file, size, elsewhere: self.elsewhere.clone(), course: self.course.clone() };
        Ok(Some(Scatter { places: Arc::new(places) }))
    }
}

/// The later bytes of a blob, which come out of order. Cheap to clone. They have to be added to the [`Writer`] as well, in
/// order, which does not write them again.
#[derive(Debug, Clone)]
pub struct Scatter {
    places: Arc<Places>,
}

#[derive(Debug)]
struct Places {
    file: File,
    size: u64,
    elsewhere: Arc<AtomicU64>,
    course: Shared,
}

impl Scatter {
    /// Whether an earlier fetch has left bytes that are not the first ones.
    pub fn is_begun(&self) -> bool {
        self.with(|map| map.is_some())
    }

    /// From here on: all bytes before `begin` have been given to the writer. Blocks.
    pub fn begin(&self, begin: u64, piece: u64) -> Result<(), Error> {
        let places = &self.places;
        let mut course = self.course()?;
        if course.map.is_none() {
            course.map = Map::new(places.size, begin, piece);
        }
        places.elsewhere.store(begin, Ordering::Release);
        let write = |map: &Map| places.file.write_all_at(&map.bytes(), places.size);
        course.map.as_ref().map_or(Ok(()), write).map_err(Error::host("write down what is there of a blob"))
    }

    /// It is given up: the writer is to write again what comes from here on.
    pub fn end(&self) {
        self.places.elsewhere.store(u64::MAX, Ordering::Release);
    }

    /// What is missing of each piece; an empty range of one that is there.
    #[cfg(test)]
    pub(crate) fn missing(&self) -> Vec<std::ops::Range<u64>> {
        let count = self.pieces();
        (0..count).filter_map(|index| self.left(index)).collect()
    }

    /// How many pieces there are.
    pub fn pieces(&self) -> usize {
        self.with(|map| map.as_ref().map_or(0, |map| map.have.len()))
    }

    /// What is missing of one piece, if there is such a one.
    pub fn left(&self, index: usize) -> Option<std::ops::Range<u64>> {
        self.with(|map| {
            let map = map.as_ref()?;
            let (place, have) = (map.place(self.places.size, index), map.have.get(index)?);
            Some(place.start + have..place.end)
        })
    }

    /// How many bytes are there from the first one on.
    pub fn ready(&self) -> u64 {
        self.with(|map| map.as_ref().map_or(0, |map| map.prefix(self.places.size)))
    }

    /// How many bytes are there at all.
    pub fn have(&self) -> u64 {
        self.with(|map| map.as_ref().map_or(0, |map| map.begin + map.have.iter().sum::<u64>()))
    }

    /// Adds bytes to a piece. Blocks.
    pub fn write(&self, index: usize, bytes: &[u8]) -> Result<(), Error> {
        let places = &self.places;
        let mut course = self.course()?;
        let place = course.map.as_ref().map_or(0..0, |map| map.place(places.size, index));
        let have = course.map.as_mut().and_then(|map| map.have.get_mut(index));
        let Some(have) = have.filter(|have| place.start + **have + bytes.len() as u64 <= place.end) else {
            return Err(Error::host("write a piece of a blob")(io::ErrorKind::InvalidInput.into()));
        };
        places.file.write_all_at(bytes, place.start + *have).map_err(Error::host("write a piece of a blob"))?;
        *have += bytes.len() as u64;
        let note = places.file.write_all_at(&have.to_le_bytes(), places.size + HEAD + 8 * index as u64);
        note.map_err(Error::host("write down what is there of a blob"))
    }

    /// Reads bytes that are [`ready`](Self::ready). Blocks.
    pub fn read(&self, at: u64, length: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; length];
        self.places.file.read_exact_at(&mut bytes, at).map_err(Error::host("read what was fetched of a blob"))?;
        Ok(bytes)
    }

    /// For whoever writes: not after the end.
    fn course(&self) -> Result<MutexGuard<'_, Course>, Error> {
        let course = self.places.course.lock().unwrap_or_else(PoisonError::into_inner);
        match course.ended {
            true => Err(Error::host("fetch a blob that nobody wants any more")(io::ErrorKind::BrokenPipe.into())),
            false => Ok(course),
        }
    }

    fn with<T>(&self, look: impl FnOnce(&Option<Map>) -> T) -> T {
        look(&self.places.course.lock().unwrap_or_else(PoisonError::into_inner).map)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pieces_come_in_any_order_and_are_found_again() {
        let root = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(root.path()).unwrap();
        let contents: Vec<u8> = (0..100_u8).collect();
        let digest = Digest::of(&contents);
        let mut writer = blobs.claim(&digest, 100).unwrap().unwrap();
        writer.write(&contents[..10]).unwrap();
        let scatter = writer.scatter(100).unwrap().unwrap();
        assert!(!scatter.is_begun());
        scatter.begin(10, 40).unwrap();
        assert_eq!((scatter.missing(), scatter.ready()), (vec![10..50, 50..90, 90..100], 10));
        scatter.write(1, &contents[50..90]).unwrap();
        scatter.write(0, &contents[10..20]).unwrap();
        assert!(scatter.write(2, &contents[..11]).is_err());
        assert_eq!((scatter.missing(), scatter.ready(), scatter.have()), (vec![20..50, 90..90, 90..100], 20, 60));
        writer.keep();
        drop(writer);
        // Whoever is late does not write to what may be another's by now.
        assert!(scatter.write(2, &contents[90..]).is_err() && scatter.begin(10, 40).is_err());
        drop(scatter);

        // Somebody else, who thinks that it has another size, has nothing of it.
        std::fs::copy(part(&root, &digest), root.path().join("copy")).unwrap();
        assert!(blobs.claim(&digest, 99).unwrap().unwrap().existing().unwrap().is_none());
        std::fs::rename(root.path().join("copy"), part(&root, &digest)).unwrap();
        let mut writer = blobs.claim(&digest, 100).unwrap().unwrap();
        let (length, _) = writer.existing().unwrap().unwrap();
        assert_eq!(length, 20);
        let scatter = writer.scatter(100).unwrap().unwrap();
        assert!(scatter.is_begun());
        scatter.begin(20, 7).unwrap();
        assert_eq!(scatter.missing(), [20..50, 90..90, 90..100]);
        writer.write(&contents[..20]).unwrap();
        scatter.write(2, &contents[90..]).unwrap();
        scatter.write(0, &contents[20..50]).unwrap();
        assert_eq!(scatter.ready(), 100);
        writer.write(&scatter.read(20, 80).unwrap()).unwrap();
        writer.seal(Some(&digest)).unwrap().publish().unwrap();
        assert_eq!(std::fs::read(blobs.path(&digest)).unwrap(), contents);
    }

    fn part(root: &tempfile::TempDir, digest: &Digest) -> std::path::PathBuf {
        root.path().join(format!("blobs/sha256/{PARTIAL}{}", digest.hex()))
    }

    #[test]
    fn a_map_that_is_none_is_not_believed() {
        let root = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(root.path()).unwrap();
        let digest = Digest::of(b"x");
        let map = Map { begin: 4, piece: 3, have: vec![3, 1] };
        let whole = [&[7; 10][..], &map.bytes()].concat();
        for (bytes, existing) in [
            (whole.clone(), Some(8)),
            (whole[..whole.len() - 1].to_vec(), None),
            ([&[7; 10][..], &Map { have: vec![4, 1], ..map.clone() }.bytes()].concat(), None),
            ([&[7; 10][..], &Map { piece: 0, ..map.clone() }.bytes()].concat(), None),
            ([&[7; 10][..], &Map { begin: 11, ..map.clone() }.bytes()].concat(), None),
            ([&[7; 10][..], &Map { begin: u64::MAX, piece: u64::MAX, ..map.clone() }.bytes()].concat(), None),
            (vec![7; whole.len()], None),
        ] {
            std::fs::write(part(&root, &digest), bytes).unwrap();
            let writer = blobs.claim(&digest, 10).unwrap().unwrap();
            assert_eq!(writer.existing().unwrap().map(|(length, _)| length), existing);
        }
    }
}
