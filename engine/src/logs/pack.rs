//! Packing the older files of a log, which are not written any more. Whoever writes the log is told of each and puts it in its
//! place, since he alone knows which number a file has at the moment.

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

/// Packs the oldest file of the log `name` that is not packed yet into `<name>.packed`, safe from a loss of power, and answers
/// its inode; nothing when there is none.
pub(crate) fn pack(directory: &Path, name: &str) -> io::Result<Option<u64>> {
    let Some(file) = oldest(directory, name)? else { return Ok(None) };
    let inode = file.metadata()?.ino();
    let mut reader = BufReader::with_capacity(64 << 10, &file);
    let mut first = Vec::new();
    io::Read::take(&mut reader, FIRST_RECORD).read_until(b'\n', &mut first)?;
    let time = Record::parse(first.trim_ascii_end()).and_then(|record| nanoseconds(record.time));
    let origin = Origin { inode, first_time: time.unwrap_or(0) };
    let draft = File::options().write(true).create(true).truncate(true).mode(0o640).open(draft(directory, name))?;
    let mut packer = GzBuilder::new().extra(origin.to_bytes()).write(&draft, Compression::fast());
    io::copy(&mut io::Read::chain(&first[..], reader), &mut packer)?;
    packer.finish()?;
    draft.sync_all()?;
    Ok(Some(inode))
}

/// Whether nobody has put a packed file in its place yet.
pub(crate) fn waits(directory: &Path, name: &str) -> bool {
    draft(directory, name).exists()
}

/// Takes away what an engine that died has left half packed.
pub(crate) fn forget(directory: &Path, name: &str) -> io::Result<()> {
    match std::fs::remove_file(draft(directory, name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn draft(directory: &Path, name: &str) -> std::path::PathBuf {
    directory.join(format!("{name}.packed"))
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
