//! Small files of the kernel: one open, one bounded read or one write.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

/// Bytes of the longest file that is read: the process list of a million processes.
const MAX_LEN: u64 = 8 << 20;

/// Reads a file whole.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_LEN).read_to_string(&mut text)?;
    Ok(text)
}

/// Reads a file that holds one number; `max`, and what version 1 shows for it, is `None`.
pub(super) fn number(path: &Path) -> io::Result<Option<u64>> {
    let text = read(path)?;
    match text.trim() {
        "max" => Ok(None),
        text => match text.parse::<u64>() {
            // Version 1 rounds the largest signed number down to a page.
            Ok(number) if number >= 0x7fff_ffff_ffff_0000 => Ok(None),
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(io::ErrorKind::InvalidData.into()),
        },
    }
}

/// The numbers of a file of lines `name number`.
pub(super) fn table(path: &Path) -> io::Result<Vec<(String, u64)>> {
    let line = |line: &str| {
        let (name, number) = line.split_once(' ')?;
        Some((name.to_owned(), number.trim().parse().ok()?))
    };
    Ok(read(path)?.lines().filter_map(line).collect())
}

/// Writes a value by one system call; a file that is not there is not made.
pub(super) fn write(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}
