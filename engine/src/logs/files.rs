//! The files of one log: the one that is being written, `name`, and the older ones `name.1` or `name.1.gz`, `name.2` and so on.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::piece::Piece;

/// The most files that are looked for.
const MAX_FILES: u32 = 1000;
/// How much is read at once when looking for the last lines.
const BLOCK: usize = 64 << 10;

/// The files that were there at one moment, oldest first, and how they are found.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    name: String,
    /// Those that are still to be read; the first is the one that is being read.
    open: std::collections::VecDeque<Piece>,
    /// Of the newest file only so many bytes are read.
    end: Option<u64>,
}

impl Files {
    pub(super) fn open(directory: &Path, name: &str) -> io::Result<Self> {
        let mut files =
            Self { directory: directory.to_owned(), name: name.to_owned(), open: Default::default(), end: None };
        // The newest first: a file that is renamed meanwhile is met twice, never missed. In the midst of a rotation one number
        // is free, and older files lie behind it.
        let mut was_free = false;
        for number in 0..MAX_FILES {
            match files.open_number(number)? {
                Some(piece) => {
                    let is_known = files.open.front().map_or(Ok(false), |newer| newer.is(&piece))?;
                    if !is_known {
                        files.open.push_front(piece);
                    }
                }
                None if was_free => break,
                None => was_free = true,
            }
        }
        Ok(files)
    }

    /// Reads the newest file only up to this offset.
    pub(super) fn end_at(mut self, offset: u64) -> Self {
        self.end = Some(offset);
        self
    }

    /// One that is being packed meanwhile has both names for a moment, and then the second.
    fn open_number(&self, number: u32) -> io::Result<Option<Piece>> {
        if number == 0 {
            return self.open_file(&self.name)?.map(Piece::plain).transpose();
        }
        let name = format!("{}.{number}", self.name);
        if let Some(file) = self.open_file(&name)? {
            return Piece::plain(file).map(Some);
        }
        self.open_file(&format!("{name}.gz"))?.map(|file| Piece::packed(file, &self.directory)).transpose()
    }

    fn open_file(&self, name: &str) -> io::Result<Option<File>> {
        let path = self.directory.join(name);
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        match std::fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&path) {
            Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
            Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is not a file", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
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
        let Some(last) = self.open.back() else {
            let fresh = Self::open(&self.directory, &self.name)?;
            self.open = fresh.open;
            return Ok(!self.open.is_empty());
        };
        let fresh = Self::open(&self.directory, &self.name)?;
        let same = fresh.open.iter().map(|piece| piece.is(last)).collect::<io::Result<Vec<_>>>()?;
        let newer = match same.iter().rposition(|same| *same) {
            Some(place) => place + 1,
            // So much was written that it is gone; go on with the oldest that is left.
            None => 0,
        };
        let before = self.open.len();
        self.open.extend(fresh.open.into_iter().skip(newer));
        Ok(self.open.len() > before)
    }

    /// Moves to where the last `count` lines begin. `ends_line` says whether a record is the last (or only) one of its line.
    pub(super) fn seek_to_tail(&mut self, count: u64, ends_line: impl Fn(&[u8]) -> bool) -> io::Result<()> {
        let mut missing = count;
        let mut kept = std::collections::VecDeque::new();
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
