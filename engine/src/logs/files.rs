//! The files of one log: the one that is being written, `name`, and the older ones `name.1` or `name.1.gz`, `name.2` and so on.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::piece::Piece;

/// The most files that are looked for.
const MAX_FILES: u32 = 1000;
/// How often the files are looked at anew because they moved meanwhile.
const MAX_LOOKS: u32 = 100;
/// How much is read at once when looking for the last lines.
const BLOCK: usize = 64 << 10;

/// The files that were there at one moment, oldest first, and how they are found.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    name: String,
    /// Those that are still to be read; the first is the one that is being read.
    open: VecDeque<Piece>,
    /// Of the newest file only so many bytes are read.
    end: Option<u64>,
}

impl Files {
    pub(super) fn open(directory: &Path, name: &str) -> io::Result<Self> {
        let mut files =
            Self { directory: directory.to_owned(), name: name.to_owned(), open: VecDeque::default(), end: None };
        files.open = files.look(&open)?;
        Ok(files)
    }

    /// The files that are there at one moment, oldest first.
    ///
    /// In a rotation all move on by one number, the oldest first and the newest last. Whoever finds the newest where it was has
    /// seen at most one that was under way, and missed nothing; otherwise what was seen belongs to several moments.
    fn look(&self, open: &Opener<'_>) -> io::Result<VecDeque<Piece>> {
        for _ in 0..MAX_LOOKS {
            let pieces = self.look_once(open)?;
            if self.newest()? == pieces.back().map(Piece::inode) {
                return Ok(pieces);
            }
        }
        // They move faster than they can be looked at.
        Ok(self.open_number(0, open)?.into_iter().collect())
    }

    fn look_once(&self, open: &Opener<'_>) -> io::Result<VecDeque<Piece>> {
        let mut pieces = VecDeque::<Piece>::new();
        // The newest first: a file that is renamed meanwhile is met twice, never missed. In the midst of a rotation one number
        // is free, and older files lie behind it.
        let mut was_free = false;
        for number in 0..MAX_FILES {
            match self.open_number(number, open)? {
                Some(piece) => {
                    let is_known = pieces.front().map_or(Ok(false), |newer| newer.is(&piece))?;
                    if !is_known {
                        pieces.push_front(piece);
                    }
                }
                None if was_free => break,
                None => was_free = true,
            }
        }
        Ok(pieces)
    }

    /// The inode of the newest file, which has the number 1 in the midst of a rotation.
    fn newest(&self) -> io::Result<Option<u64>> {
        for ending in ["", ".1", ".1.gz"] {
            match std::fs::symlink_metadata(self.directory.join(format!("{}{ending}", self.name))) {
                Ok(found) => return Ok(Some(found.ino())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Reads the newest file only up to this offset.
    pub(super) fn end_at(mut self, offset: u64) -> Self {
        self.end = Some(offset);
        self
    }

    /// One that is being packed meanwhile has both names for a moment, and then the second.
    fn open_number(&self, number: u32, open: &Opener<'_>) -> io::Result<Option<Piece>> {
        let path = |ending: &str| self.directory.join(format!("{}{ending}", self.name));
        if number == 0 {
            return open(&path(""))?.map(Piece::plain).transpose();
        }
        if let Some(file) = open(&path(&format!(".{number}")))? {
            return Piece::plain(file).map(Some);
        }
        open(&path(&format!(".{number}.gz")))?.map(|file| Piece::packed(file, &self.directory)).transpose()
    }

    /// Reads on in the present file. 0 means that nothing more has been written to it yet.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let newest = self.open.len() == 1;
        let Some(current) = self.open.front_mut() else { return Ok(0) };
        let mut room = buffer.len();
        if let Some(end) = self.end.filter(|_| newest) {
            let left = end.saturating_sub(current.position()?);
            room = room.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        current.read(&mut buffer[..room])
    }

    /// Goes on to the next file that is known; call it when [`Files::read`] answered 0. Nothing is written to a file any more
    /// once there is a newer one.
    pub(super) fn turn(&mut self) -> bool {
        let known = self.open.len() > 1;
        if known {
            self.open.pop_front();
        }
        known
    }

    /// Looks whether there is a newer file than the last one known.
    pub(super) fn advance(&mut self) -> io::Result<bool> {
        self.advance_by(&open)
    }

    fn advance_by(&mut self, open: &Opener<'_>) -> io::Result<bool> {
        let last = self.open.back();
        if last.is_some() && self.newest()? == last.map(Piece::inode) {
            return Ok(false);
        }
        let fresh = self.look(open)?;
        let newer = match last {
            Some(last) => {
                let same = fresh.iter().map(|piece| piece.is(last)).collect::<io::Result<Vec<_>>>()?;
                // When it is gone, so much was written, and what was older went before it: go on with the oldest that is left.
                same.iter().rposition(|same| *same).map_or(0, |place| place + 1)
            }
            None => 0,
        };
        let before = self.open.len();
        self.open.extend(fresh.into_iter().skip(newer));
        Ok(self.open.len() > before)
    }

    /// Moves to where the last `count` lines begin. `ends_line` says whether a record is the last (or only) one of its line.
    pub(super) fn seek_to_tail(&mut self, count: u64, ends_line: impl Fn(&[u8]) -> bool) -> io::Result<()> {
        let mut missing = count;
        let mut kept = VecDeque::new();
        let mut newest = true;
        while let Some(mut piece) = self.open.pop_back() {
            let file = piece.seekable()?;
            let length = file.metadata()?.len();
            let start = tail_start(file, length, &mut missing, newest, &ends_line)?;
            newest = false;
            io::Seek::seek(file, io::SeekFrom::Start(start.unwrap_or(0)))?;
            kept.push_front(piece);
            if start.is_some() {
                break;
            }
        }
        self.open = kept;
        Ok(())
    }

    /// Moves to where records of this time may begin, without reading what comes before. `time_of` reads a record's time.
    /// Records lie about in the order of their times; those before this one are still to be left out one by one.
    pub(super) fn seek_to_time(&mut self, since: i64, time_of: impl Fn(&[u8]) -> Option<i64>) -> io::Result<()> {
        // A file is of no interest when the next one begins early enough already.
        while let Some(next) = self.open.get(1) {
            if next.first_time()?.is_none_or(|at| at >= since) {
                break;
            }
            self.open.pop_front();
        }
        let Some(file) = self.open.front_mut().map(Piece::seekable).transpose()? else { return Ok(()) };
        let (mut low, mut high) = (0, file.metadata()?.len());
        while high - low > BLOCK as u64 {
            let middle = low + (high - low) / 2;
            match record_after(file, middle)? {
                Some((at, record)) if at < high && time_of(&record).is_some_and(|time| time < since) => low = at,
                _ => high = middle,
            }
        }
        io::Seek::seek(file, io::SeekFrom::Start(low))?;
        Ok(())
    }
}

/// How a file is opened, if it is there.
type Opener<'a> = dyn Fn(&Path) -> io::Result<Option<File>> + 'a;

fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    match std::fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is not a file", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The first whole record that begins behind this place, and where; nothing when there is none within a block.
fn record_after(file: &File, place: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
    let mut block = vec![0; 2 * BLOCK];
    let mut filled = 0;
    while filled < block.len() {
        match file.read_at(&mut block[filled..], place + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    let block = &block[..filled];
    let newline = |from: usize| block[from..].iter().position(|byte| *byte == b'\n').map(|found| from + found);
    let Some(begin) = newline(0).map(|found| found + 1) else { return Ok(None) };
    Ok(newline(begin).map(|end| (place + begin as u64, block[begin..end].to_vec())))
}

/// Where in the file the `missing` last lines begin; nothing when it has fewer, which are then counted off.
///
/// Records are met from the last to the first. One that ends a line begins a new one seen from behind, so the place is
/// found at the end of record number `missing + 1` of those that do.
fn tail_start(
    file: &File,
    length: u64,
    missing: &mut u64,
    newest: bool,
    ends_line: &impl Fn(&[u8]) -> bool,
) -> io::Result<Option<u64>> {
    let mut scanned = length;
    // The bytes between `scanned` and the end of the record that is being looked for.
    let mut carry: Vec<u8> = Vec::new();
    let mut end_of_record: Option<u64> = None;
    let mut first = newest;
    let mut block = vec![0; BLOCK];
    loop {
        let size = usize::try_from(scanned.min(BLOCK as u64)).unwrap_or(BLOCK);
        let from = scanned - size as u64;
        file.read_exact_at(&mut block[..size], from)?;
        let mut upper = size;
        loop {
            let newline = block[..upper].iter().rposition(|byte| *byte == b'\n');
            let record_starts = newline.map(|at| at + 1);
            if let (Some(start), Some(end)) = (record_starts.or((from == 0).then_some(0)), end_of_record) {
                let mut record = block[start..upper].to_vec();
                record.extend_from_slice(&carry);
                // The end of the newest record begins a line seen from behind even when it is unfinished.
                if ends_line(&record) || first {
                    if *missing == 0 {
                        return Ok(Some(end));
                    }
                    *missing -= 1;
                }
                first = false;
                carry.clear();
            }
            match newline {
                Some(at) => {
                    end_of_record = Some(from + at as u64 + 1);
                    upper = at;
                    carry.clear();
                }
                None => break,
            }
        }
        if from == 0 {
            return Ok(None);
        }
        let mut longer = block[..upper].to_vec();
        // A record is bounded; of a longer one only the end is needed to know whether it ends a line.
        if carry.len() < 4 * BLOCK {
            longer.extend_from_slice(&carry);
            carry = longer;
        }
        scanned = from;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use super::*;
    use crate::logs::pack::{self, By};

    /// A log of at most four files, in which each line has the next number.
    struct Log {
        place: tempfile::TempDir,
        written: Cell<u64>,
        /// The number up to which files have moved in the rotation that is under way.
        moved: Cell<Option<u32>>,
    }

    impl Log {
        fn path(&self, ending: &str) -> PathBuf {
            self.place.path().join(format!("log{ending}"))
        }

        fn write(&self, records: u64) {
            use std::io::Write as _;
            let mut file = File::options().append(true).create(true).open(self.path("")).unwrap();
            for _ in 0..records {
                let number = self.written.replace(self.written.get() + 1);
                let time = format!("2026-01-01T00:00:{:02}.{:03}Z", number / 1000, number % 1000);
                writeln!(file, "{{\"log\":\"{number}\\n\",\"stream\":\"stdout\",\"time\":\"{time}\"}}").unwrap();
            }
        }

        /// Does the next step of a rotation, as the monitor does it.
        fn step(&self) {
            let number = match self.moved.get() {
                None => {
                    for form in ["", ".gz"] {
                        let _ = std::fs::remove_file(self.path(&format!(".3{form}")));
                    }
                    2
                }
                Some(0) => {
                    File::create(self.path("")).unwrap();
                    self.moved.set(None);
                    return self.write(2);
                }
                Some(number) => number - 1,
            };
            let name = |number: u32, form: &str| match number {
                0 => self.path(""),
                _ => self.path(&format!(".{number}{form}")),
            };
            for form in ["", ".gz"] {
                if number > 0 || form.is_empty() {
                    let _ = std::fs::rename(name(number, form), name(number + 1, form));
                }
            }
            self.moved.set(Some(number));
        }

        fn rotate(&self) {
            self.step();
            while self.moved.get().is_some() {
                self.step();
            }
        }

        /// Packs the oldest file, whole.
        fn pack(&self) {
            // In a rotation the monitor does nothing else.
            if self.moved.get().is_none()
                && let Some(file) = pack::pack(self.place.path(), "log", By::Packer).unwrap()
            {
                pack::place(self.place.path(), "log", &file).unwrap();
            }
        }
    }

    /// The numbers of all lines that are there to be read.
    fn rest(files: &mut Files) -> Vec<u64> {
        let mut text = Vec::new();
        let mut buffer = vec![0; 4096];
        loop {
            match files.read(&mut buffer).unwrap() {
                0 if !files.turn() => break,
                count => text.extend_from_slice(&buffer[..count]),
            }
        }
        let number = |line: &str| line.strip_prefix("{\"log\":\"")?.split_once('\\')?.0.parse().ok();
        String::from_utf8(text).unwrap().lines().map(|line| number(line).unwrap()).collect()
    }

    #[test]
    fn whatever_happens_between_two_looks_at_names_nothing_is_read_twice() {
        // What happens before each of the first four files is opened.
        for script in 0..4_u32.pow(4) {
            let log = Log { place: tempfile::tempdir().unwrap(), written: Cell::new(0), moved: Cell::new(None) };
            log.write(2);
            log.rotate();
            log.pack();
            log.rotate();
            let mut files = Files::open(log.place.path(), "log").unwrap();
            let mut seen = rest(&mut files);
            assert_eq!(seen, (0..log.written.get()).collect::<Vec<_>>());
            log.rotate();
            let left = Cell::new(script);
            let interleaved = |path: &Path| {
                match left.get() % 4 {
                    0 => {}
                    1 => log.step(),
                    2 => log.pack(),
                    _ => log.rotate(),
                }
                left.set(left.get() / 4);
                open(path)
            };
            files.advance_by(&interleaved).unwrap();
            seen.extend(rest(&mut files));
            while log.moved.get().is_some() {
                log.step();
            }
            log.write(1);
            while files.advance().unwrap() {
                seen.extend(rest(&mut files));
            }
            seen.extend(rest(&mut files));
            assert!(seen.is_sorted_by(|one, next| one < next), "{script}: {seen:?}");
            assert_eq!(seen.last(), Some(&(log.written.get() - 1)), "{script}");
            // As many files as are kept were never missed.
            let jump = seen.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            assert!(jump == 1 || script > 3, "{script}: {seen:?}");
        }
    }

    #[test]
    fn a_file_that_is_being_packed_keeps_its_inode_to_itself() {
        let log = Log { place: tempfile::tempdir().unwrap(), written: Cell::new(0), moved: Cell::new(None) };
        log.write(2);
        log.rotate();
        let file = pack::pack(log.place.path(), "log", By::Packer).unwrap().unwrap();
        // It goes, and others come.
        for _ in 0..4 {
            log.rotate();
        }
        pack::place(log.place.path(), "log", &file).unwrap();
        let mut files = Files::open(log.place.path(), "log").unwrap();
        assert_eq!(rest(&mut files), (4..log.written.get()).collect::<Vec<_>>());
        assert_eq!(std::fs::read_dir(log.place.path()).unwrap().count(), 4);
    }

    #[test]
    fn packed_files_that_had_the_same_inode_one_after_the_other_are_both_read() {
        let log = Log { place: tempfile::tempdir().unwrap(), written: Cell::new(0), moved: Cell::new(None) };
        for number in [2, 1] {
            log.write(2);
            let plain = std::fs::read(log.path("")).unwrap();
            std::fs::remove_file(log.path("")).unwrap();
            let first_time = 1_767_225_600_000_000_000 - i64::from(number);
            let origin = crate::logs::piece::Origin { inode: 7, first_time };
            let file = File::create(log.path(&format!(".{number}.gz"))).unwrap();
            let mut packer = flate2::GzBuilder::new().extra(origin.to_bytes()).write(file, flate2::Compression::fast());
            io::Write::write_all(&mut packer, &plain).unwrap();
            packer.finish().unwrap();
        }
        log.write(2);
        let mut files = Files::open(log.place.path(), "log").unwrap();
        assert_eq!(rest(&mut files), (0..6).collect::<Vec<_>>());
    }
}
