//! The log of a container: lines of its output as records in a file that is rotated by size and age.

use core::ffi::CStr;

use super::json::{MAX_LINE, MAX_RECORD, Tail, Writer, attributes_in_record};
use super::table::Queue;
use crate::executor::decimal;
use crate::system::{self, Descriptor, Errno, Result};

const NAME_MAX: usize = 255;
/// More files than this are not kept.
const MAX_FILES: u32 = 1000;
/// Records are gathered up to this, in bytes of address space.
const GATHER: usize = MAX_RECORD * 2;
/// More bytes of attributes are refused; a record with them is to fit into what is gathered.
const MAX_ATTRIBUTES: usize = 64 << 10;
const _: () = assert!(MAX_RECORD + attributes_in_record(MAX_ATTRIBUTES) <= GATHER);

/// What the files of a log are bounded by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes of a file; 0 is no bound.
    pub(crate) max_size: u64,
    /// Nanoseconds that a file takes records; 0 is no bound.
    pub(crate) max_age: u64,
    /// Files, the present one among them.
    pub(crate) max_files: u32,
}

/// Where the log goes.
#[derive(Debug)]
pub(crate) struct Log {
    /// -1: there is no log.
    directory: Descriptor,
    file: Descriptor,
    name: [u8; NAME_MAX + 1],
    bounds: Bounds,
    /// When the present file was begun, in nanoseconds since 1970.
    begun: u64,
    /// Bytes ahead of the file's end, counted from the beginning of the file that was there at birth.
    pub(crate) position: u64,
    /// The position at which the present file begins.
    pub(crate) file_start: u64,
    /// Records that could not be written.
    pub(crate) lost: u64,
    gather: &'static mut [u8],
    gathered: usize,
    gathered_records: u64,
    /// Of the last record.
    tail: Tail,
    /// A JSON object that every record has, or nothing.
    attributes: &'static [u8],
}

/// The beginning of a line of one stream, and when it was seen.
#[derive(Debug, Default)]
pub(crate) struct Line {
    begun: Queue,
    /// The time of the first record of a line that is already being split; 0 otherwise.
    split_since: u64,
}

impl Line {
    /// What of the line is not in the log yet.
    pub(crate) fn begun(&self) -> &[u8] {
        self.begun.as_slice()
    }
}

impl Log {
    pub(crate) fn none() -> Self {
        Self {
            directory: -1,
            file: -1,
            name: [0; NAME_MAX + 1],
            bounds: Bounds { max_size: 0, max_age: 0, max_files: 1 },
            begun: 0,
            position: 0,
            file_start: 0,
            lost: 0,
            gather: &mut [],
            gathered: 0,
            gathered_records: 0,
            tail: Tail::new("", 0),
            attributes: &[],
        }
    }

    /// Opens or makes the file; what it holds already is kept.
    pub(crate) fn open(&mut self, directory: Descriptor, name: &CStr, bounds: Bounds) -> Result<()> {
        let name = name.to_bytes();
        // Room for the number of a rotated file.
        if name.is_empty() || name.len() > NAME_MAX - 12 || name.contains(&b'/') {
            return Err(Errno::INVAL);
        }
        self.name[..name.len()].copy_from_slice(name);
        self.directory = directory;
        self.bounds = Bounds { max_files: bounds.max_files.clamp(1, MAX_FILES), ..bounds };
        self.gather = system::map(GATHER)?;
        self.file = self.open_file(0)?;
        let found = system::metadata(self.file)?;
        self.position = found.size;
        self.begun = if found.size > 0 && found.born > 0 { found.born } else { system::now() };
        Ok(())
    }

    /// Every record has this JSON object as its attributes, unless it is empty.
    pub(crate) fn set_attributes(&mut self, object: &[u8]) -> Result<()> {
        if object.len() > MAX_ATTRIBUTES {
            return Err(Errno::INVAL);
        }
        if !object.is_empty() {
            let kept = &mut system::map(object.len())?[..object.len()];
            kept.copy_from_slice(object);
            self.attributes = kept;
        }
        Ok(())
    }

    pub(crate) fn is_open(&self) -> bool {
        self.directory >= 0
    }

    fn open_file(&self, flags: u64) -> Result<Descriptor> {
        let flags = flags | system::O_WRONLY | system::O_APPEND | system::O_CREAT | system::O_NOFOLLOW;
        system::open_at(self.directory, name_of(&self.name, &mut [0; NAME_MAX + 1], 0, PLAIN), flags, 0o640)
    }

    /// Opens the file again, because somebody has moved or emptied it.
    pub(crate) fn reopen(&mut self) -> Result<()> {
        if !self.is_open() {
            return Err(Errno::BADF);
        }
        self.flush();
        let file = self.open_file(0)?;
        system::close(core::mem::replace(&mut self.file, file));
        self.file_start = self.position.saturating_sub(system::metadata(file)?.size);
        self.begun = system::now();
        Ok(())
    }

    /// Takes output of one stream.
    pub(crate) fn take(&mut self, line: &mut Line, stream: &'static str, mut output: &[u8]) {
        if !self.is_open() {
            return;
        }
        let time = system::now();
        while !output.is_empty() {
            let room = MAX_LINE - line.begun.len();
            let within = &output[..room.min(output.len())];
            let newline = find_newline(within);
            let part = newline.map_or(within, |at| &within[..at]);
            let complete = newline.is_some() || line.begun.len() + part.len() == MAX_LINE;
            output = &output[part.len() + usize::from(newline.is_some())..];
            if !complete || !line.begun.is_empty() {
                // A character may lie across the seam, so the pieces are put together first.
                if line.begun.push(part, MAX_LINE).is_err() {
                    self.lost += 1;
                    continue;
                }
            }
            if complete {
                let since = if line.split_since == 0 { time } else { line.split_since };
                let begun = core::mem::take(&mut line.begun);
                self.record(if begun.is_empty() { part } else { begun.as_slice() }, newline.is_some(), stream, since);
                line.begun = begun;
                line.begun.clear();
                line.split_since = if newline.is_some() { 0 } else { since };
            }
        }
        self.flush();
    }

    /// Writes the beginning of a line that will never end.
    pub(crate) fn end(&mut self, line: &mut Line, stream: &'static str) {
        if self.is_open() && !line.begun.is_empty() {
            let since = if line.split_since == 0 { system::now() } else { line.split_since };
            let mut begun = core::mem::take(&mut line.begun);
            self.record(begun.as_slice(), false, stream, since);
            begun.clear();
            self.flush();
        }
        line.split_since = 0;
    }

    fn record(&mut self, text: &[u8], newline: bool, stream: &'static str, time: u64) {
        if self.gather.len() - self.gathered < MAX_RECORD + attributes_in_record(self.attributes.len()) {
            self.flush();
        }
        let size = self.position - self.file_start + self.gathered as u64;
        let bounds = self.bounds;
        let is_old = bounds.max_age > 0 && size > 0 && time.saturating_sub(self.begun) >= bounds.max_age;
        if (bounds.max_size > 0 && size >= bounds.max_size) || is_old {
            self.flush();
            self.rotate();
        }
        if size == 0 {
            self.begun = time;
        }
        let mut writer = Writer::new(self.gather, self.gathered);
        if !self.tail.is_of(stream, time) {
            self.tail = Tail::new(stream, time);
        }
        writer.record(text, newline, &self.tail, self.attributes);
        self.gathered = writer.length;
        self.gathered_records += 1;
    }

    fn flush(&mut self) {
        let mut rest = &self.gather[..self.gathered];
        while !rest.is_empty() {
            match system::write(self.file, rest) {
                Ok(written) if written > 0 => {
                    self.position += written as u64;
                    rest = &rest[written.min(rest.len())..];
                }
                // A full disk must not stop the container: its records are lost, and counted.
                _ => {
                    self.lost += self.gathered_records;
                    break;
                }
            }
        }
        (self.gathered, self.gathered_records) = (0, 0);
    }

    fn rotate(&mut self) {
        let (mut from, mut to) = ([0; NAME_MAX + 1], [0; NAME_MAX + 1]);
        let last = self.bounds.max_files - 1;
        // What comes in its place may have the other form.
        for form in FORMS.iter().filter(|_| last > 0) {
            let _ = system::unlink_at(self.directory, name_of(&self.name, &mut from, last, form));
        }
        for number in (0..last).rev() {
            for form in FORMS {
                let from = name_of(&self.name, &mut from, number, form);
                let to = name_of(&self.name, &mut to, number + 1, form);
                let _ = system::rename_at(self.directory, from, to);
                if number == 0 {
                    break;
                }
            }
        }
        if let Ok(file) = self.open_file(system::O_TRUNC) {
            system::close(core::mem::replace(&mut self.file, file));
            self.file_start = self.position;
            self.begun = system::now();
        }
    }

    /// Puts the packed form of an older file in its place. The file itself goes last, so that whoever looks for it and does
    /// not find it finds the packed one.
    pub(crate) fn take_packed(&mut self, inode: u64) -> Result<()> {
        let (mut packed, mut from, mut to) = ([0; NAME_MAX + 1], [0; NAME_MAX + 1], [0; NAME_MAX + 1]);
        let packed = name_of(&self.name, &mut packed, 0, b".packed");
        for number in 1..self.bounds.max_files {
            let plain = name_of(&self.name, &mut from, number, PLAIN);
            if system::metadata_of_link(self.directory, plain).is_ok_and(|found| found.inode == inode) {
                system::rename_at(self.directory, packed, name_of(&self.name, &mut to, number, PACKED))?;
                return system::unlink_at(self.directory, plain);
            }
        }
        // So much was written meanwhile that it is gone.
        system::unlink_at(self.directory, packed)?;
        Err(Errno::NOENT)
    }

    /// Gives memory back that is not needed while nothing is written.
    pub(crate) fn rest(&mut self) {
        system::forget_pages(self.gather);
    }
}

const PLAIN: &[u8] = b"";
const PACKED: &[u8] = b".gz";
/// What the names of older files end with.
const FORMS: [&[u8]; 2] = [PLAIN, PACKED];

/// The name of an older file in one of its forms; 0 is the present one.
fn name_of<'b>(name: &[u8; NAME_MAX + 1], buffer: &'b mut [u8; NAME_MAX + 1], number: u32, form: &[u8]) -> &'b CStr {
    *buffer = *name;
    let mut length = name.iter().position(|byte| *byte == 0).unwrap_or(0);
    if number > 0 {
        let mut digits = [0; 12];
        let digits = decimal(number.cast_signed(), &mut digits);
        buffer[length] = b'.';
        buffer[length + 1..length + 1 + digits.len()].copy_from_slice(digits);
        length += 1 + digits.len();
    }
    buffer[length..length + form.len()].copy_from_slice(form);
    CStr::from_bytes_until_nul(buffer).unwrap_or(c"log")
}

/// Where the first newline is, eight bytes at a time.
fn find_newline(text: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let (words, _) = text.as_chunks::<8>();
    let mut from = words.len() * 8;
    for (index, word) in words.iter().enumerate() {
        let differs = u64::from_le_bytes(*word) ^ (ONES * b'\n' as u64);
        if differs.wrapping_sub(ONES) & !differs & HIGHS != 0 {
            from = index * 8;
            break;
        }
    }
    text[from..].iter().position(|byte| *byte == b'\n').map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;
    use std::path::PathBuf;
    use std::string::String;
    use std::vec::Vec;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(std::format!("engine-log-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn log(&self, max_size: u64, max_files: u32) -> Log {
            let mut log = Log::none();
            let directory = std::fs::File::open(&self.0).unwrap().into_raw_fd();
            log.open(directory, c"log", Bounds { max_size, max_age: 0, max_files }).unwrap();
            log
        }

        fn texts(&self, name: &str) -> Vec<String> {
            let file = std::fs::read_to_string(self.0.join(name)).unwrap();
            let text = |line: &str| {
                String::from(line.strip_prefix("{\"log\":\"").unwrap().split_once("\",\"stream").unwrap().0)
            };
            file.lines().map(text).collect()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn lines_are_put_together_across_reads() {
        let place = Place::new("lines");
        let mut log = place.log(0, 1);
        let mut line = Line::default();
        for piece in [&b"one\ntw"[..], b"o", b"\n\nthr", "\u{e9}".as_bytes()] {
            log.take(&mut line, "stdout", piece);
        }
        assert_eq!(place.texts("log"), ["one\\n", "two\\n", "\\n"]);
        log.end(&mut line, "stdout");
        log.end(&mut line, "stdout");
        assert_eq!(place.texts("log"), ["one\\n", "two\\n", "\\n", "thré"]);
        assert_eq!(log.position, std::fs::metadata(place.0.join("log")).unwrap().len());
    }

    #[test]
    fn long_lines_are_split_at_16_kib() {
        let place = Place::new("split");
        let mut log = place.log(0, 1);
        let mut line = Line::default();
        let text = [b'a'; MAX_LINE * 2 + 5];
        for piece in text.chunks(5000) {
            log.take(&mut line, "stdout", piece);
        }
        log.take(&mut line, "stdout", b"\n");
        log.take(&mut line, "stdout", &text[..MAX_LINE]);
        log.take(&mut line, "stdout", b"\nb\n");
        let lengths: Vec<_> = place.texts("log").iter().map(String::len).collect();
        assert_eq!(lengths, [MAX_LINE, MAX_LINE, 7, MAX_LINE, 2, 3]);
        let file = std::fs::read_to_string(place.0.join("log")).unwrap();
        let times: Vec<_> = file.lines().map(|line| line.rsplit_once("\"time\":").unwrap().1).collect();
        assert!(times[0] == times[1] && times[1] == times[2], "the parts of a line have one time");
    }

    #[test]
    fn records_have_their_attributes_however_long_they_are() {
        let place = Place::new("attributes");
        let mut log = place.log(0, 1);
        let object = std::format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_ATTRIBUTES - 8));
        assert!(log.set_attributes(std::format!("{object} ").as_bytes()).is_err());
        log.set_attributes(object.as_bytes()).unwrap();
        let mut line = Line::default();
        let text = [1; MAX_LINE * 3];
        log.take(&mut line, "stdout", &text);
        log.take(&mut line, "stderr", b"\nb\n");
        let file = std::fs::read_to_string(place.0.join("log")).unwrap();
        assert_eq!((file.lines().count(), log.lost), (5, 0));
        let with = |record: &str| {
            record.contains(&std::format!("\",\"attrs\":{object},\"time\":\"")) && record.ends_with("Z\"}")
        };
        assert!(file.lines().all(with));
    }

    #[test]
    fn files_are_rotated_by_size() {
        let place = Place::new("rotate");
        let mut log = place.log(100, 3);
        let mut line = Line::default();
        for number in 0..9u8 {
            log.take(&mut line, "stdout", &[b'0' + number, b'\n']);
        }
        let files = ["log.2", "log.1", "log"].map(|name| place.texts(name).concat());
        // A record has about 72 bytes, so that a file is full after two.
        assert_eq!(files, ["4\\n5\\n", "6\\n7\\n", "8\\n"]);
        assert!(!place.0.join("log.3").exists());
        assert_eq!(log.position - log.file_start, std::fs::metadata(place.0.join("log")).unwrap().len());
    }

    #[test]
    fn files_are_rotated_by_age() {
        let place = Place::new("age");
        let mut log = place.log(0, 3);
        log.bounds.max_age = 3_600_000_000_000;
        let mut line = Line::default();
        log.take(&mut line, "stdout", b"old\n");
        log.take(&mut line, "stdout", b"older\n");
        log.begun -= 3_600_000_000_000;
        log.take(&mut line, "stdout", b"new\n");
        assert_eq!(
            (place.texts("log.1").concat(), place.texts("log").concat()),
            ("old\\nolder\\n".into(), "new\\n".into())
        );
        // The next monitor goes by when the file was made.
        let mut next = place.log(0, 3);
        assert!(system::now() - next.begun < 60_000_000_000, "{}", next.begun);
        // A file without records does not age.
        std::fs::remove_file(place.0.join("log")).unwrap();
        next.reopen().unwrap();
        next.bounds.max_age = 1;
        next.begun = 0;
        next.take(&mut line, "stdout", b"first\n");
        assert_eq!(place.texts("log").concat(), "first\\n");
        assert!(!place.0.join("log.2").exists());
    }

    #[test]
    fn packed_files_go_on_in_their_row() {
        use std::os::unix::fs::MetadataExt as _;
        let place = Place::new("packed");
        let mut log = place.log(100, 4);
        let mut line = Line::default();
        let mut write = |log: &mut Log, from: u8, to: u8| {
            (from..to).for_each(|number| log.take(&mut line, "stdout", &[b'0' + number, b'\n']));
        };
        let exists = |name: &str| place.0.join(name).exists();
        let packed = |text: &str| std::fs::write(place.0.join("log.packed"), text).unwrap();
        write(&mut log, 0, 5);
        let inode = std::fs::metadata(place.0.join("log.2")).unwrap().ino();
        packed("oldest");
        log.take_packed(inode).unwrap();
        assert!(exists("log.2.gz") && !exists("log.2") && exists("log.1") && !exists("log.packed"));
        write(&mut log, 5, 7);
        assert!(exists("log.3.gz") && exists("log.2") && exists("log.1") && !exists("log.2.gz"));
        // It comes from the row's end, whatever form the next one has.
        write(&mut log, 7, 9);
        assert!(!exists("log.3.gz") && exists("log.3") && exists("log.2"));
        packed("of one that is gone");
        assert!(log.take_packed(1).is_err());
        assert!(!exists("log.packed"));
    }

    #[test]
    fn what_was_there_is_kept_and_counted() {
        let place = Place::new("kept");
        std::fs::write(place.0.join("log"), "{\"log\":\"old\\n\",\"stream\":\"stdout\",\"time\":\"\"}\n").unwrap();
        let mut log = place.log(0, 1);
        assert_eq!(log.position, std::fs::metadata(place.0.join("log")).unwrap().len());
        log.take(&mut Line::default(), "stderr", b"new\n");
        assert_eq!(place.texts("log"), ["old\\n", "new\\n"]);
        std::fs::rename(place.0.join("log"), place.0.join("moved")).unwrap();
        log.reopen().unwrap();
        log.take(&mut Line::default(), "stderr", b"newer\n");
        assert_eq!(place.texts("log"), ["newer\\n"]);
        assert_eq!(log.position - log.file_start, std::fs::metadata(place.0.join("log")).unwrap().len());
    }

    #[test]
    fn newlines_are_found_wherever_they_are() {
        for length in 0..40 {
            let mut text = std::vec![b'\x8a'; length];
            assert_eq!(find_newline(&text), None);
            for at in (0..length).rev() {
                text[at] = b'\n';
                assert_eq!(find_newline(&text), Some(at));
            }
        }
    }
}
