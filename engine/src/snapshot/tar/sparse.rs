//! Files with holes: of them an archive has only the parts that are no holes, and a map that says where these belong. GNU tar
//! has written the map in four ways, and all of them are read.

use super::{BLOCK, Error, Extension, show, text, unsigned};

/// A part of a file that is no hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

/// Parts of one file, at most.
const MAX_EXTENTS: usize = 1 << 18;
/// Digits of a number in a map.
const MAX_DIGITS: usize = 20;

/// What PAX records say of a file with holes.
#[derive(Debug, Default)]
pub(super) struct Records {
    major: Option<u64>,
    minor: Option<u64>,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    /// Offsets and lengths in turn.
    map: Vec<u64>,
    /// Whether there is anything of it.
    pub(super) any: bool,
}

impl Records {
    /// Takes one record, whose key begins with `GNU.sparse.`.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.any = true;
        let number = || decimal(value);
        match key {
            b"major" => self.major = Some(number()?),
            b"minor" => self.minor = Some(number()?),
            b"name" if value.is_empty() || value.contains(&0) => return Err(invalid()),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number()?),
            // Each part by two records, one after the other.
            b"offset" if self.map.len().is_multiple_of(2) => self.push(number()?)?,
            b"numbytes" if !self.map.len().is_multiple_of(2) => self.push(number()?)?,
            b"offset" | b"numbytes" => return Err(invalid()),
            b"map" => {
                self.map.clear();
                for number in value.split(|byte| *byte == b',').filter(|_| !value.is_empty()) {
                    self.push(decimal(number)?)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, number: u64) -> Result<(), Error> {
        if self.map.len() >= 2 * MAX_EXTENTS {
            return Err(too_many());
        }
        self.map.push(number);
        Ok(())
    }

    /// Whether the map stands before the parts themselves.
    fn is_within(&self) -> Result<bool, Error> {
        match (self.major, self.minor) {
            (Some(1), Some(0)) => Ok(true),
            (Some(0), Some(0 | 1)) | (None, None) => Ok(false),
            _ => Err(Error::Header("holes are written down in an unknown way".to_owned())),
        }
    }
}

/// Where a map is read from that lies within the archive.
pub(super) trait Source {
    /// The next block behind the header.
    fn block(&mut self) -> Result<[u8; BLOCK], Error>;
}

/// A file with holes: how large it is, and what of it the archive has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: u64,
    pub(super) extents: Vec<Extent>,
    /// Bytes of the map, when they are counted with the parts.
    pub(super) map_size: u64,
}

/// Reads the map of an entry if it has one: by its header (the type `S`), by its records, or before its parts. `stored` are
/// the bytes that follow.
pub(super) fn read(
    header: &[u8; BLOCK],
    extension: &mut Extension,
    stored: u64,
    source: &mut impl Source,
) -> Result<Option<Sparse>, Error> {
    let records = std::mem::take(&mut extension.sparse);
    let (numbers, map_size, size) = if header[156] == b'S' && !records.any {
        (of_header(header, source)?, 0, unsigned(&header[483..495])?)
    } else if records.any {
        let size = records.size.ok_or_else(invalid)?;
        match records.is_within()? {
            true => {
                let (numbers, map_size) = before_the_parts(source)?;
                (numbers, map_size, size)
            }
            false => (records.map, 0, size),
        }
    } else {
        return Ok(None);
    };
    if !numbers.len().is_multiple_of(2) {
        return Err(invalid());
    }
    let (mut extents, mut end, mut sum) = (Vec::with_capacity(numbers.len() / 2), 0, 0_u64);
    for pair in numbers.chunks_exact(2) {
        let extent = Extent { offset: pair[0], length: pair[1] };
        let last = extent.offset.checked_add(extent.length).filter(|last| *last <= size).ok_or_else(invalid)?;
        if extent.offset < end {
            return Err(invalid());
        }
        end = last;
        sum += extent.length;
        extents.push(extent);
    }
    if sum.checked_add(map_size) != Some(stored) {
        return Err(Error::Header("the map of its holes is of another size than the file".to_owned()));
    }
    Ok(Some(Sparse { name: records.name, size, extents, map_size }))
}

/// Four parts stand in the header, and further ones in blocks behind it.
fn of_header(header: &[u8; BLOCK], source: &mut impl Source) -> Result<Vec<u64>, Error> {
    let mut numbers = Vec::new();
    take(&header[386..482], &mut numbers)?;
    let mut more = header[482] != 0;
    while more {
        let block = source.block()?;
        take(&block[..504], &mut numbers)?;
        more = block[504] != 0;
    }
    Ok(numbers)
}

fn take(fields: &[u8], numbers: &mut Vec<u64>) -> Result<(), Error> {
    for pair in fields.chunks_exact(24) {
        // The first empty one is the end.
        if pair[0] == 0 {
            break;
        }
        if numbers.len() >= 2 * MAX_EXTENTS {
            return Err(too_many());
        }
        numbers.push(unsigned(&pair[..12])?);
        numbers.push(unsigned(&pair[12..])?);
    }
    Ok(())
}

/// A count and then the numbers, each on a line of its own, filled up to whole blocks.
fn before_the_parts(source: &mut impl Source) -> Result<(Vec<u64>, u64), Error> {
    let (mut numbers, mut line, mut left, mut size) = (Vec::new(), Vec::new(), None, 0);
    loop {
        let block = source.block()?;
        size += BLOCK as u64;
        for byte in block {
            if left == Some(0) {
                break;
            }
            if byte != b'\n' {
                line.push(byte);
                if line.len() > MAX_DIGITS {
                    return Err(invalid());
                }
                continue;
            }
            let number = decimal(&line)?;
            line.clear();
            match &mut left {
                None => {
                    let count =
                        usize::try_from(number).ok().filter(|count| *count <= MAX_EXTENTS).ok_or_else(too_many)?;
                    left = Some(2 * count);
                }
                Some(left) => {
                    numbers.push(number);
                    *left -= 1;
                }
            }
        }
        if left == Some(0) {
            return Ok((numbers, size));
        }
    }
}

fn decimal(bytes: &[u8]) -> Result<u64, Error> {
    let digits = text(bytes).filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).ok_or_else(|| Error::Header(format!("{:?} is no number", show(bytes))))
}

fn invalid() -> Error {
    Error::Header("a malformed map of holes".to_owned())
}

fn too_many() -> Error {
    Error::Header(format!("a file of more than {MAX_EXTENTS} parts"))
}
