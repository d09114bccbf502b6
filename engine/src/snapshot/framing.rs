//! What of a layer's archive is not the contents of its files: headers, padding, the end. Kept beside the unpacked tree,
//! it gives the archive back byte for byte, so that no second copy of the contents has to lie on the disk.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::rc::Rc;

use engine_sys::path::Root;
use rustix::fs::{Mode, OFlags};

/// Bytes of the archive as they were.
const BYTES: u8 = 0;
/// The contents of a file of the tree.
const CONTENTS: u8 = 1;
/// The contents of a file that a later entry replaced, told when that happened.
const REPLACED: u8 = 2;
const END: u8 = 3;

/// What each replaced file counts beyond its contents, so that there cannot be any number of small ones.
const REPLACED_COST: u64 = 16 << 10;
const MAX_PATH: u64 = 4096 + 256;
/// The longest run of bytes that is told at once.
const RUN: usize = 64 << 10;
/// How hard the framing is compressed: it is mostly zeros.
const LEVEL: i32 = 1;

/// A framing in the making, shared by who reads the archive and who unpacks it.
#[derive(Clone)]
pub(super) struct Tape {
    recording: Rc<RefCell<Recording>>,
}

struct Recording {
    out: zstd::stream::write::Encoder<'static, File>,
    run: Vec<u8>,
    in_contents: bool,
    /// Something went that cannot be had back.
    lost: bool,
    /// How many bytes of replaced files may still be kept.
    room: u64,
    failure: Option<io::Error>,
}

impl Tape {
    /// A framing that keeps at most `room` bytes of files that are replaced: whoever puts the archive together needs as
    /// much on the disk, and a layer that replaces more than that is not worth it.
    pub(super) fn new(file: File, room: u64) -> io::Result<Self> {
        let mut out = zstd::stream::write::Encoder::new(file, LEVEL)?;
        out.include_checksum(true)?;
        let run = Vec::with_capacity(RUN);
        let recording = Recording { out, run, in_contents: false, lost: false, room, failure: None };
        Ok(Self { recording: Rc::new(RefCell::new(recording)) })
    }

    /// From here on contents are read, `size` bytes that can be had from the tree at `path`.
    pub(super) fn contents(&self, path: &[u8], size: u64) {
        let mut recording = self.recording.borrow_mut();
        recording.tell(|recording| {
            recording.flush()?;
            recording.segment(CONTENTS, path, size)
        });
        recording.in_contents = true;
    }

    /// The contents have been read.
    pub(super) fn framing(&self) {
        self.recording.borrow_mut().in_contents = false;
    }

    /// A file that goes; its contents are kept here instead.
    pub(super) fn replaced(&self, path: &[u8], size: u64, file: impl Read) {
        let mut recording = self.recording.borrow_mut();
        match recording.room.checked_sub(size.saturating_add(REPLACED_COST)) {
            Some(room) => recording.room = room,
            None => recording.lost = true,
        }
        recording.tell(|recording| {
            recording.flush()?;
            recording.segment(REPLACED, path, size)?;
            if io::copy(&mut file.take(size), &mut recording.out)? != size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(())
        });
    }

    /// Something goes whose contents cannot be kept.
    pub(super) fn lose(&self) {
        self.recording.borrow_mut().lost = true;
    }

    /// Ends the framing: whether it gives the archive back.
    pub(super) fn finish(self) -> io::Result<bool> {
        let recording = Rc::into_inner(self.recording).ok_or_else(|| io::Error::other("the framing is in use"))?;
        let mut recording = recording.into_inner();
        recording.tell(|recording| {
            recording.flush()?;
            recording.out.write_all(&[END])
        });
        if let Some(failure) = recording.failure {
            return Err(failure);
        }
        recording.out.finish()?;
        Ok(!recording.lost)
    }

    fn pass(&self, bytes: &[u8]) {
        let mut recording = self.recording.borrow_mut();
        if recording.in_contents || recording.lost {
            return;
        }
        recording.run.extend_from_slice(bytes);
        if recording.run.len() >= RUN {
            recording.tell(Recording::flush);
        }
    }
}

impl Recording {
    fn tell(&mut self, tell: impl FnOnce(&mut Self) -> io::Result<()>) {
        if self.failure.is_none() && !self.lost {
            self.failure = tell(self).err();
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.run.is_empty() {
            self.out.write_all(&[BYTES])?;
            self.out.write_all(&(self.run.len() as u64).to_le_bytes())?;
            self.out.write_all(&self.run)?;
            self.run.clear();
        }
        Ok(())
    }

    fn segment(&mut self, kind: u8, path: &[u8], size: u64) -> io::Result<()> {
        self.out.write_all(&[kind])?;
        self.out.write_all(&(path.len() as u64).to_le_bytes())?;
        self.out.write_all(path)?;
        self.out.write_all(&size.to_le_bytes())
    }
}

/// Records what is consumed of `reader`.
pub(super) struct Recorded<R> {
    reader: R,
    tape: Option<Tape>,
}

impl<R: BufRead> Recorded<R> {
    pub(super) fn new(reader: R, tape: Option<Tape>) -> Self {
        Self { reader, tape }
    }

    pub(super) fn tape(&self) -> Option<&Tape> {
        self.tape.as_ref()
    }

    /// Reads to the very end, which belongs to the archive as well.
    pub(super) fn finish(mut self) -> io::Result<R> {
        loop {
            let length = self.fill_buf()?.len();
            if length == 0 {
                return Ok(self.reader);
            }
            self.consume(length);
        }
    }
}

impl<R: BufRead> BufRead for Recorded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        if let Some(tape) = &self.tape
            && length > 0
            && let Ok(buffer) = self.reader.fill_buf()
        {
            // What is consumed is in the buffer: nothing is read here.
            tape.pass(&buffer[..length.min(buffer.len())]);
        }
        self.reader.consume(length);
    }
}

impl<R: BufRead> Read for Recorded<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        super::pieces::read_buffered(self, target)
    }
}

type Segments = BufReader<zstd::stream::read::Decoder<'static, BufReader<File>>>;

/// An archive that is put together again.
pub struct Rebuilt {
    root: Root,
    segments: Segments,
    current: Current,
    replaced: Replaced,
    files: u64,
    ended: bool,
    /// When the framing was ended, in seconds and nanoseconds since 1970: all files were there by then.
    made: (i64, i64),
    touched: bool,
    /// What the last part was, if it was bytes.
    bytes: Vec<u8>,
}

enum Current {
    None,
    Bytes(u64),
    /// Contents of a file, which is that of the replaced ones if it is not named: where they go on, and how much is left.
    File(Option<File>, u64, u64),
}

/// What comes next of an archive that is put together.
#[derive(Debug)]
pub(crate) enum Part<'a> {
    /// Bytes of the archive itself.
    Bytes(&'a [u8]),
    /// Contents of a file: where they begin, and how many bytes they are.
    File(&'a File, u64, u64),
}

/// Contents of files that were replaced, in a file that nobody else sees.
#[derive(Default)]
struct Replaced {
    file: Option<File>,
    /// Where those of a file are and how much that is, by the number of the file.
    places: HashMap<u64, (u64, u64)>,
}

impl Replaced {
    /// The file that is named, or that of what was replaced.
    fn file_or<'a>(&'a self, file: Option<&'a File>) -> io::Result<&'a File> {
        file.or(self.file.as_ref()).ok_or_else(|| damaged("what was replaced is missing"))
    }
}

impl std::fmt::Debug for Rebuilt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rebuilt").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Rebuilt {
    /// Of an unpacked tree and its framing. `open` opens the framing, as often as it is read; `spare` makes a file for what has
    /// been replaced, if anything has.
    pub(super) fn new(
        root: Root,
        open: impl Fn() -> io::Result<File>,
        spare: impl Fn() -> io::Result<File>,
    ) -> io::Result<Self> {
        let paths = replaced_paths(&mut segments(open()?)?)?;
        let replaced = match paths.is_empty() {
            true => Replaced::default(),
            false => replaced(&paths, &mut segments(open()?)?, spare)?,
        };
        let framing = open()?;
        let metadata = framing.metadata()?;
        Ok(Self {
            root,
            segments: segments(framing)?,
            current: Current::None,
            replaced,
            files: 0,
            ended: false,
            made: (metadata.mtime(), metadata.mtime_nsec()),
            touched: false,
            bytes: Vec::new(),
        })
    }

    /// Whether a file that has come until now was touched since the layer was unpacked: it may not be what it was. Whoever did that
    /// can have done it unseen only by setting the clock back.
    pub(crate) fn is_touched(&self) -> bool {
        self.touched
    }

    /// What comes next, for who can take contents from where they lie; nothing at the end.
    pub(crate) fn part(&mut self) -> io::Result<Option<Part<'_>>> {
        loop {
            match &mut self.current {
                Current::Bytes(rest) if *rest > 0 => {
                    let length = usize::try_from(*rest).unwrap_or(RUN).min(RUN);
                    self.bytes.resize(length, 0);
                    self.segments.read_exact(&mut self.bytes)?;
                    *rest -= length as u64;
                    return Ok(Some(Part::Bytes(&self.bytes)));
                }
                Current::File(_, _, rest) if *rest > 0 => break,
                _ if self.ended => return Ok(None),
                _ => self.advance()?,
            }
        }
        let Current::File(file, at, rest) = &mut self.current else { return Ok(None) };
        let (begin, length) = (*at, std::mem::take(rest));
        *at += length;
        Ok(Some(Part::File(self.replaced.file_or(file.as_ref())?, begin, length)))
    }

    /// Goes on to the next segment.
    fn advance(&mut self) -> io::Result<()> {
        match byte(&mut self.segments)? {
            BYTES => self.current = Current::Bytes(number(&mut self.segments)?),
            CONTENTS => {
                let (path, size) = place(&mut self.segments)?;
                self.files += 1;
                self.current = match self.replaced.places.remove(&self.files) {
                    Some((at, length)) if length == size => Current::File(None, at, length),
                    Some(_) => return Err(damaged("what was replaced has another size")),
                    None => {
                        let (file, changed) = contents(&self.root, &path, size)?;
                        self.touched |= changed > self.made;
                        Current::File(Some(file), 0, size)
                    }
                };
            }
            REPLACED => {
                let (_, size) = place(&mut self.segments)?;
                io::copy(&mut (&mut self.segments).take(size), &mut io::sink())?;
            }
            END => {
                // The checksum of all of it comes last.
                if self.segments.read(&mut [0])? > 0 {
                    return Err(damaged("it goes on after its end"));
                }
                self.ended = true;
            }
            _ => return Err(damaged("an unknown segment")),
        }
        Ok(())
    }
}

impl Read for Rebuilt {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while !self.ended && !target.is_empty() {
            let length = match &mut self.current {
                Current::None => 0,
                Current::Bytes(rest) => {
                    let length = (&mut self.segments).take(*rest).read(target)?;
                    if length == 0 && *rest > 0 {
                        return Err(damaged("it ends early"));
                    }
                    *rest -= length as u64;
                    length
                }
                Current::File(file, at, rest) => {
                    let wanted = target.len().min(usize::try_from(*rest).unwrap_or(usize::MAX));
                    let length = self.replaced.file_or(file.as_ref())?.read_at(&mut target[..wanted], *at)?;
                    if length == 0 && *rest > 0 {
                        return Err(damaged("a file has become shorter"));
                    }
                    *at += length as u64;
                    *rest -= length as u64;
                    length
                }
            };
            if length > 0 {
                return Ok(length);
            }
            self.advance()?;
        }
        Ok(0)
    }
}

/// A file of the layer, and when anything of it was last changed, in seconds and nanoseconds since 1970.
fn contents(root: &Root, path: &[u8], size: u64) -> io::Result<(File, (i64, i64))> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file: File = root.file(Path::new(OsStr::from_bytes(path)), flags, Mode::empty())?.into();
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() != size {
        return Err(damaged(&format!("{} is not the file that it was", super::tar::show(path))));
    }
    Ok((file, (metadata.ctime(), metadata.ctime_nsec())))
}

fn segments(file: File) -> io::Result<Segments> {
    Ok(BufReader::with_capacity(RUN, zstd::stream::read::Decoder::with_buffer(BufReader::new(file))?))
}

/// The paths under which files were replaced: few, whereas a layer may have millions of files.
fn replaced_paths(segments: &mut Segments) -> io::Result<HashSet<Vec<u8>>> {
    let mut paths = HashSet::new();
    loop {
        let skipped = match byte(segments)? {
            BYTES => number(segments)?,
            CONTENTS => {
                place(segments)?;
                continue;
            }
            REPLACED => {
                let (path, size) = place(segments)?;
                paths.insert(path);
                size
            }
            END => return Ok(paths),
            _ => return Err(damaged("an unknown segment")),
        };
        skip(segments, skipped)?;
    }
}

/// The contents of files that were replaced. They come after the file, when something else comes under its name.
fn replaced(
    paths: &HashSet<Vec<u8>>,
    segments: &mut Segments,
    spare: impl Fn() -> io::Result<File>,
) -> io::Result<Replaced> {
    let mut found = Replaced::default();
    let mut unused: HashMap<Vec<u8>, VecDeque<u64>> = HashMap::new();
    let (mut files, mut end) = (0, 0_u64);
    loop {
        let skipped = match byte(segments)? {
            BYTES => number(segments)?,
            CONTENTS => {
                let (path, _) = place(segments)?;
                files += 1;
                if paths.contains(&path) {
                    unused.entry(path).or_default().push_back(files);
                }
                continue;
            }
            REPLACED => {
                let (path, size) = place(segments)?;
                // A link that was replaced had no contents of its own in the archive.
                match unused.get_mut(&path).and_then(VecDeque::pop_front) {
                    Some(number) => {
                        let mut file = match found.file.take() {
                            Some(file) => file,
                            None => spare()?,
                        };
                        if io::copy(&mut segments.take(size), &mut file)? != size {
                            return Err(damaged("it ends early"));
                        }
                        found.file = Some(file);
                        found.places.insert(number, (end, size));
                        end += size;
                        continue;
                    }
                    None => size,
                }
            }
            END => return Ok(found),
            _ => return Err(damaged("an unknown segment")),
        };
        skip(segments, skipped)?;
    }
}

fn skip(segments: &mut Segments, length: u64) -> io::Result<()> {
    if io::copy(&mut segments.take(length), &mut io::sink())? != length {
        return Err(damaged("it ends early"));
    }
    Ok(())
}

fn byte(reader: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    reader.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn number(reader: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    reader.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn place(reader: &mut impl Read) -> io::Result<(Vec<u8>, u64)> {
    let length = number(reader)?;
    if length > MAX_PATH {
        return Err(damaged("a path that is too long"));
    }
    let mut path = Vec::new();
    reader.take(length).read_to_end(&mut path)?;
    if path.len() as u64 != length {
        return Err(damaged("it ends early"));
    }
    Ok((path, number(reader)?))
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the layer or its framing is damaged: {what}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tar::{Entry, Kind, Writer};
    use super::super::{Layers, Limits, Staged};
    use super::*;
    use crate::oci::Digest;
    use crate::state::{Durability, State, Table};

    fn unpack(layers: &Layers, archive: &[u8]) -> Staged {
        let (layers, archive) = (layers.clone(), archive.to_vec());
        std::thread::spawn(move || layers.stage().unwrap().unpack_framed(archive.as_slice()).unwrap()).join().unwrap()
    }

    fn commit(state: &State, layers: &Layers, staged: Staged) -> Digest {
        let diff_id = staged.diff_id;
        let by = (Table::Image, "i");
        state.write(Durability::Process, |tx| layers.commit(tx, &diff_id, Some(staged), None, by)).unwrap();
        diff_id
    }

    fn archive() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        let file = |name: &str| Entry::new(Kind::File, name, 0o644);
        let large = vec![7; 300_000];
        for (entry, contents) in [
            (Entry::new(Kind::Directory, "d/", 0o755), &b""[..]),
            (file("./d/../a"), b"first"),
            (file("empty"), b""),
            (Entry::new(Kind::Link, "b", 0o644).to("a"), b""),
            (file("a"), b"second, longer"),
            (file("b"), b"no link"),
            (file("b"), &large),
            (file(".wh.gone"), b"whiteouts may have contents"),
            (Entry::new(Kind::Symlink, "link", 0o777).to("d"), b""),
            (file("link/through"), b"within the root"),
            (file(&"long/".repeat(40)), b"x"),
        ] {
            writer.entry(&entry, contents).unwrap();
        }
        let mut bytes = writer.finish().unwrap();
        bytes.extend([vec![0; 9000], b"what follows the end".to_vec()].concat());
        bytes
    }

    #[test]
    fn an_archive_is_had_back_byte_for_byte() {
        let root = tempfile::tempdir().unwrap();
        let (state, layers) = (State::open(root.path()).unwrap(), Layers::open(root.path()).unwrap());
        let archive = archive();
        let diff_id = commit(&state, &layers, unpack(&layers, &archive));
        let mut again = Vec::new();
        layers.archive(&diff_id).unwrap().read_to_end(&mut again).unwrap();
        assert_eq!(again, archive);
        // The same in parts, of which no file was touched.
        let (mut rebuilt, mut parts) = (layers.archive(&diff_id).unwrap(), Vec::new());
        while let Some(part) = rebuilt.part().unwrap() {
            match part {
                Part::Bytes(bytes) => parts.extend_from_slice(bytes),
                Part::File(file, at, length) => {
                    let begin = parts.len();
                    parts.resize(begin + usize::try_from(length).unwrap(), 0);
                    file.read_exact_at(&mut parts[begin..], at).unwrap();
                }
            }
        }
        assert!(parts == archive && !rebuilt.is_touched());
        // Not to be told from the file that it was by its length and time, but by when it was changed.
        let path = layers.path(&diff_id).join("a");
        let times = std::fs::FileTimes::new().set_modified(path.metadata().unwrap().modified().unwrap());
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::write(&path, "another, long?").unwrap();
        File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
        let mut rebuilt = layers.archive(&diff_id).unwrap();
        while rebuilt.part().unwrap().is_some() {}
        assert!(rebuilt.is_touched());
        // It is part of the layer and goes with it.
        let files = || std::fs::read_dir(root.path().join("layers")).unwrap().count();
        assert_eq!(files(), 2);
        drop(unpack(&layers, &archive));
        layers.sweep().unwrap();
        assert_eq!(files(), 2);
        std::fs::write(layers.path(&diff_id).join("a"), "changed, but not in length").unwrap();
        assert!(layers.archive(&diff_id).unwrap().read_to_end(&mut again).is_err());
        state.write::<_, crate::state::Error>(Durability::Process, |tx| tx.release_all((Table::Image, "i"))).unwrap();
        drop(state.write(Durability::Process, |tx| layers.retire(tx, &diff_id)).unwrap());
        assert_eq!(files(), 0);
    }

    #[test]
    fn leftovers_are_swept() {
        let root = tempfile::tempdir().unwrap();
        let (state, layers) = (State::open(root.path()).unwrap(), Layers::open(root.path()).unwrap());
        let path = root.path().join("layers");
        std::fs::write(path.join(".tmp-dead.framing"), "x").unwrap();
        std::fs::write(path.join(format!("{}.framing", Digest::of(b"x").hex())), "x").unwrap();
        layers.sweep().unwrap();
        state.write(Durability::Process, |tx| layers.collect(tx)).unwrap();
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    }

    /// Unpacks, and expects the very same archive back.
    fn survives(entries: &[(Entry, &[u8])]) {
        let root = tempfile::tempdir().unwrap();
        let (state, layers) = (State::open(root.path()).unwrap(), Layers::open(root.path()).unwrap());
        let mut writer = Writer::new(Vec::new());
        for (entry, contents) in entries {
            writer.entry(entry, contents).unwrap();
        }
        let archive = writer.finish().unwrap();
        let diff_id = commit(&state, &layers, unpack(&layers, &archive));
        let mut again = Vec::new();
        layers.archive(&diff_id).unwrap().read_to_end(&mut again).unwrap();
        assert!(again == archive);
        drop(layers);
        assert_eq!(std::fs::read_dir(root.path().join("layers")).unwrap().count(), 2);
    }

    #[test]
    fn what_goes_with_a_replaced_directory_or_link_is_had_back() {
        let file = |name: &str| Entry::new(Kind::File, name, 0o644);
        let symlink = |name: &str, to: &str| Entry::new(Kind::Symlink, name, 0o777).to(to);
        let directory = |name: &str| Entry::new(Kind::Directory, name, 0o755);
        survives(&[
            (file("d/f"), b"x"),
            (file("d/deep/er/g"), b"yy"),
            (Entry::new(Kind::Link, "kept", 0o644).to("d/f"), b""),
            (symlink("link", "d/deep"), b""),
            (file("link/through"), b"zzz"),
            (Entry::new(Kind::Fifo, "d/pipe", 0o644), b""),
            (file("d"), b"a file now"),
        ]);
        // A link that was written through turns into a directory of its own.
        survives(&[
            (directory("a/b"), b""),
            (symlink("link", "a/b"), b""),
            (symlink("again", "link"), b""),
            (file("again/f"), b"first"),
            (symlink("again", "nowhere"), b""),
            (file("link/g"), b"second"),
            (directory("link"), b""),
            (file("link/f"), b"third"),
            (file("a/b/f"), b"fourth"),
        ]);
    }

    #[test]
    fn files_of_any_size_may_be_replaced() {
        let large = vec![3; 70 << 20];
        let file = |name: &str| Entry::new(Kind::File, name, 0o644);
        survives(&[(file("f"), &large), (file("f"), b"small"), (file("f"), &large[..1 << 20]), (file("f"), b"")]);
    }

    #[test]
    fn what_is_kept_of_replaced_files_has_a_bound() {
        let root = tempfile::tempdir().unwrap();
        let limits = Limits { replaced: 1 << 20, ..Limits::default() };
        let (state, layers) = (State::open(root.path()).unwrap(), Layers::with_limits(root.path(), limits).unwrap());
        // Each is small when compressed, and all of them are not when an archive is put together.
        for (count, size, is_kept) in [(2, 400 << 10, true), (4, 400 << 10, false), (70, 0, true), (70, 1, false)] {
            let mut writer = Writer::new(Vec::new());
            let contents = vec![0; size];
            for _ in 0..=count {
                writer.entry(&Entry::new(Kind::File, "f", 0o644), &contents).unwrap();
            }
            let diff_id = commit(&state, &layers, unpack(&layers, &writer.finish().unwrap()));
            let framing = root.path().join("layers").join(format!("{}.framing", diff_id.hex()));
            assert_eq!(framing.exists(), is_kept, "{count} {size}");
        }
    }

    #[test]
    fn damage_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let (state, layers) = (State::open(root.path()).unwrap(), Layers::open(root.path()).unwrap());
        let diff_id = commit(&state, &layers, unpack(&layers, &archive()));
        let framing = root.path().join("layers").join(format!("{}.framing", diff_id.hex()));
        let whole = std::fs::read(&framing).unwrap();
        let mut sink = Vec::new();
        let mut is_damaged = |bytes: &[u8]| {
            std::fs::write(&framing, bytes).unwrap();
            let read = layers.archive(&diff_id).map(|mut archive| archive.read_to_end(&mut sink));
            !matches!(read, Ok(Ok(_)))
        };
        for length in [0, 1, 20, whole.len() / 2, whole.len() - 1] {
            assert!(is_damaged(&whole[..length]), "{length}");
        }
        for at in [whole.len() / 3, whole.len() / 2, whole.len() - 2] {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            assert!(is_damaged(&bytes), "{at}");
        }
        assert!(!is_damaged(&whole));
    }
}
