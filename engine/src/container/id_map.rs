//! Owners of files that are shown as others at a mount, and the text that this is written in.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::str::FromStr;

use engine_sys::mount::{self, Below};
use engine_sys::namespace;
use serde::{Deserialize, Serialize};

use super::Error;

/// The most ranges of a map: as many as the kernel takes.
const MOST: usize = 340;

/// Which owners are shown as which at a mount. Written as `uids=1000-0-1;gids=1000-0-1`, several ranges parted by `#`: what
/// belongs to user 1000 is user 0's in the container, and what user 0 makes there belongs to user 1000. Users or groups that are
/// not named are as they are; of those that are, all others are nobody's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// Of users.
    pub users: Vec<IdRange>,
    /// Of groups.
    pub groups: Vec<IdRange>,
}

/// A row of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first as it is on the disk.
    pub stored: u32,
    /// The first as it is shown.
    pub shown: u32,
    /// How many there are.
    pub count: u32,
}

/// Everybody as he is.
const ALL: [IdRange; 1] = [IdRange { stored: 0, shown: 0, count: u32::MAX }];

impl IdMap {
    /// What users are mapped by.
    #[must_use]
    pub fn users(&self) -> &[IdRange] {
        if self.users.is_empty() { &ALL } else { &self.users }
    }

    /// What groups are mapped by.
    #[must_use]
    pub fn groups(&self) -> &[IdRange] {
        if self.groups.is_empty() { &ALL } else { &self.groups }
    }

    /// Shows the owners at a mount that is attached nowhere as it says.
    pub(super) fn apply(&self, mount: impl AsFd, below: Below) -> io::Result<()> {
        let lines = |ranges: &[IdRange]| -> String {
            ranges.iter().map(|range| format!("{} {} {}\n", range.stored, range.shown, range.count)).collect()
        };
        let users = namespace::new_users(&lines(self.users()), &lines(self.groups()))?;
        mount::map_owners(mount, below, users.as_fd())
    }
}

impl FromStr for IdRange {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.splitn(3, '-').map(|number| number.parse::<u32>().map_err(|_| ()));
        let mut next = || numbers.next().unwrap_or(Err(()));
        let range = Self { stored: next()?, shown: next()?, count: next()? };
        let fits = |first: u32| first.checked_add(range.count).is_some();
        if range.count > 0 && fits(range.stored) && fits(range.shown) { Ok(range) } else { Err(()) }
    }
}

impl FromStr for IdMap {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::invalid(format!(
                "invalid idmap {text:?}: write it as uids=STORED-SHOWN-COUNT;gids=STORED-SHOWN-COUNT, several ranges parted by #"
            ))
        };
        let mut map = Self::default();
        for part in text.split(';') {
            let (kind, ranges) = part.split_once('=').ok_or_else(wrong)?;
            let ranges: Vec<IdRange> =
                ranges.split('#').map(str::parse).collect::<Result<_, ()>>().map_err(|()| wrong())?;
            let place = match kind {
                "uids" => &mut map.users,
                "gids" => &mut map.groups,
                _ => return Err(wrong()),
            };
            if !place.is_empty() || ranges.len() > MOST || overlap(&ranges) {
                return Err(wrong());
            }
            *place = ranges;
        }
        Ok(map)
    }
}

/// Whether a number is stored or shown twice.
fn overlap(ranges: &[IdRange]) -> bool {
    let meets = |one: u32, other: u32, one_count: u32, other_count: u32| {
        u64::from(one) < u64::from(other) + u64::from(other_count)
            && u64::from(other) < u64::from(one) + u64::from(one_count)
    };
    ranges.iter().enumerate().any(|(index, one)| {
        ranges[index + 1..].iter().any(|other| {
            meets(one.stored, other.stored, one.count, other.count)
                || meets(one.shown, other.shown, one.count, other.count)
        })
    })
}

impl fmt::Display for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = |name: &str, ranges: &[IdRange]| {
            let all: Vec<_> = ranges.iter().map(|one| format!("{}-{}-{}", one.stored, one.shown, one.count)).collect();
            (!all.is_empty()).then(|| format!("{name}={}", all.join("#")))
        };
        let parts: Vec<_> = [ranges("uids", &self.users), ranges("gids", &self.groups)].into_iter().flatten().collect();
        f.write_str(&parts.join(";"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn maps_are_read_and_written() {
        for text in ["uids=1000-0-1;gids=1000-0-1", "uids=0-1-10#10-11-10;gids=0-100-10", "gids=5-6-7"] {
            assert_eq!(text.parse::<IdMap>().unwrap().to_string(), text);
        }
        let map: IdMap = "uids=1000-0-1".parse().unwrap();
        assert_eq!((map.users()[0].shown, map.groups()), (0, &ALL[..]));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "uids",
            "uids=",
            "uids=1-2",
            "uids=1-2-0",
            "uids=1-2-3-4",
            "users=1-2-3",
            "uids=1-2-3;uids=1-2-3",
            "uids=4294967295-0-2",
            "uids=0-0-10#5-20-1",
            "uids=0-0-10#20-5-1",
        ] {
            let error = text.parse::<IdMap>().unwrap_err().to_string();
            assert!(error.contains("write it as uids=STORED-SHOWN-COUNT"), "{text}: {error}");
        }
    }
}
