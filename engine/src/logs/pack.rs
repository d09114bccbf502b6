//! Packing the older files of a log, which are not written any more. Whoever writes the log is told of each and puts it in its
//! place, since he alone knows which number a file has at the moment. Once nobody writes it any more, whoever packs does both.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use flate2::{Compression, GzBuilder};
use rustix::fs::OFlags;

use super::piece::Origin;
use super::record::{Record, nanoseconds};

/// The most files that are looked for.
const MAX_FILES: u32 = 1000;
/// The first record is not looked for beyond this, in bytes.
const FIRST_RECORD: u64 = 1 << 20;

/// Who puts a packed file in its place. Each has a name of his own for what is packed, so that neither takes the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Whoever writes the log, who knows the name.
    Writer,
    /// Whoever packs, by [`place`].
    Packer,
}

/// Packs the oldest file of the log `name` that is not packed yet into a draft, safe from a loss of power, and answers the file;
/// nothing when there is none. As long as it is kept open no other file has its inode, by which it is found again.
pub(crate) fn pack(directory: &Path, name: &str, by: By) -> io::Result<Option<File>> {
    let Some(file) = oldest(directory, name)? else { return Ok(None) };
    let inode = file.metadata()?.ino();
    let mut reader = BufReader::with_capacity(64 << 10, &file);
    let mut first = Vec::new();
    io::Read::take(&mut reader, FIRST_RECORD).read_until(b'\n', &mut first)?;
    let time = Record::parse(first.trim_ascii_end()).and_then(|record| nanoseconds(record.time));
    let origin = Origin { inode, first_time: time.unwrap_or(0) };
    let draft = File::options().write(true).create(true).truncate(true).mode(0o640).open(draft(directory, name, by))?;
    let mut packer = GzBuilder::new().extra(origin.to_bytes()).write(&draft, Compression::fast());
    io::copy(&mut io::Read::chain(&first[..], reader), &mut packer)?;
    packer.finish()?;
    draft.sync_all()?;
    Ok(Some(file))
}

/// Puts the packed form of a file in its place, in a log that nobody writes. The file itself goes last, so that whoever looks for
/// it and does not find it finds the packed one.
pub(crate) fn place(directory: &Path, name: &str, file: &File) -> io::Result<()> {
    let inode = file.metadata()?.ino();
    for number in 1..MAX_FILES {
        let plain = directory.join(format!("{name}.{number}"));
        if std::fs::symlink_metadata(&plain).is_ok_and(|found| found.ino() == inode) {
            let packed = directory.join(format!("{name}.{number}.gz"));
            std::fs::rename(draft(directory, name, By::Packer), packed)?;
            return missing_or(std::fs::remove_file(plain));
        }
    }
    // Somebody has taken it away.
    missing_or(std::fs::remove_file(draft(directory, name, By::Packer)))
}

/// Whether the writer of the log has not put a packed file in its place yet.
pub(crate) fn waits(directory: &Path, name: &str) -> bool {
    draft(directory, name, By::Writer).exists()
}

/// Takes away what was packed and nobody has put in its place, such as what an engine that died has left half packed.
pub(crate) fn forget(directory: &Path, name: &str) -> io::Result<()> {
    missing_or(std::fs::remove_file(draft(directory, name, By::Writer)))?;
    missing_or(std::fs::remove_file(draft(directory, name, By::Packer)))
}

fn missing_or(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn draft(directory: &Path, name: &str, by: By) -> std::path::PathBuf {
    let ending = match by {
        By::Writer => "packed",
        By::Packer => "packing",
    };
    directory.join(format!("{name}.{ending}"))
}

fn oldest(directory: &Path, name: &str) -> io::Result<Option<File>> {
    let mut oldest = None;
    for number in 1..MAX_FILES {
        let path = directory.join(format!("{name}.{number}"));
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match File::options().read(true).custom_flags(flags.bits().cast_signed()).open(&path) {
            Ok(file) => oldest = Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !directory.join(format!("{name}.{number}.gz")).exists() {
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(oldest)
}
