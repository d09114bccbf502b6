//! Files with holes, as they come from archives.

use std::io::BufRead;
use std::os::fd::BorrowedFd;

use engine_sys::file;
use rustix::fs::{self, SeekFrom};

use super::Error;
use super::extract::host;
use super::tar::{Archive, Extent};

/// Writes the parts of an empty file where they belong, and gives it its size. `check` is told how many bytes were written.
pub(super) fn write<R: BufRead>(
    archive: &mut Archive<R>,
    file: BorrowedFd<'_>,
    (size, extents): (u64, &[Extent]),
    mut check: impl FnMut(u64) -> Result<(), Error>,
) -> Result<(), Error> {
    for extent in extents {
        fs::seek(file, SeekFrom::Start(extent.offset)).map_err(host)?;
        let mut rest = extent.length;
        while rest > 0 {
            let chunk = archive.chunk()?;
            let length = chunk.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            if length == 0 {
                return Err(super::tar::Error::Truncated.into());
            }
            file::write_all(file, &chunk[..length]).map_err(|source| Error::Host { what: String::new(), source })?;
            archive.consume(length);
            rest -= length as u64;
            check(length as u64)?;
        }
    }
    fs::ftruncate(file, size).map_err(host)
}
